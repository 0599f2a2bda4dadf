"""A skill from an OCI registry, pinned by digest, with the signatures and the yank that refer to it.

API: https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md . What the artifact looks like:
docs/registry.md.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from dataclasses import dataclass
from typing import Any

from openclaw_operator.errors import FetchError
from openclaw_operator.fetch import challenge
from openclaw_operator.fetch.challenge import Login
from openclaw_operator.fetch.web import Answer, Web, failure

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
ARTIFACT_TYPE = "application/vnd.openclaw.skill.v1"
PACKAGE_TYPE = "application/vnd.openclaw.skill.package.v1.tar+gzip"
YANK_TYPE = "application/vnd.openclaw.skill.yank.v1"
SIMPLE_SIGNING_TYPE = "application/vnd.dev.cosign.simplesigning.v1+json"
SIMPLE_SIGNATURE = "dev.cosignproject.cosign/signature"
BUNDLE_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
MAX_MANIFEST_BYTES = 1024 * 1024
MAX_PACKAGE_BYTES = 900 * 1024
MAX_SIGNATURE_BYTES = 256 * 1024
# Whoever may write to the repository may attach as many as he likes.
MAX_SIGNATURES = 16
MAX_PAGES = 4
_YANKED = "io.openclaw.skill.yanked"
_REASON = "io.openclaw.skill.yanked.reason"
_CREATED = "org.opencontainers.image.created"
_DIGEST = "io.openclaw.skill.digest"


@dataclass(frozen=True)
class Reference:
    """HOST/PATH[:TAG]@DIGEST, taken apart."""

    host: str
    path: str
    digest: str


@dataclass(frozen=True)
class SimpleSignature:
    """A signature in cosign's first format: base64, over `payload`."""

    payload: bytes
    signature: str


@dataclass(frozen=True)
class Artifact:
    """What a registry keeps of a skill. `package` is gzip-compressed; `digest` is what its publisher says it has.

    `bundles` are Sigstore bundles as JSON text.
    """

    manifest: bytes
    package: bytes
    digest: str | None
    yanked: str | None
    signatures: tuple[SimpleSignature, ...] = ()
    bundles: tuple[bytes, ...] = ()


def parse(reference: str) -> Reference:
    """Take a reference apart that the CRD let through."""
    rest, _, digest = reference.removeprefix("oci://").partition("@")
    host, _, path = rest.partition("/")
    return Reference(host, path.partition(":")[0], digest)


class Registry:
    """One repository. `secret` names where the login comes from."""

    def __init__(
        self, web: Web, reference: Reference, *, plain_http: bool, login: Login | None, secret: str | None
    ) -> None:
        self._web = web
        self._reference = reference
        self._login = login
        self._secret = secret
        self._plain_http = plain_http
        self._base = f"{'http' if plain_http else 'https'}://{reference.host}/v2/{reference.path}"
        self._authorization: str | None = None

    async def fetch(self, *, signatures: bool) -> Artifact:
        """The artifact of the reference; with `signatures` also what cosign left beside it. Raises FetchError."""
        digest = self._reference.digest
        body = await self._content(f"manifests/{digest}", digest, MAX_MANIFEST_BYTES)
        manifest = _object(body, "manifest")
        layers = [layer for layer in _list(manifest, "layers") if layer.get("mediaType") == PACKAGE_TYPE]
        if manifest.get("artifactType") != ARTIFACT_TYPE or len(layers) != 1:
            raise FetchError(
                "InvalidSource",
                f"spec.source.oci.reference: {self._reference.path}@{digest} is no skill "
                f"({str(manifest.get('artifactType') or manifest.get('mediaType'))[:100]}): publish one with openclaw "
                "registry publish",
            )
        package = await self._content(f"blobs/{layers[0].get('digest')}", layers[0].get("digest"), MAX_PACKAGE_BYTES)
        referrers = await self._referrers(digest)
        claimed = (manifest.get("annotations") or {}).get(_DIGEST)
        return Artifact(
            manifest=body,
            package=package,
            digest=claimed if isinstance(claimed, str) else None,
            yanked=await self._yanked(referrers),
            signatures=await self._simple_signatures(digest) if signatures else (),
            bundles=await self._bundles(referrers) if signatures else (),
        )

    async def yanked(self) -> str | None:
        """The reason of the newest word about a yank, None where there is none. Raises FetchError."""
        return await self._yanked(await self._referrers(self._reference.digest))

    async def _yanked(self, referrers: list[dict[str, Any]]) -> str | None:
        """The reason of the newest word about a yank, None when it is not (or no longer) yanked."""
        words = []
        for entry in _of_type(referrers, YANK_TYPE):
            annotations = entry.get("annotations") or {}
            if _YANKED not in annotations:
                # Registries need not copy annotations into the index.
                content = _object(await self._manifest(entry), "manifest")
                annotations = content.get("annotations") or {}
            words.append((str(annotations.get(_CREATED)), annotations))
        newest = max(words, key=lambda word: word[0], default=("", {}))[1]
        if newest.get(_YANKED) != "true":
            return None
        return str(newest.get(_REASON) or "no reason given")[:512]

    async def _simple_signatures(self, digest: str) -> tuple[SimpleSignature, ...]:
        """https://github.com/sigstore/cosign/blob/main/specs/SIGNATURE_SPEC.md"""
        answer = await self._get(f"manifests/{digest.replace(':', '-')}.sig", MAX_MANIFEST_BYTES)
        if answer.status == 404:
            return ()
        self._require(answer, "the signatures")
        found = []
        for layer in _list(_object(answer.body, "manifest of signatures"), "layers")[:MAX_SIGNATURES]:
            signature = (layer.get("annotations") or {}).get(SIMPLE_SIGNATURE)
            if layer.get("mediaType") == SIMPLE_SIGNING_TYPE and isinstance(signature, str):
                payload = await self._content(f"blobs/{layer.get('digest')}", layer.get("digest"), MAX_SIGNATURE_BYTES)
                found.append(SimpleSignature(payload, signature))
        return tuple(found)

    async def _bundles(self, referrers: list[dict[str, Any]]) -> tuple[bytes, ...]:
        """https://github.com/sigstore/cosign/blob/main/specs/BUNDLE_SPEC.md"""
        found = []
        for entry in _of_type(referrers, BUNDLE_TYPE):
            manifest = _object(await self._manifest(entry), "manifest of a signature")
            for layer in _list(manifest, "layers")[:1]:
                digest = layer.get("digest")
                found.append(await self._content(f"blobs/{digest}", digest, MAX_SIGNATURE_BYTES))
        return tuple(found)

    async def _referrers(self, digest: str) -> list[dict[str, Any]]:
        """What refers to the artifact; where the registry has no such API, the index its clients keep."""
        found: list[dict[str, Any]] = []
        answer = await self._get(f"referrers/{digest}", MAX_MANIFEST_BYTES)
        if answer.status == 404:
            answer = await self._get(f"manifests/{digest.replace(':', '-')}", MAX_MANIFEST_BYTES)
            if answer.status == 404:
                return []
        for _ in range(MAX_PAGES):
            self._require(answer, "what refers to the skill")
            found += _list(_object(answer.body, "index"), "manifests")
            following = challenge.next_page(answer.headers.get("Link"))
            if following is None:
                break
            answer = await self._get(f"referrers/{digest}?{following}", MAX_MANIFEST_BYTES)
        return found

    async def _manifest(self, entry: dict[str, Any]) -> bytes:
        digest = entry.get("digest")
        return await self._content(f"manifests/{digest}", digest, MAX_MANIFEST_BYTES)

    async def _content(self, what: str, digest: object, limit: int) -> bytes:
        """Bytes named by their digest. Raises FetchError when they are others."""
        answer = await self._get(what, limit)
        self._require(answer, f"{self._reference.path} {what}")
        found = await asyncio.to_thread(lambda: "sha256:" + hashlib.sha256(answer.body).hexdigest())
        if found != digest:
            raise FetchError(
                "DigestMismatch",
                f"spec.source.oci.reference: {self._reference.host} sent content of {found} for {digest}: it changed "
                "under its digest, on the registry or on the way; publish the skill again and pin what is printed",
            )
        return answer.body

    def _require(self, answer: Answer, what: str) -> None:
        if answer.status != 200:
            raise failure(answer, self._reference.host, what, self._secret)

    async def _get(self, what: str, limit: int) -> Answer:
        url, accept = f"{self._base}/{what}", f"{MANIFEST}, {INDEX}, */*"
        for attempt in (1, 2):
            headers = {"Accept": accept}
            if self._authorization:
                headers["Authorization"] = self._authorization
            answer = await self._web.get(url, limit=limit, headers=headers)
            if answer.status != 401 or attempt == 2:
                break
            self._authorization = await challenge.answer(
                self._web,
                self._reference.host,
                answer.headers.get("WWW-Authenticate", ""),
                f"repository:{self._reference.path}:pull",
                self._login,
                plain_http=self._plain_http,
            )
            if self._authorization is None:
                break
        return answer


def _of_type(referrers: list[dict[str, Any]], artifact_type: str) -> list[dict[str, Any]]:
    return [entry for entry in referrers if entry.get("artifactType") == artifact_type][:MAX_SIGNATURES]


def _object(body: bytes, what: str) -> dict[str, Any]:
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        data = None
    if not isinstance(data, dict):
        raise FetchError("InvalidSource", f"the registry sent no JSON object as {what}: is it an OCI registry?")
    return data


def _list(data: dict[str, Any], key: str) -> list[dict[str, Any]]:
    value = data.get(key)
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []

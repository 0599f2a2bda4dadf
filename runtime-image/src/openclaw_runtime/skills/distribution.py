"""A client of the OCI distribution API: manifests, blobs, tags and referrers of one registry host.

Rules: https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md . Everything received is bounded in size
and checked against its digest.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urljoin

import httpx

from openclaw_runtime.skills import registry_auth
from openclaw_runtime.skills.credentials import Credential
from openclaw_runtime.skills.oci_errors import (
    RegistryAuthError,
    RegistryContentError,
    RegistryError,
    RegistryNotFoundError,
)
from openclaw_runtime.skills.references import is_loopback

MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
INDEX: Final = "application/vnd.oci.image.index.v1+json"
MAX_MANIFEST_BYTES: Final = 1024 * 1024
_MAX_PAGES = 100
_MAX_ERROR_BYTES = 64 * 1024
_WRITE_ATTEMPTS = 3
_TIMEOUT = httpx.Timeout(30.0, connect=10.0)


def sha256(content: bytes) -> str:
    """Returns `sha256:<64 hex>`."""
    return "sha256:" + hashlib.sha256(content).hexdigest()


def canonical(value: Mapping[str, Any]) -> bytes:
    """Returns JSON whose bytes depend on the value only, so that the same skill has the same digest everywhere."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def descriptor(media_type: str, content: bytes, **extra: Any) -> dict[str, Any]:
    """Returns the OCI descriptor of some content."""
    return {"mediaType": media_type, "digest": sha256(content), "size": len(content), **extra}


@dataclass(frozen=True, slots=True)
class Answer:
    """What the registry answered: body within the limit, read to its end."""

    status: int
    headers: httpx.Headers
    body: bytes
    url: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest or index as stored: parsed, with the digest of its bytes."""

    digest: str
    size: int
    data: dict[str, Any]


def open_http(**options: Any) -> httpx.AsyncClient:
    """Returns the HTTP client registries are spoken to with. Failed connections are tried twice more."""
    return httpx.AsyncClient(timeout=_TIMEOUT, transport=httpx.AsyncHTTPTransport(retries=2), **options)


class RegistryClient:
    """One registry. HTTPS, except for a registry on this machine and where `plain_http` says so."""

    def __init__(
        self, http: httpx.AsyncClient, host: str, credential: Credential | None = None, *, plain_http: bool = False
    ) -> None:
        self._http = http
        self.host = host
        self._credential = credential
        self._base = f"{'http' if plain_http or is_loopback(host) else 'https'}://{host}"
        self._authorization: dict[str | None, str] = {}

    async def check(self) -> None:
        """Raises `RegistryAuthError` when the registry refuses the credentials, `RegistryError` when it is none."""
        answer = await self._send("GET", "/v2/", None)
        if answer.status != httpx.codes.OK:
            raise self._failure(answer, "it does not speak the OCI distribution API")

    async def manifest(self, path: str, reference: str) -> Manifest:
        """Returns a manifest by tag or digest. Raises `RegistryNotFoundError`, `RegistryContentError`."""
        url = f"/v2/{path}/manifests/{reference}"
        headers = {"Accept": f"{MANIFEST}, {INDEX}"}
        answer = await self._send("GET", url, f"repository:{path}:pull", headers=headers, limit=MAX_MANIFEST_BYTES)
        if answer.status != httpx.codes.OK:
            raise self._failure(answer, f"{path}:{reference} cannot be read")
        digest = sha256(answer.body)
        claimed = reference if reference.startswith("sha256:") else answer.headers.get("docker-content-digest", digest)
        if digest != claimed:
            raise RegistryContentError(f"{self.host}/{path}: manifest {reference} has digest {digest}, not {claimed}")
        return Manifest(digest, len(answer.body), self._object(answer, f"{path}:{reference}"))

    async def put_manifest(self, path: str, reference: str, media_type: str, content: bytes) -> None:
        """Stores a manifest under a tag or its digest. A tag that exists is moved: callers check first."""
        url = f"/v2/{path}/manifests/{reference}"
        headers = {"Content-Type": media_type}
        answer = await self._send("PUT", url, f"repository:{path}:pull,push", headers=headers, content=content)
        if answer.status != httpx.codes.CREATED:
            raise self._failure(answer, f"{path}:{reference} cannot be written")

    async def blob(self, path: str, digest: str, limit: int) -> bytes:
        """Returns a blob of at most `limit` bytes. Raises `RegistryNotFoundError`, `RegistryContentError`."""
        answer = await self._send("GET", f"/v2/{path}/blobs/{digest}", f"repository:{path}:pull", limit=limit)
        if answer.status != httpx.codes.OK:
            raise self._failure(answer, f"blob {digest} of {path} cannot be read")
        if sha256(answer.body) != digest:
            raise RegistryContentError(f"{self.host}/{path}: blob {digest} has digest {sha256(answer.body)}")
        return answer.body

    async def put_blob(self, path: str, content: bytes) -> None:
        """Stores a blob, unless the repository has it: POST for an upload address, then PUT the whole content."""
        scope = f"repository:{path}:pull,push"
        digest = sha256(content)
        there = await self._send("HEAD", f"/v2/{path}/blobs/{digest}", scope)
        if there.status == httpx.codes.OK:
            return
        opened = await self._send("POST", f"/v2/{path}/blobs/uploads/", scope)
        location = opened.headers.get("location")
        if opened.status != httpx.codes.ACCEPTED or not location:
            raise self._failure(opened, f"{path} takes no upload")
        target = httpx.URL(urljoin(opened.url, location)).copy_merge_params({"digest": digest})
        headers = {"Content-Type": "application/octet-stream"}
        stored = await self._send("PUT", str(target), scope, headers=headers, content=content)
        if stored.status != httpx.codes.CREATED:
            raise self._failure(stored, f"{path} refused a blob of {len(content)} bytes")

    async def tags(self, path: str) -> list[str]:
        """Returns all tags of a repository. Raises `RegistryNotFoundError` when there is no such repository."""
        pages = await self._pages(f"/v2/{path}/tags/list?n=1000", path)
        if pages is None:
            raise RegistryNotFoundError(f"{self.host}/{path}: no such repository")
        return [str(tag) for page in pages for tag in page.get("tags") or ()]

    async def referrers(self, path: str, digest: str, artifact_type: str) -> list[dict[str, Any]]:
        """Returns the descriptors of the manifests of that type whose subject is `digest`."""
        pages = await self._pages(f"/v2/{path}/referrers/{digest}?artifactType={artifact_type}", path)
        if pages is None:
            pages = [(await self._fallback_index(path, digest))]
        found = [entry for page in pages for entry in page.get("manifests") or ()]
        # Filtering is optional for a registry.
        return [entry for entry in found if entry.get("artifactType") == artifact_type]

    async def add_referrer(self, path: str, subject: Manifest, content: dict[str, Any]) -> None:
        """Stores a manifest about another one. `content` gets its `subject`.

        Where the registry has no referrers API, the client keeps an index under the tag `sha256-<hex of the subject>`
        (section "Unavailable Referrers API"). Two writers may overwrite each other there, so it is read again.
        """
        manifest = content | {"subject": {"mediaType": MANIFEST, "digest": subject.digest, "size": subject.size}}
        body = canonical(manifest)
        entry = descriptor(
            MANIFEST, body, artifactType=manifest["artifactType"], annotations=manifest.get("annotations", {})
        )
        await self.put_manifest(path, entry["digest"], MANIFEST, body)
        # Asked outright: some registries send OCI-Subject without having the API.
        if await self._pages(f"/v2/{path}/referrers/{subject.digest}", path) is not None:
            return
        for _ in range(_WRITE_ATTEMPTS):
            index = await self._fallback_index(path, subject.digest)
            if any(known["digest"] == entry["digest"] for known in index["manifests"]):
                return
            index["manifests"] = [*index["manifests"], entry]
            await self.put_manifest(path, _fallback_tag(subject.digest), INDEX, canonical(index))
        if entry not in (await self._fallback_index(path, subject.digest))["manifests"]:
            raise RegistryError(f"{self.host}/{path}: others keep changing the index of {subject.digest}; try again")

    async def _fallback_index(self, path: str, digest: str) -> dict[str, Any]:
        try:
            index = (await self.manifest(path, _fallback_tag(digest))).data
        except RegistryNotFoundError:
            return {"schemaVersion": 2, "mediaType": INDEX, "manifests": []}
        if not isinstance(index.get("manifests"), list):
            raise RegistryContentError(f"{self.host}/{path}:{_fallback_tag(digest)} is no index")
        return index

    async def _pages(self, url: str, path: str) -> list[dict[str, Any]] | None:
        """Follows Link headers (RFC 8288). None when the registry has no such resource."""
        pages: list[dict[str, Any]] = []
        while url:
            answer = await self._send("GET", url, f"repository:{path}:pull", limit=4 * MAX_MANIFEST_BYTES)
            if answer.status == httpx.codes.NOT_FOUND and not pages:
                return None
            if answer.status != httpx.codes.OK:
                raise self._failure(answer, f"{path} cannot be listed")
            pages.append(self._object(answer, path))
            if len(pages) > _MAX_PAGES:
                raise RegistryContentError(f"{self.host}/{path}: its list has more than {_MAX_PAGES} pages")
            following = httpx.Response(200, headers=answer.headers).links.get("next", {}).get("url")
            url = urljoin(answer.url, following) if following else ""
        return pages

    async def _send(
        self,
        method: str,
        url: str,
        scope: str | None,
        *,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
        limit: int = _MAX_ERROR_BYTES,
    ) -> Answer:
        """Sends a request, answers one challenge. Credentials never go to another origin than the registry's."""
        target = urljoin(self._base, url)
        ours = httpx.URL(target).copy_with(raw_path=b"/") == httpx.URL(self._base + "/")
        for attempt in (1, 2):
            authorization = self._authorization.get(scope) if ours else None
            sent = {**(headers or {}), **({"Authorization": authorization} if authorization else {})}
            answer = await self._exchange(method, target, sent, content, limit)
            if answer.status != httpx.codes.UNAUTHORIZED or not ours:
                return answer
            if attempt == 1:
                asked = answer.headers.get_list("www-authenticate")
                self._authorization[scope] = await registry_auth.answer(
                    self._http, self.host, asked, scope, self._credential
                )
        raise RegistryAuthError(f"{self.host}: refused these credentials; fix: openclaw registry login {self.host}")

    async def _exchange(
        self, method: str, url: str, headers: Mapping[str, str], content: bytes | None, limit: int
    ) -> Answer:
        request = self._http.build_request(method, url, headers=dict(headers), content=content)
        try:
            # On a redirect to another origin httpx drops the Authorization header.
            response = await self._http.send(request, stream=True, follow_redirects=method in {"GET", "HEAD"})
            try:
                if request.url.scheme == "https" != response.url.scheme:
                    raise RegistryContentError(f"{self.host}: redirects from https to {response.url.scheme}; refused")
                body = bytearray()
                async for chunk in response.aiter_bytes():
                    body += chunk
                    if len(body) > (limit if response.is_success else _MAX_ERROR_BYTES):
                        raise RegistryContentError(f"{self.host}: sent more than {limit} bytes for {request.url.path}")
            finally:
                await response.aclose()
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise RegistryError(f"{self.host}: cannot be reached: {error or type(error).__name__}") from None
        return Answer(response.status_code, response.headers, bytes(body), str(request.url))

    def _object(self, answer: Answer, what: str) -> dict[str, Any]:
        try:
            data = json.loads(answer.body)
        except (ValueError, RecursionError):
            data = None
        if not isinstance(data, dict):
            raise RegistryContentError(f"{self.host}/{what}: the registry sent no JSON object")
        return data

    def _failure(self, answer: Answer, what: str) -> RegistryError:
        detail = _reasons(answer.body)
        message = f"{self.host}: {what}: {answer.status}{' ' + detail if detail else ''}"
        if answer.status == httpx.codes.NOT_FOUND:
            return RegistryNotFoundError(f"{self.host}: {what}: not found{' (' + detail + ')' if detail else ''}")
        if answer.status in {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN}:
            return RegistryAuthError(f"{message}; your login has no right to do this")
        if answer.status == httpx.codes.TOO_MANY_REQUESTS:
            wait = answer.headers.get("retry-after")
            return RegistryError(f"{message}; too many requests, try again{' in ' + wait + ' s' if wait else ' later'}")
        return RegistryError(message)


def _fallback_tag(digest: str) -> str:
    return digest.replace(":", "-", 1)


def _reasons(body: bytes) -> str:
    """The messages of the error document of the distribution API, or nothing."""
    try:
        errors: Sequence[Any] = json.loads(body)["errors"]
        return "; ".join(str(error.get("message") or error.get("code")) for error in errors)[:300]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return ""

"""The package of a Skill: from the cluster where it is there already, else from where spec.source says."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from openclaw_operator.api.base import KeyRef
from openclaw_operator.api.skill import SkillSpec
from openclaw_operator.api.source import ArchiveSource, OciSource
from openclaw_operator.cluster.kinds import BY_NAME
from openclaw_operator.cluster.references import Key as ReferenceKey
from openclaw_operator.errors import FetchError, NotFoundError, SpecError
from openclaw_operator.fetch import archive as web_archive
from openclaw_operator.fetch import challenge, registry
from openclaw_operator.fetch.guard import Guard
from openclaw_operator.fetch.web import TOTAL_SECONDS, Web, session
from openclaw_operator.reconcile.children import Children
from openclaw_operator.reconcile.context import Context
from openclaw_operator.reconcile.downloads import Downloads, PendingError
from openclaw_operator.reconcile.primaries import Primary
from openclaw_operator.reconcile.required import require_secret
from openclaw_operator.resources import archive, package, signature
from openclaw_operator.resources.meta import Owner
from openclaw_operator.resources.package import PACKAGE_KEY, File, Package

LOG = logging.getLogger(__name__)
# How often the registry of a version in use is asked whether it was yanked; soon after a start, all spread out.
WORD_SECONDS = 6 * 3600.0
FIRST_WORD_SECONDS = 3600.0


@dataclass(frozen=True)
class Found:
    """A package with its tar and files; `fetched` is what the status keeps of one from outside the cluster."""

    package: Package
    tar: bytes
    files: Mapping[str, File]
    fetched: dict[str, Any] | None = None


@dataclass(frozen=True)
class _Fetched:
    """What a download comes to; it may wait for long, so it is kept small."""

    package: Package
    facts: dict[str, Any]


@dataclass(frozen=True)
class _Word:
    """What a registry says of a version that is in use: the reason why it was yanked, or None."""

    yanked: str | None


def identity(source: OciSource | ArchiveSource) -> str:
    """What is fetched, by digest: wherever it comes from, it is the same."""
    if isinstance(source, OciSource):
        return f"oci:{registry.parse(source.reference).digest}"
    return f"archive:sha256:{source.sha256.removeprefix('sha256:')}" + (f"#{source.path}" if source.path else "")


class Sources:
    """Finds the packages of Skills. A package that is in the cluster is never fetched again."""

    def __init__(self, context: Context, guard: Guard | None, jitter: Callable[[], float]) -> None:
        self._context = context
        self._guard = guard
        self._jitter = jitter
        self._downloads: Downloads[_Fetched] = Downloads(context.queue.add, monotonic=context.monotonic, jitter=jitter)
        self._words: Downloads[_Word] = Downloads(context.queue.add, monotonic=context.monotonic, jitter=jitter)
        # When a registry is asked again whether a version was yanked, in monotonic seconds.
        self._ask_at: dict[tuple[str, str, str], float] = {}

    async def find(self, primary: Primary, owner: Owner, spec: SkillSpec, status: Mapping[str, Any]) -> Found:
        """The verified package. Raises SpecError, PendingError while it is fetched, ApiError for a passing fault.

        A remote MCP server has no source: what stands for its package is empty.
        """
        if spec.source is None:
            self._downloads.forget(primary.key)
            self._context.references.expect(primary.key, set())
            return Found(package.remote(spec.mcp.model_dump(mode="json") if spec.mcp else {}), b"", {})
        named: set[ReferenceKey] = set()
        try:
            if spec.source.remote is None:
                self._downloads.forget(primary.key)
            key = await self._key(primary, spec, named)
            found = await self._found(primary, owner, spec, status, key, named)
        finally:
            self._context.references.expect(primary.key, named)
        cosign = spec.signature.cosign if spec.signature else None
        if key and cosign and cosign.signature:
            signature.require_blob(key, cosign.signature, found.tar)
        return found

    def done(self, user: tuple[str, str, str]) -> None:
        """The package is in the cluster."""
        self._downloads.forget(user)

    def gone(self, user: tuple[str, str, str]) -> None:
        """The Skill was deleted."""
        self.done(user)
        self._words.forget(user)
        self._ask_at.pop(user, None)

    def due_in(self, user: tuple[str, str, str]) -> float | None:
        """Seconds until a failed download is tried again, None when there is none."""
        return self._downloads.due_in(user)

    # --- what the spec names in the cluster ---
    async def _key(self, primary: Primary, spec: SkillSpec, named: set[ReferenceKey]) -> signature.Key | None:
        cosign = spec.signature.cosign if spec.signature else None
        if cosign is None:
            return None
        path, ref = "spec.signature.cosign.publicKeyRef", cosign.public_key_ref
        if ref and ref.secret_key_ref:
            where = f"{path}.secretKeyRef"
            pem = (await self._secret(primary, where, ref.secret_key_ref, named)).decode(errors="replace")
        elif ref and ref.config_map_key_ref:
            pem = await self._config_text(primary, f"{path}.configMapKeyRef", ref.config_map_key_ref, named)
        else:
            pem = cosign.public_key or ""
        return signature.Key(pem)

    async def _secret(self, primary: Primary, path: str, ref: KeyRef, named: set[ReferenceKey]) -> bytes:
        await require_secret(self._context, primary, path, ref, named)
        item = await self._context.client.get(BY_NAME["Secret"], primary.namespace, ref.name)
        return base64.b64decode((item.get("data") or {}).get(ref.key, ""))

    async def _config_text(self, primary: Primary, path: str, ref: KeyRef, named: set[ReferenceKey]) -> str:
        named.add(("ConfigMap", primary.namespace, ref.name))
        data = await self._context.references.config_map(primary.namespace, ref.name, primary.key)
        if not data or not data.get(ref.key):
            raise SpecError(
                "ConfigMapNotFound",
                f"{path}: ConfigMap {ref.name!r} in namespace {primary.namespace} has no text under {ref.key!r}: "
                "create it with that key, or name another",
            )
        return data[ref.key]

    # --- where the package is ---
    async def _found(
        self,
        primary: Primary,
        owner: Owner,
        spec: SkillSpec,
        status: Mapping[str, Any],
        key: signature.Key | None,
        named: set[ReferenceKey],
    ) -> Found:
        source = spec.source
        assert source is not None
        remote = source.remote
        if remote is None:
            packed = package.build(await self._files(primary, spec, named))
            return Found(*package.stored(packed.archive))
        cosign = spec.signature.cosign if spec.signature else None
        signer = key if isinstance(remote, OciSource) and cosign and not cosign.signature else None
        fetched = status.get("fetched") or {}
        if fetched.get("source") == identity(remote) and (signer is None or fetched.get("signedBy") == signer.id):
            found = await self._in_cluster(owner, fetched)
            if found and isinstance(remote, OciSource):
                return await self._with_word(primary, remote, found, named)
            if found:
                return found
        bundle, credentials = await self._access(primary, remote, named)
        wanted = json.dumps([remote.model_dump(mode="json"), signer.id if signer else None, bundle])

        guard = self._guard
        if guard is None:
            raise PendingError

        async def work() -> _Fetched:
            return await _fetch(guard, remote, bundle, credentials, signer)

        got = self._downloads.get(primary.key, wanted, work)
        return Found(*await asyncio.to_thread(package.stored, got.package.archive), got.facts)

    async def _access(
        self, primary: Primary, remote: OciSource | ArchiveSource, named: set[ReferenceKey]
    ) -> tuple[str | None, bytes | None]:
        """The CA bundle and the credentials that a source names. Raises SpecError for those that are not there."""
        path = "spec.source.oci" if isinstance(remote, OciSource) else "spec.source.archive"
        bundle = None
        if remote.ca_bundle_ref:
            bundle = await self._config_text(primary, f"{path}.caBundleRef", remote.ca_bundle_ref, named)
        credentials = None
        if isinstance(remote, OciSource) and remote.pull_secret_ref:
            ref = KeyRef(name=remote.pull_secret_ref.name, key=challenge.DOCKER_CONFIG)
            credentials = await self._secret(primary, f"{path}.pullSecretRef", ref, named)
        elif isinstance(remote, ArchiveSource) and remote.authorization:
            ref = remote.authorization.secret_key_ref
            credentials = await self._secret(primary, f"{path}.authorization.secretKeyRef", ref, named)
        return bundle, credentials

    async def _with_word(self, primary: Primary, remote: OciSource, found: Found, named: set[ReferenceKey]) -> Found:
        """A package that is in use with what its registry says of it now and then: whether it was yanked.

        Nothing else hangs on it: a registry that does not answer is asked again the next time.
        """
        guard, now, user = self._guard, self._context.monotonic(), primary.key
        due = self._ask_at.setdefault(user, now + self._jitter() * FIRST_WORD_SECONDS)
        if guard is None or now < due:
            return found
        try:
            bundle, credentials = await self._access(primary, remote, named)

            async def work() -> _Word:
                return await _ask(guard, remote, bundle, credentials)

            word = self._words.get(user, identity(remote), work)
        except PendingError:
            return found
        except SpecError as error:
            LOG.info("Skill %s/%s: whether it was yanked is not known: %s", *user[1:], error.message)
        else:
            told = {name: value for name, value in (found.fetched or {}).items() if name != "yanked"}
            found = replace(found, fetched=told if word.yanked is None else {**told, "yanked": word.yanked})
        self._words.forget(user)
        self._ask_at[user] = now + WORD_SECONDS * (0.75 + self._jitter() / 2)
        return found

    async def _files(self, primary: Primary, spec: SkillSpec, named: set[ReferenceKey]) -> dict[str, str]:
        assert spec.source is not None
        ref = spec.source.config_map_ref
        if ref is None:
            return dict(spec.source.inline.files) if spec.source.inline else {}
        named.add(("ConfigMap", primary.namespace, ref.name))
        data = await self._context.references.config_map(primary.namespace, ref.name, primary.key)
        if data is None:
            raise SpecError(
                "SourceNotFound",
                f"spec.source.configMapRef.name: ConfigMap {ref.name!r} does not exist in namespace "
                f"{primary.namespace}: create it, with __ in its keys in place of each / of a path",
            )
        return package.unpack_keys(data)

    async def _in_cluster(self, owner: Owner, fetched: Mapping[str, Any]) -> Found | None:
        """The package that was fetched before, None when it is not there any more."""
        context = self._context
        name = package.config_map_name(owner.name, fetched["digest"])
        if not Children(context.client, context.children, owner).owns("ConfigMap", name):
            return None
        try:
            item = await context.client.get(BY_NAME["ConfigMap"], owner.namespace, name)
            content = base64.b64decode((item.get("binaryData") or {}).get(PACKAGE_KEY, ""), validate=True)
            packed, tar, files = await asyncio.to_thread(package.stored, content)
        except (NotFoundError, binascii.Error, SpecError):
            return None
        return Found(packed, tar, files, dict(fetched)) if packed.digest == fetched["digest"] else None


# --- beside the queue ---
async def _fetch(
    guard: Guard,
    source: OciSource | ArchiveSource,
    bundle: str | None,
    credentials: bytes | None,
    signer: signature.Key | None,
) -> _Fetched:
    try:
        async with asyncio.timeout(TOTAL_SECONDS), session(guard, bundle) as web:
            if isinstance(source, OciSource):
                return await _fetch_artifact(web, source, credentials, signer)
            return await _fetch_archive(web, source, credentials)
    except TimeoutError:
        raise FetchError(
            "SourceTimeout", f"the package was not there within {TOTAL_SECONDS:.0f} s", passing=True
        ) from None


async def _fetch_archive(web: Web, source: ArchiveSource, credentials: bytes | None) -> _Fetched:
    ref = source.authorization.secret_key_ref if source.authorization else None
    header = credentials.decode(errors="replace").strip() if credentials else None
    content = await web_archive.fetch(web, source.url, source.sha256, header, ref.name if ref else None)

    packed = await asyncio.to_thread(lambda: package.pack(archive.files(content, source.path)))
    return _Fetched(packed, {"source": identity(source), "digest": packed.digest})


async def _ask(guard: Guard, source: OciSource, bundle: str | None, credentials: bytes | None) -> _Word:
    try:
        async with asyncio.timeout(TOTAL_SECONDS), session(guard, bundle) as web:
            return _Word(await _client(web, source, credentials).yanked())
    except TimeoutError:
        raise FetchError("SourceTimeout", f"no answer within {TOTAL_SECONDS:.0f} s", passing=True) from None


def _client(web: Web, source: OciSource, credentials: bytes | None) -> registry.Registry:
    reference = registry.parse(source.reference)
    secret = source.pull_secret_ref.name if source.pull_secret_ref else None
    login = None
    if credentials is not None:
        try:
            login = challenge.login_for(credentials.decode(errors="replace"), reference.host)
        except (ValueError, KeyError, TypeError, AttributeError):
            raise FetchError(
                "SourceUnauthorized",
                f"spec.source.oci.pullSecretRef: Secret {secret!r} has no readable {challenge.DOCKER_CONFIG}: make it "
                "with kubectl create secret docker-registry",
            ) from None
    return registry.Registry(web, reference, plain_http=source.plain_http, login=login, secret=secret)


async def _fetch_artifact(
    web: Web, source: OciSource, credentials: bytes | None, signer: signature.Key | None
) -> _Fetched:
    reference = registry.parse(source.reference)
    artifact = await _client(web, source, credentials).fetch(signatures=signer is not None)
    if signer:
        pairs = [(item.payload, item.signature) for item in artifact.signatures]
        signature.require_artifact(signer, reference.digest, artifact.manifest, pairs, artifact.bundles)
    packed, _, _ = await asyncio.to_thread(package.stored, artifact.package)
    if artifact.digest not in (None, packed.digest):
        raise FetchError(
            "DigestMismatch",
            f"spec.source.oci.reference: the artifact says its package is {artifact.digest}, but it is "
            f"{packed.digest}: publish it with openclaw registry publish",
        )
    facts = {
        "source": identity(source),
        "digest": packed.digest,
        "signedBy": signer.id if signer else None,
        "yanked": artifact.yanked,
    }
    return _Fetched(packed, {name: value for name, value in facts.items() if value is not None})

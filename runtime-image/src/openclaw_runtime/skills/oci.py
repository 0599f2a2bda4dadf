"""Skills in an OCI registry: publish, resolve, pull, yank.

A version is one OCI artifact (https://github.com/opencontainers/image-spec/blob/v1.1.1/manifest.md, "Guidelines for
Artifact Usage"): the config is the skill's manifest, the one layer its gzip-compressed package, the tag its version.
The title of the layer is a file name, so that any ORAS client can pull it too. Nothing in a manifest depends on the
time: publishing the same package twice gives the same digest.

A version is yanked by a small artifact that refers to it (OCI 1.1 referrers), the way signatures and SBOMs are
attached: every registry keeps it with the version, other clients show it, and the version itself does not change, so
that what pins its digest keeps working. The newest statement counts, hence a yank can be taken back.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal

from semantic_version import Version

from openclaw_runtime.sandbox import archive
from openclaw_runtime.skills.distribution import MANIFEST, Manifest, RegistryClient, canonical, descriptor
from openclaw_runtime.skills.oci_errors import (
    RegistryContentError,
    RegistryError,
    RegistryNotFoundError,
    VersionConflictError,
)
from openclaw_runtime.skills.references import (
    Reference,
    Repository,
    is_digest,
    matching,
    parse_version,
    tag_of,
    version_of,
)

ARTIFACT_TYPE: Final = "application/vnd.openclaw.skill.v1"
CONFIG_TYPE: Final = "application/vnd.openclaw.skill.config.v1+json"
PACKAGE_TYPE: Final = "application/vnd.openclaw.skill.package.v1.tar+gzip"
YANK_TYPE: Final = "application/vnd.openclaw.skill.yank.v1"
MAX_CONFIG_BYTES: Final = 256 * 1024
# Every version, pre-releases too.
_ANY: Final = ">=0.0.0-0"
_MAX_LISTED: Final = 10
_EMPTY: Final = b"{}"
_EMPTY_TYPE: Final = "application/vnd.oci.empty.v1+json"

_TITLE = "org.opencontainers.image.title"
_VERSION = "org.opencontainers.image.version"
_DESCRIPTION = "org.opencontainers.image.description"
_LICENSES = "org.opencontainers.image.licenses"
_CREATED = "org.opencontainers.image.created"
_DIGEST = "io.openclaw.skill.digest"
_VISIBILITY = "io.openclaw.skill.visibility"
_CATEGORY = "io.openclaw.skill.category"
_YANKED = "io.openclaw.skill.yanked"
_REASON = "io.openclaw.skill.yanked.reason"

Visibility = Literal["public", "internal", "private"]
"""What the publisher means; who may read a repository is decided by the registry's own access rules."""


@dataclass(frozen=True, slots=True)
class Release:
    """One published version. `digest` is the package's (over the uncompressed tar), `yanked` the reason or None."""

    reference: Reference
    name: str
    version: str
    description: str
    digest: str
    visibility: str
    category: str
    size: int
    yanked: str | None


@dataclass(frozen=True, slots=True)
class Publication:
    """What `publish` did: `created` is False when exactly this was there already."""

    reference: Reference
    digest: str
    created: bool


@dataclass(frozen=True, slots=True)
class PulledSkill:
    """A package whose digest has been checked, with the manifest its publisher sent along."""

    release: Release
    package: bytes
    manifest: dict[str, Any]


async def publish(
    client: RegistryClient,
    repository: Repository,
    package: bytes,
    manifest: Mapping[str, Any],
    *,
    visibility: Visibility,
    category: str,
) -> Publication:
    """Publishes a gzip-compressed package under the version in its manifest ({name, version, description, …}).

    Raises `VersionConflictError` when the version is there with other content. The API has no conditional write, so of
    two publishers at the same moment the later one wins: a registry with immutable tags closes that gap.
    """
    name, version = str(manifest["name"]), parse_version(str(manifest["version"]))
    try:
        digest = archive.digest_of(archive.decompress(package))
    except archive.ArchiveError as error:
        raise RegistryContentError(str(error)) from None
    config = canonical(manifest)
    if len(config) > MAX_CONFIG_BYTES:
        raise RegistryContentError(f"manifest: {len(config)} bytes; at most {MAX_CONFIG_BYTES} are allowed")
    layer_title = {_TITLE: f"{name}-{version}.tar.gz"}
    annotations = {
        _TITLE: name,
        _VERSION: str(version),
        _DESCRIPTION: str(manifest.get("description") or ""),
        _LICENSES: str(manifest.get("license") or ""),
        _DIGEST: digest,
        _VISIBILITY: visibility,
        _CATEGORY: category,
    }
    content = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": ARTIFACT_TYPE,
        "config": descriptor(CONFIG_TYPE, config),
        "layers": [descriptor(PACKAGE_TYPE, package, annotations=layer_title)],
        "annotations": {key: value for key, value in annotations.items() if value},
    }
    tag = tag_of(version)
    known = await _find(client, repository, tag)
    if known is not None:
        _refuse_change(Reference(repository, str(version)), known.data, content)
        return Publication(Reference(repository, str(version), known.digest), digest, created=False)
    await client.put_blob(repository.path, config)
    await client.put_blob(repository.path, package)
    body = canonical(content)
    await client.put_manifest(repository.path, tag, MANIFEST, body)
    return Publication(Reference(repository, str(version), descriptor(MANIFEST, body)["digest"]), digest, created=True)


async def resolve(client: RegistryClient, reference: Reference) -> Release:
    """Returns the release a reference means: the digest, the exact version, or the newest in the range.

    Ranges leave yanked versions out; an exact version or a digest still finds them, with `yanked` set.
    Raises `RegistryNotFoundError` with the versions there are.
    """
    release, _ = await _resolve(client, reference)
    return release


async def pull(client: RegistryClient, reference: Reference) -> PulledSkill:
    """Downloads a skill and checks every digest, from the manifest's to the package's. See `resolve`."""
    release, manifest = await _resolve(client, reference)
    path = reference.repository.path
    layer, config = _layer(release.reference, manifest), manifest.data["config"]
    package = await client.blob(path, layer["digest"], archive.MAX_COMPRESSED_BYTES)
    try:
        archive.verify(package, release.digest)
    except archive.ArchiveError as error:
        raise RegistryContentError(f"{release.reference}: {error}") from None
    data = _parse(await client.blob(path, config["digest"], MAX_CONFIG_BYTES))
    if str(data.get("version")) != release.version:
        raise RegistryContentError(f"{release.reference}: its manifest is not that of version {release.version}")
    return PulledSkill(release, package, data)


async def releases(client: RegistryClient, repository: Repository) -> list[Release]:
    """Returns every published version, newest first."""
    versions = matching(await client.tags(repository.path), _ANY)
    return [(await _tagged(client, repository, version))[0] for version in versions]


async def yank(
    client: RegistryClient, reference: Reference, reason: str, *, now: datetime, undo: bool = False
) -> Release:
    """Tells everybody not to choose this version any more (or, with `undo`, that it is good again).

    `reference` must name one version or digest; `now` orders the statements. Returns the release as it is then.
    """
    if reference.digest is None and (reference.version is None or version_of(reference.version) is None):
        raise RegistryError(f"{reference}: names no single version; write for example {reference.repository}:1.2.0")
    _, subject = await _resolve(client, reference)
    path = reference.repository.path
    await client.put_blob(path, _EMPTY)
    statement = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": YANK_TYPE,
        "config": descriptor(_EMPTY_TYPE, _EMPTY),
        "layers": [descriptor(_EMPTY_TYPE, _EMPTY)],
        "annotations": {
            _YANKED: "false" if undo else "true",
            _REASON: reason,
            _CREATED: now.astimezone(UTC).isoformat(timespec="microseconds"),
        },
    }
    await client.add_referrer(path, subject, statement)
    return await _release(client, reference, subject)


def _parse(content: bytes) -> dict[str, Any]:
    """The object a JSON text holds; anything else counts as an empty one."""
    try:
        data = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return data if isinstance(data, dict) else {}


async def _find(client: RegistryClient, repository: Repository, reference: str) -> Manifest | None:
    try:
        return await client.manifest(repository.path, reference)
    except RegistryNotFoundError:
        return None


def _refuse_change(reference: Reference, known: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    before, after = known.get("annotations") or {}, wanted["annotations"]
    for key, what in ((_DIGEST, "package"), (_VISIBILITY, "visibility"), (_CATEGORY, "category")):
        if before.get(key) != after.get(key):
            raise VersionConflictError(
                f"{reference}: published already with {what} {before.get(key)}, this is {after.get(key)}; "
                "published versions never change: raise the version"
            )


async def _resolve(client: RegistryClient, reference: Reference) -> tuple[Release, Manifest]:
    if reference.digest is not None:
        manifest = await client.manifest(reference.repository.path, reference.digest)
        release = await _release(client, reference, manifest)
        if reference.version and not matching([tag_of(parse_version(release.version))], reference.version):
            raise RegistryContentError(f"{reference}: the digest is that of version {release.version}")
        return release, manifest
    exact = version_of(reference.version or "")
    if exact is not None:
        return await _tagged(client, reference.repository, exact)
    return await _newest(client, reference)


async def _newest(client: RegistryClient, reference: Reference) -> tuple[Release, Manifest]:
    """The newest version in the range that is not yanked."""
    tags = await client.tags(reference.repository.path)
    yanked: list[Release] = []
    for version in matching(tags, reference.version or "*"):
        release, manifest = await _tagged(client, reference.repository, version)
        if release.yanked is None:
            return release, manifest
        yanked.append(release)
    if yanked:
        listed = ", ".join(f"{release.version} ({release.yanked})" for release in yanked[:_MAX_LISTED])
        raise RegistryNotFoundError(f"{reference}: every version in that range is yanked: {listed}")
    there = ", ".join(str(version) for version in matching(tags, _ANY)[:_MAX_LISTED]) or "none"
    raise RegistryNotFoundError(f"{reference}: no version in that range; published: {there}")


async def _tagged(client: RegistryClient, repository: Repository, version: Version) -> tuple[Release, Manifest]:
    """The release under the tag of a version. Raises `RegistryContentError` when the tag holds another version."""
    manifest = await client.manifest(repository.path, tag_of(version))
    release = await _release(client, Reference(repository, str(version)), manifest)
    if release.version != str(version):
        held = release.version or "unknown"
        raise RegistryContentError(f"{repository}:{version}: holds version {held}; its publisher moved the tag")
    return release, manifest


async def _release(client: RegistryClient, reference: Reference, manifest: Manifest) -> Release:
    layer = _layer(reference, manifest)
    notes = {key: str(value) for key, value in (manifest.data.get("annotations") or {}).items()}
    version, digest = notes.get(_VERSION, ""), notes.get(_DIGEST, "")
    return Release(
        reference=reference.pinned(version, manifest.digest),
        name=notes.get(_TITLE, ""),
        version=version,
        description=notes.get(_DESCRIPTION, ""),
        digest=digest,
        visibility=notes.get(_VISIBILITY, ""),
        category=notes.get(_CATEGORY, ""),
        size=layer["size"],
        yanked=await _yanked(client, reference.repository, manifest.digest),
    )


def _layer(reference: Reference, manifest: Manifest) -> dict[str, Any]:
    """Returns the descriptor of the package. Raises `RegistryContentError` unless the manifest is a skill's."""
    data = manifest.data
    layers, config = data.get("layers"), data.get("config")
    if data.get("artifactType") != ARTIFACT_TYPE:
        found = data.get("artifactType") or data.get("mediaType") or "nothing known"
        raise RegistryContentError(f"{reference}: is no skill ({found}); skills have artifactType {ARTIFACT_TYPE}")
    if not isinstance(layers, list) or len(layers) != 1 or not isinstance(config, dict):
        raise RegistryContentError(f"{reference}: a skill has one config and one layer")
    layer = layers[0]
    for entry, media_type, limit in (
        (layer, PACKAGE_TYPE, archive.MAX_COMPRESSED_BYTES),
        (config, CONFIG_TYPE, MAX_CONFIG_BYTES),
    ):
        well_formed = isinstance(entry, dict) and isinstance(entry.get("size"), int) and is_digest(entry.get("digest"))
        if not well_formed or entry.get("mediaType") != media_type:
            raise RegistryContentError(f"{reference}: its {media_type} is missing")
        if entry["size"] > limit:
            raise RegistryContentError(
                f"{reference}: {entry['size']} bytes of {media_type}; at most {limit} are allowed"
            )
    return dict(layer)


async def _yanked(client: RegistryClient, repository: Repository, digest: str) -> str | None:
    statements = await client.referrers(repository.path, digest, YANK_TYPE)
    notes = [statement.get("annotations") or {} for statement in statements]
    newest = max(notes, key=lambda note: str(note.get(_CREATED, "")), default={})
    return str(newest.get(_REASON) or "no reason given") if newest.get(_YANKED) == "true" else None

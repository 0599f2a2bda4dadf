"""Names of skills in a registry: `HOST[:PORT]/PATH[:VERSION or RANGE][@sha256:DIGEST]`.

The grammar of host, path and digest is OCI's (https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md,
"Pulling manifests"); a range where OCI has a tag is ours, and is resolved over the repository's tags.
"""

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from semantic_version import NpmSpec, Version

from openclaw_runtime.skills.oci_errors import ReferenceFormatError

_HOST = re.compile(r"([a-zA-Z0-9]([a-zA-Z0-9.-]*[a-zA-Z0-9])?|\[[0-9a-fA-F:]+\])(:[0-9]{1,5})?")
_PATH = re.compile(r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_MAX_TAG = 128
_SHAPE = "HOST/PATH[:VERSION][@sha256:DIGEST], for example registry.example.com/skills/git-ai-helper:^1.2"


@dataclass(frozen=True, slots=True)
class Repository:
    """One repository of a registry: all versions of one skill."""

    host: str
    path: str

    def __str__(self) -> str:
        return f"{self.host}/{self.path}"


@dataclass(frozen=True, slots=True)
class Reference:
    """A skill in a repository: `version` is a version or an npm-style range, `digest` that of the OCI manifest."""

    repository: Repository
    version: str | None = None
    digest: str | None = None

    def __str__(self) -> str:
        version = f":{self.version}" if self.version else ""
        return f"{self.repository}{version}{'@' + self.digest if self.digest else ''}"

    def pinned(self, version: str, digest: str) -> "Reference":
        """Returns a reference that means the same bytes for ever."""
        return replace(self, version=version, digest=digest)


def complete(text: str, default: str | None) -> str:
    """Returns a reference with its registry: `git-ai-helper:^1` becomes `<default>/git-ai-helper:^1`.

    Raises `ReferenceFormatError` when there is no default to complete it with.
    """
    plain = text.removeprefix("oci://")
    first, slash, _ = plain.partition("/")
    if slash and _is_host(first):
        return plain
    if default is None:
        raise ReferenceFormatError(
            f"reference: {text!r} names no registry; write {_SHAPE}, or log in to HOST/PATH to make it the default"
        )
    return f"{default.removeprefix('oci://').rstrip('/')}/{plain}"


def split_prefix(text: str) -> tuple[str, str]:
    """Reads HOST or HOST/PATH; the path may be empty. Raises `ReferenceFormatError`."""
    host, slash, path = text.removeprefix("oci://").rstrip("/").partition("/")
    if slash:
        repository = parse_repository(f"{host}/{path}")
        return repository.host, repository.path
    if not _is_host(host):
        raise ReferenceFormatError(f"registry: {text!r} is not a registry; write HOST or HOST/PATH")
    return host, ""


def _is_host(text: str) -> bool:
    """A first part without dot, colon and the name localhost is a path: the rule of other OCI clients."""
    return _HOST.fullmatch(text) is not None and ("." in text or ":" in text or text == "localhost")


def parse_repository(text: str) -> Repository:
    """Reads HOST/PATH. Raises `ReferenceFormatError`."""
    host, slash, path = text.removeprefix("oci://").partition("/")
    if not slash or not _is_host(host):
        raise ReferenceFormatError(f"reference: {text!r} names no registry; write {_SHAPE}")
    if not _PATH.fullmatch(path):
        raise ReferenceFormatError(
            f"reference: {path!r} is not a repository path (lower case letters, digits, '.', '_', '-', '/'); "
            f"write {_SHAPE}"
        )
    return Repository(host, path)


def parse_reference(text: str) -> Reference:
    """Reads a full reference. Raises `ReferenceFormatError`."""
    rest, _, digest = text.partition("@")
    if digest and not is_digest(digest):
        raise ReferenceFormatError(f"reference: {digest!r} is not a digest; write sha256: and 64 hex digits")
    host, slash, path = rest.removeprefix("oci://").partition("/")
    path, _, version = path.partition(":")
    repository = parse_repository(f"{host}{slash}{path}")
    if version:
        parse_range(version)
    return Reference(repository, version or None, digest or None)


def is_digest(value: object) -> bool:
    """Whether this is a SHA-256 digest as OCI writes it."""
    return isinstance(value, str) and _DIGEST.fullmatch(value) is not None


def is_loopback(host: str) -> bool:
    """Whether HOST[:PORT] is this machine."""
    name = host.rpartition(":")[0] if re.search(r":[0-9]+$", host) else host
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False


def parse_version(text: str) -> Version:
    """Reads a semantic version. Raises `ReferenceFormatError`."""
    try:
        return Version(text)
    except ValueError:
        raise ReferenceFormatError(
            f"version: {text!r} is not a semantic version; write MAJOR.MINOR.PATCH, for example 1.2.0"
        ) from None


def parse_range(text: str) -> NpmSpec:
    """Reads an npm-style range. Raises `ReferenceFormatError`."""
    try:
        return NpmSpec(text)
    except (ValueError, AttributeError):
        # AttributeError: what the library says of a range 'a - b' with an end that is none.
        raise ReferenceFormatError(
            f"version: {text!r} is neither a version nor a range; write for example 1.2.0, ^1.2 or '>=1.2 <2'"
        ) from None


def tag_of(version: Version) -> str:
    """Returns the tag of a version. A tag may not hold `+` (build metadata), so it becomes `_`, as Helm does it too."""
    tag = str(version).replace("+", "_")
    if len(tag) > _MAX_TAG:
        raise ReferenceFormatError(f"version: {version} is too long for a tag; at most {_MAX_TAG} characters fit")
    return tag


def version_of(tag: str) -> Version | None:
    """Returns the version a tag stands for, or None for any other tag (semantic versions hold no `_`)."""
    try:
        return Version(tag.replace("_", "+", 1))
    except ValueError:
        return None


def matching(tags: Iterable[str], version_range: str) -> list[Version]:
    """Returns the versions among the tags that the range accepts, newest first. Raises `ReferenceFormatError`."""
    wanted = parse_range(version_range)
    versions = (version_of(tag) for tag in tags)
    # Versions that differ only in build metadata have no order of their own: the text makes the choice repeatable.
    return sorted(
        (version for version in versions if version is not None and version in wanted),
        key=lambda version: (version, str(version)),
        reverse=True,
    )

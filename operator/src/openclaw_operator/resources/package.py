"""Skill packages: a reproducible tar, named by its digest, so that equal files are the same package everywhere."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import tarfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from openclaw_operator.errors import SpecError
from openclaw_operator.resources.meta import Object, Owner, child, labels

MAX_TAR_BYTES = 8 * 1024 * 1024
MAX_GZIP_BYTES = 900 * 1024
MAX_FILES = 512
PACKAGE_KEY = "package.tar.gz"
_GZIP = 16 + zlib.MAX_WBITS


@dataclass(frozen=True)
class File:
    """A file of a package."""

    path: str
    data: bytes
    executable: bool = False


@dataclass(frozen=True)
class Package:
    """A packed skill. `digest` is over the tar before compression."""

    digest: str
    archive: bytes

    @property
    def hex(self) -> str:
        """The digest without its sha256: prefix."""
        return self.digest.removeprefix("sha256:")


def unpack_keys(data: Mapping[str, str]) -> dict[str, str]:
    """Files of a source ConfigMap: its keys are paths with __ in place of each slash."""
    return {key.replace("__", "/"): text for key, text in data.items()}


def build(files: Mapping[str, str]) -> Package:
    """Pack text files. Raises SpecError for a path or size no package may have."""
    # Text in a resource has no executable bit, and an entrypoint is read by its interpreter.
    return pack(File(path, text.encode()) for path, text in files.items())


def pack(files: Iterable[File]) -> Package:
    """Pack files. Raises SpecError for a path or size no package may have."""
    data = canonical_tar(files)
    archive = gzip.compress(data, mtime=0)
    if len(data) > MAX_TAR_BYTES or len(archive) > MAX_GZIP_BYTES:
        raise refused(
            f"{len(data)} bytes ({len(archive)} compressed), at most {MAX_TAR_BYTES} ({MAX_GZIP_BYTES}) are allowed: "
            "remove or shrink files"
        )
    return Package(_digest(data), archive)


def canonical_tar(files: Iterable[File]) -> bytes:
    """The tar of some files: the same bytes for the same files, always. Raises SpecError."""
    ordered = sorted(files, key=lambda file: file.path.encode())
    if len(ordered) > MAX_FILES:
        raise refused(f"{len(ordered)} files, at most {MAX_FILES} are allowed: remove some")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for file in ordered:
            check_path(file.path)
            entry = tarfile.TarInfo(file.path)
            entry.size = len(file.data)
            entry.mode = 0o755 if file.executable else 0o644
            try:
                tar.addfile(entry, io.BytesIO(file.data))
            except ValueError:
                raise refused(f"path {file.path!r} is too long for a tar archive: shorten it") from None
    return buffer.getvalue()


def stored(archive: bytes, *, canonical: bool = True) -> tuple[Package, bytes, dict[str, File]]:
    """A package as it was compressed by somebody, with its tar and its files by path.

    With `canonical` the tar must be what `canonical_tar` makes of its files. Raises SpecError.
    """
    tar = _inflate(archive)
    files: dict[str, File] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(tar), mode="r:") as members:
            for member in members:
                if not member.isreg() or member.issparse():
                    raise refused(f"path {member.name!r} is no regular file: links and devices are not allowed")
                if member.name in files or len(files) == MAX_FILES:
                    raise refused(f"path {member.name!r} is there twice, or beyond the {MAX_FILES} files allowed")
                content = members.extractfile(member)
                files[member.name] = File(member.name, content.read() if content else b"", bool(member.mode & 0o100))
    except (tarfile.TarError, EOFError, ValueError, OverflowError) as error:
        raise refused(f"the package is no tar archive ({error}): pack it with openclaw skill pack") from None
    if canonical and canonical_tar(files.values()) != tar:
        raise refused("the package was not packed reproducibly: pack it with openclaw skill pack")
    return Package(_digest(tar), archive), tar, files


def _inflate(archive: bytes) -> bytes:
    inflate = zlib.decompressobj(_GZIP)
    try:
        tar = inflate.decompress(archive, MAX_TAR_BYTES + 1)
    except zlib.error:
        raise refused("the package is not gzip-compressed: pack it with openclaw skill pack") from None
    if len(archive) > MAX_GZIP_BYTES or len(tar) > MAX_TAR_BYTES:
        raise refused(f"the package has more than {MAX_TAR_BYTES} bytes ({MAX_GZIP_BYTES} compressed): shrink files")
    if not inflate.eof or inflate.unused_data:
        raise refused("the package is cut short, or something follows it: pack it with openclaw skill pack")
    return tar


def _digest(tar: bytes) -> str:
    return "sha256:" + hashlib.sha256(tar).hexdigest()


def remote(server: Mapping[str, Any]) -> Package:
    """What stands for the package of a skill without files: the digest of where its server is, and no archive."""
    text = json.dumps(server, sort_keys=True, separators=(",", ":"))
    return Package("sha256:" + hashlib.sha256(text.encode()).hexdigest(), b"")


def check_path(path: str) -> None:
    """Raise SpecError unless the path is relative and plain."""
    parts = path.split("/")
    if (
        not path
        or path.startswith("/")
        or "\\" in path
        or "\0" in path
        or any(part in ("", ".", "..") for part in parts)
    ):
        raise refused(f"path {path!r} is not allowed: use a relative path without '.', '..' or empty parts")


def refused(message: str) -> SpecError:
    """A package that cannot be taken, whatever is tried."""
    return SpecError("InvalidSource", f"spec.source: {message}")


def config_map_name(skill: str, digest: str) -> str:
    """Name of the ConfigMap that holds a package."""
    return f"{skill}-package-{digest.removeprefix('sha256:')[:10]}"


def config_map(owner: Owner, package: Package) -> Object:
    """The immutable ConfigMap of a package."""
    return child(
        "v1",
        "ConfigMap",
        config_map_name(owner.name, package.digest),
        owner,
        {**labels(owner, "skill-package", "package"), "openclaw.io/digest": package.hex[:63]},
        immutable=True,
        binaryData={PACKAGE_KEY: base64.b64encode(package.archive).decode()},
    )

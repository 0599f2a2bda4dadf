"""Skill packages: a reproducible tar, named by its digest, so that equal files are the same package everywhere."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass

from openclaw_operator.errors import SpecError
from openclaw_operator.resources.meta import Object, Owner, child, labels

MAX_TAR_BYTES = 8 * 1024 * 1024
MAX_GZIP_BYTES = 900 * 1024
MAX_FILES = 512
PACKAGE_KEY = "package.tar.gz"


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
    if len(files) > MAX_FILES:
        raise _refused(f"{len(files)} files, at most {MAX_FILES} are allowed: remove some")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for path in sorted(files, key=str.encode):
            _check(path)
            content = files[path].encode()
            entry = tarfile.TarInfo(path)
            entry.size = len(content)
            # Text in a resource has no executable bit, and an entrypoint is read by its interpreter.
            entry.mode = 0o644
            try:
                tar.addfile(entry, io.BytesIO(content))
            except ValueError:
                raise _refused(f"path {path!r} is too long for a tar archive: shorten it") from None
    data = buffer.getvalue()
    archive = gzip.compress(data, mtime=0)
    if len(data) > MAX_TAR_BYTES or len(archive) > MAX_GZIP_BYTES:
        raise _refused(
            f"{len(data)} bytes ({len(archive)} compressed), at most {MAX_TAR_BYTES} ({MAX_GZIP_BYTES}) are allowed: "
            "remove or shrink files"
        )
    return Package("sha256:" + hashlib.sha256(data).hexdigest(), archive)


def _check(path: str) -> None:
    parts = path.split("/")
    if (
        not path
        or path.startswith("/")
        or "\\" in path
        or "\0" in path
        or any(part in ("", ".", "..") for part in parts)
    ):
        raise _refused(f"path {path!r} is not allowed: use a relative path without '.', '..' or empty parts")


def _refused(message: str) -> SpecError:
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

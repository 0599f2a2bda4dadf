"""Reading a skill package safely. Stdlib only: the pod uses it too.

A package is a gzip-compressed USTAR tar of regular files. Whoever made it is not trusted: sizes are bounded before
anything is stored, and a path can only lie inside the folder it is unpacked to.
"""

import hashlib
import io
import os
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

MAX_COMPRESSED_BYTES: Final = 900 * 1024
MAX_UNCOMPRESSED_BYTES: Final = 8 * 1024 * 1024
MAX_FILES: Final = 512
MAX_PATH: Final = 256
_GZIP = 16 + zlib.MAX_WBITS


class ArchiveError(Exception):
    """A package is not acceptable. `str()` is one line that says what and why."""


@dataclass(frozen=True, slots=True)
class PackageFile:
    """One file of a package."""

    path: str
    data: bytes
    executable: bool = False


def digest_of(tar: bytes) -> str:
    """Returns the digest of an uncompressed package: `sha256:<64 hex>`."""
    return "sha256:" + hashlib.sha256(tar).hexdigest()


def decompress(package: bytes) -> bytes:
    """Returns the tar inside a gzip-compressed package. Raises `ArchiveError`."""
    if len(package) > MAX_COMPRESSED_BYTES:
        raise ArchiveError(f"package: {len(package)} bytes compressed; at most {MAX_COMPRESSED_BYTES} are allowed")
    inflate = zlib.decompressobj(_GZIP)
    try:
        tar = inflate.decompress(package, MAX_UNCOMPRESSED_BYTES + 1)
    except zlib.error:
        raise ArchiveError("package: not gzip") from None
    if len(tar) > MAX_UNCOMPRESSED_BYTES:
        raise ArchiveError(f"package: more than {MAX_UNCOMPRESSED_BYTES} bytes uncompressed")
    if not inflate.eof:
        raise ArchiveError("package: the gzip stream is cut short")
    if inflate.unused_data:
        raise ArchiveError("package: something follows the gzip stream")
    return tar


def verify(package: bytes, digest: str) -> bytes:
    """Returns the tar inside a package whose digest is the expected one. Raises `ArchiveError`."""
    tar = decompress(package)
    actual = digest_of(tar)
    if actual != digest:
        raise ArchiveError(f"package: its digest is {actual}, expected {digest}")
    return tar


def check_path(path: str) -> str:
    """Returns the path if it is relative, clean and short. Raises `ArchiveError`."""
    if not path or len(path) > MAX_PATH:
        raise ArchiveError(f"path: {path[:60]!r} is empty or longer than {MAX_PATH} characters")
    if not path.isprintable() or "\\" in path:
        raise ArchiveError(f"path: {path!r} holds control characters or a backslash")
    if path.startswith("/") or str(PurePosixPath(path)) != path or ".." in PurePosixPath(path).parts:
        raise ArchiveError(f"path: {path!r} must be relative and plain, without .. or empty parts")
    return path


def read(tar: bytes) -> Iterator[PackageFile]:
    """Yields the files of a tar. Raises `ArchiveError` at the first thing that is not a plain file inside."""
    seen: set[str] = set()
    try:
        with tarfile.open(fileobj=io.BytesIO(tar), mode="r:") as archive:
            for member in archive:
                if not member.isreg() or member.issparse():
                    raise ArchiveError(f"path: {member.name!r} is not a regular file; links and devices are refused")
                path = check_path(member.name)
                if path in seen:
                    raise ArchiveError(f"path: {path!r} is there twice")
                seen.add(path)
                if len(seen) > MAX_FILES:
                    raise ArchiveError(f"package: more than {MAX_FILES} files")
                handle = archive.extractfile(member)
                data = handle.read() if handle else b""
                if len(data) != member.size:
                    raise ArchiveError(f"path: {path!r} is cut short")
                yield PackageFile(path, data, bool(member.mode & 0o100))
    except (tarfile.TarError, EOFError, ValueError, OverflowError) as error:
        raise ArchiveError(f"package: not a tar ({error})") from None


def unpack(tar: bytes, target: Path) -> None:
    """Writes the files of a tar below `target`, which must be an empty folder of ours. Raises `ArchiveError`.

    Every path is checked and no link is ever made, so nothing can lead outside. O_EXCL and O_NOFOLLOW are the second
    line.
    """
    made = {target}
    for file in read(tar):
        path = target / file.path
        if path.parent not in made:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
            except (FileExistsError, NotADirectoryError):
                raise ArchiveError(f"path: {file.path!r} lies below something that is a file") from None
            made.add(path.parent)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        try:
            handle = os.open(path, flags, 0o755 if file.executable else 0o644)
        except (FileExistsError, NotADirectoryError):
            raise ArchiveError(f"path: {file.path!r} collides with another entry") from None
        with os.fdopen(handle, "wb") as output:
            output.write(file.data)

"""Skill packages: a deterministic archive of a skill's files, named by its digest.

The format (both ends of the project implement it, byte for byte): a USTAR tar of regular files only, sorted by path in
byte order, mode 0644 or 0755, uid and gid 0, no names, mtime 0, padded to 10,240 bytes; the digest is the sha256 over
that tar. It is stored and sent gzip-compressed.
"""

import gzip
import io
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from openclaw_runtime.sandbox.archive import (
    MAX_COMPRESSED_BYTES,
    MAX_FILES,
    MAX_UNCOMPRESSED_BYTES,
    ArchiveError,
    PackageFile,
    check_path,
    decompress,
    digest_of,
    read,
)

LEFT_OUT: Final = frozenset({"tests", "__pycache__", "node_modules"})
_MAX_USTAR_NAME: Final = 100


@dataclass(frozen=True, slots=True)
class Package:
    """A packed skill: `data` is the gzip-compressed tar whose digest is `digest`."""

    digest: str
    data: bytes = b""

    def files(self) -> list[PackageFile]:
        """Returns the files inside. Raises `ArchiveError`."""
        return list(read(decompress(self.data)))


def build_tar(files: Iterable[PackageFile]) -> bytes:
    """Returns the tar of some files: the same bytes for the same files, always. Raises `ArchiveError`."""
    ordered = sorted(files, key=lambda file: file.path.encode())
    if not ordered:
        raise ArchiveError("package: there are no files")
    if len(ordered) > MAX_FILES:
        raise ArchiveError(f"package: {len(ordered)} files; at most {MAX_FILES} are allowed")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for index, file in enumerate(ordered):
            if index and ordered[index - 1].path == file.path:
                raise ArchiveError(f"path: {file.path!r} is there twice")
            member = tarfile.TarInfo(check_path(file.path))
            member.size = len(file.data)
            member.mode = 0o755 if file.executable else 0o644
            try:
                archive.addfile(member, io.BytesIO(file.data))
            except ValueError:
                raise ArchiveError(
                    f"path: {file.path!r} is too long for USTAR; keep names below {_MAX_USTAR_NAME} characters"
                ) from None
    tar = buffer.getvalue()
    if len(tar) > MAX_UNCOMPRESSED_BYTES:
        raise ArchiveError(f"package: {len(tar)} bytes uncompressed; at most {MAX_UNCOMPRESSED_BYTES} are allowed")
    return tar


def pack_files(files: Iterable[PackageFile]) -> Package:
    """Packs files. Raises `ArchiveError`."""
    tar = build_tar(files)
    data = gzip.compress(tar, compresslevel=9, mtime=0)
    if len(data) > MAX_COMPRESSED_BYTES:
        raise ArchiveError(f"package: {len(data)} bytes compressed; at most {MAX_COMPRESSED_BYTES} are allowed")
    return Package(digest_of(tar), data)


def folder_files(folder: Path) -> list[PackageFile]:
    """Reads a skill's folder, without tests, caches and hidden files. Raises `ArchiveError`.

    Links are refused: what they point to may lie outside, or differ on the next machine.
    """
    files: list[PackageFile] = []
    pending = [folder]
    while pending:
        current = pending.pop()
        for entry in sorted(current.iterdir()):
            if entry.name.startswith(".") or entry.name in LEFT_OUT:
                continue
            relative = entry.relative_to(folder).as_posix()
            if entry.is_symlink():
                raise ArchiveError(f"path: {relative} is a link; put the file itself into the folder")
            if entry.is_dir():
                pending.append(entry)
            elif entry.is_file():
                mode = entry.stat().st_mode
                if entry.stat().st_size > MAX_UNCOMPRESSED_BYTES:
                    raise ArchiveError(f"path: {relative} is larger than {MAX_UNCOMPRESSED_BYTES} bytes")
                files.append(PackageFile(relative, entry.read_bytes(), bool(mode & 0o100)))
            else:
                raise ArchiveError(f"path: {relative} is neither a file nor a folder")
    return files


def pack_folder(folder: Path) -> Package:
    """Packs a skill's folder. Raises `ArchiveError`."""
    return pack_files(folder_files(folder))

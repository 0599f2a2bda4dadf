"""Reading a .tar.gz or .zip that anybody may have made: bounded before anything is kept, and no path leads out.

Kept are the files `openclaw skill pack` would take of the same folder, so that both come to the same package.
"""

from __future__ import annotations

import io
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO

from openclaw_operator.resources.package import MAX_FILES, MAX_TAR_BYTES, File, check_path, refused

MAX_ENTRIES = 10_000
# Whole repositories are published as archives of which a skill is one folder.
MAX_UNPACKED_BYTES = 32 * 1024 * 1024
LEFT_OUT = frozenset({"tests", "__pycache__", "node_modules"})
_CHUNK = 64 * 1024
_MODE_SHIFT = 16
_FILE_TYPE, _REGULAR = 0o170000, 0o100000


@dataclass(frozen=True)
class _Entry:
    path: str
    regular: bool
    executable: bool
    data: bytes | None


def files(content: bytes, folder: str) -> list[File]:
    """The files of the skill in `folder` of an archive ('' is its root, or the only folder in it). Raises SpecError."""
    try:
        entries = list(_zip(content) if content[:2] == b"PK" else _tar(content))
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, ValueError, OverflowError) as error:
        raise refused(f"the archive cannot be read ({error}): publish a .tar.gz or .zip file") from None
    except (NotImplementedError, RuntimeError) as error:
        raise refused(f"the archive is encrypted or compressed in an unknown way ({error}): use plain zip") from None
    for entry in entries:
        check_path(entry.path)
    base = PurePosixPath(_only_folder(entries), folder)
    found: dict[str, File] = {}
    for entry in entries:
        path = PurePosixPath(entry.path)
        if not path.is_relative_to(base) or _left_out(path.relative_to(base)):
            continue
        name = str(path.relative_to(base))
        if not entry.regular or entry.data is None:
            raise refused(f"path {name!r} is no regular file: links and devices are not allowed")
        if name in found:
            raise refused(f"path {name!r} is there twice: publish the archive again")
        found[name] = File(name, entry.data, entry.executable)
    if not found:
        raise refused(f"the archive has no files in {folder or 'it'}: correct spec.source.archive.path")
    if len(found) > MAX_FILES or sum(len(file.data) for file in found.values()) > MAX_TAR_BYTES:
        raise refused(
            f"more than {MAX_FILES} files or {MAX_TAR_BYTES} bytes: name the skill's folder in spec.source.archive.path"
        )
    return list(found.values())


def _left_out(path: PurePosixPath) -> bool:
    return any(part.startswith(".") or part in LEFT_OUT for part in path.parts)


def _only_folder(entries: list[_Entry]) -> str:
    """The folder around everything, as releases on code hosts have it; '' when there is none."""
    tops = {entry.path.partition("/")[0] for entry in entries}
    nested = all("/" in entry.path for entry in entries)
    return tops.pop() if len(tops) == 1 and nested else ""


class _Bounded(io.RawIOBase):
    """Inflates gzip, never more than MAX_UNPACKED_BYTES in all."""

    def __init__(self, content: bytes) -> None:
        self._inflate = zlib.decompressobj(16 + zlib.MAX_WBITS)
        self._content = memoryview(content)
        self._tail: bytes | memoryview = b""
        self._left = MAX_UNPACKED_BYTES

    def read(self, size: int = -1) -> bytes:
        """The next bytes, b'' at the end."""
        while True:
            if not self._tail:
                # Slices, since each call copies what it has not used.
                self._tail, self._content = self._content[:_CHUNK], self._content[_CHUNK:]
            if not self._tail or self._inflate.eof:
                return b""
            data = self._inflate.decompress(self._tail, size if size > 0 else _CHUNK)
            self._tail = self._inflate.unconsumed_tail
            self._left -= len(data)
            if self._left < 0:
                raise _too_much()
            if data:
                return data


def _tar(content: bytes) -> Iterator[_Entry]:
    left = MAX_UNPACKED_BYTES
    with tarfile.open(fileobj=_Bounded(content), mode="r|") as archive:
        for count, member in enumerate(archive):
            left -= member.size
            if count >= MAX_ENTRIES or left < 0:
                raise _too_much()
            if member.isdir():
                continue
            regular = member.isreg() and not member.issparse()
            data = _read(archive.extractfile(member), member.size) if regular else None
            yield _Entry(_plain(member.name), regular, bool(member.mode & 0o100), data)


def _zip(content: bytes) -> Iterator[_Entry]:
    left = MAX_UNPACKED_BYTES
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = archive.infolist()
        left -= sum(member.file_size for member in members)
        if len(members) > MAX_ENTRIES or left < 0:
            raise _too_much()
        for member in members:
            if member.is_dir():
                continue
            mode = member.external_attr >> _MODE_SHIFT
            regular = mode & _FILE_TYPE in (0, _REGULAR)
            with archive.open(member) as handle:
                data = _read(handle, member.file_size) if regular else None
            yield _Entry(_plain(member.filename), regular, bool(mode & 0o100), data)


def _plain(name: str) -> str:
    """`tar czf x.tar.gz .` writes ./ before each path."""
    return name.removeprefix("./")


def _read(handle: IO[bytes] | None, size: int) -> bytes:
    """Exactly what was announced: a stream that goes on is not read to its end."""
    data = handle.read(size) if handle else b""
    if len(data) != size:
        raise ValueError("a file is cut short")
    return data


def _too_much() -> Exception:
    return refused(
        f"the archive holds more than {MAX_UNPACKED_BYTES} bytes or {MAX_ENTRIES} files: publish the skill by itself"
    )

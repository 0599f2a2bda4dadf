"""A folder as a layer of an image."""

from __future__ import annotations

import gzip
import io
import tarfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import ociregistry
import workspace

from openclaw_skill import SkillError

MAX_BYTES = 128 * 1024 * 1024
"""Of all files: the layer is made in the memory of the sandbox."""


@dataclass(frozen=True)
class Packed:
    """A layer: gzip, and the digest of the tar inside."""

    data: bytes
    diff_id: str
    files: int


def pack(folder: Path, target: str) -> Packed:
    """Packs the files of a folder under `target`. Equal files give equal bytes: no times, no owners, one order.

    Raises SkillError where there is nothing, or too much.
    """
    places = list(workspace.walk(folder))
    if not places:
        raise SkillError(f"folder: {folder.name!r} holds no files; build the project first")
    if (size := sum(place.stat().st_size for place in places)) > MAX_BYTES:
        raise SkillError(
            f"folder: {folder.name!r} has {size} bytes, at most {MAX_BYTES} fit; leave out what is not run"
        )
    root = PurePosixPath(target.strip("/") or ".")
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.PAX_FORMAT) as tar:
        known: set[PurePosixPath] = set()
        for place in places:
            name = root / place.relative_to(folder).as_posix()
            for parent in reversed(name.parents):
                if parent.name and parent not in known:
                    known.add(parent)
                    entry = tarfile.TarInfo(f"{parent}/")
                    entry.type, entry.mode = tarfile.DIRTYPE, 0o755
                    tar.addfile(entry)
            content = workspace.read_bytes(place, MAX_BYTES)
            entry = tarfile.TarInfo(str(name))
            entry.size, entry.mode = len(content), 0o755 if place.stat().st_mode & 0o100 else 0o644
            tar.addfile(entry, io.BytesIO(content))
    plain = made.getvalue()
    return Packed(gzip.compress(plain, 6, mtime=0), ociregistry.digest_of(plain), len(places))

"""A folder as a layer of an image."""

from __future__ import annotations

import gzip
import io
import os
import re
import tarfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

import ociregistry
import workspace

from openclaw_skill import SkillError

Why = Literal["secret", "link", "private", "special"]
MAX_BYTES = 128 * 1024 * 1024
"""Of all files: the layer is made in the memory of the sandbox."""
PRIVATE = frozenset({workspace.PRIVATE, ".git"})
"""Other folders that tools pass over, such as node_modules, may be what the program runs on."""
_SECRET = re.compile(
    r"\.env.*|.*\.(?:key|p12|pfx|jks|keystore|kdbx|ppk)|id_(?:rsa|dsa|ecdsa|ed25519)|\.netrc|\.npmrc|\.pypirc"
    r"|\.pgpass|\.htpasswd|\.git-credentials|\.dockercfg|\.ssh|\.aws|\.azure|\.kube|\.docker|\.gnupg",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Packed:
    """A layer: gzip, and the digest of the tar inside; and what of the folder is not in it."""

    data: bytes
    diff_id: str
    files: int
    left_out: tuple[tuple[str, Why], ...] = ()


def pack(folder: Path, target: str) -> Packed:
    """Packs the files of a folder under `target`. Equal files give equal bytes: no times, no owners, one order.

    Folders above the target are the base's, and stay as they are. Raises SkillError where there is nothing, or too
    much.
    """
    places, left_out = _sorted_out(folder)
    if not places:
        told = f" but what is left out ({', '.join(list(left_out)[:5])})" if left_out else ""
        raise SkillError(f"folder: {folder.name!r} holds no files{told}; build the project first")
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
                if parent.name and parent.is_relative_to(root) and parent not in known:
                    known.add(parent)
                    entry = tarfile.TarInfo(f"{parent}/")
                    entry.type, entry.mode = tarfile.DIRTYPE, 0o755
                    tar.addfile(entry)
            content = workspace.read_bytes(place, MAX_BYTES)
            entry = tarfile.TarInfo(str(name))
            entry.size, entry.mode = len(content), 0o755 if place.stat().st_mode & 0o100 else 0o644
            tar.addfile(entry, io.BytesIO(content))
    plain = made.getvalue()
    compressed = gzip.compress(plain, 6, mtime=0)
    return Packed(compressed, ociregistry.digest_of(plain), len(places), tuple(left_out.items()))


def _sorted_out(folder: Path) -> tuple[list[Path], dict[str, Why]]:
    """Returns the files that go into an image, and what does not, of a folder only its own name; in a fixed order."""
    taken: list[Path] = []
    left_out: dict[str, Why] = {}

    def keeps(place: Path) -> bool:
        if why := _why(place):
            left_out[place.relative_to(folder).as_posix()] = why
        return why is None

    for parent, names, files in os.walk(folder):
        names[:] = [name for name in sorted(names) if keeps(Path(parent) / name)]
        taken += [place for name in sorted(files) if keeps(place := Path(parent) / name)]
    return taken, left_out


def _why(place: Path) -> Why | None:
    if place.is_symlink():
        return "link"
    if place.name in PRIVATE:
        return "private"
    if _SECRET.fullmatch(place.name):
        return "secret"
    if place.is_dir():
        return None
    if not place.is_file():
        return "special"
    return "secret" if place.suffix.lower() == ".pem" and not _public(place) else None


def _public(place: Path) -> bool:
    """Whether a PEM file holds certificates or public keys only: libraries bring those of the public authorities."""
    labels = re.findall(rb"-----BEGIN ([A-Z0-9 ]+)-----", workspace.read_bytes(place, MAX_BYTES))
    return bool(labels) and all(label.endswith((b"CERTIFICATE", b"PUBLIC KEY", b"X509 CRL")) for label in labels)

"""Images of a few static files, written directly as a docker-archive: no builder, no base, the same bytes every time.

Format: https://github.com/opencontainers/image-spec/blob/main/config.md and the layout of `docker save`.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.host import goarch


@dataclass(frozen=True)
class ScratchImage:
    """Image name, path in the image → file on the host (mode 0755), links, and what it runs."""

    name: str
    files: Mapping[str, Path]
    entrypoint: Sequence[str]
    links: Mapping[str, str]

    @property
    def digest(self) -> str:
        """Of the inputs: what decides whether the archive is written anew."""
        parts: list[object] = [self.name, list(self.entrypoint), dict(self.links)]
        for target, source in sorted(self.files.items()):
            with source.open("rb") as file:
                parts.append([target, hashlib.file_digest(file, "sha256").hexdigest()])
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]

    def write(self, archive: Path) -> None:
        layer = self._layer()
        config = json.dumps(
            {
                "architecture": goarch(),
                "os": "linux",
                "config": {"Entrypoint": list(self.entrypoint), "Env": ["PATH=/bin"]},
                "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
            }
        ).encode()
        manifest = json.dumps([{"Config": "config.json", "RepoTags": [self.name], "Layers": ["layer.tar"]}]).encode()
        archive.parent.mkdir(parents=True, exist_ok=True)
        fresh = archive.with_suffix(".new")
        with tarfile.open(fresh, "w", format=tarfile.USTAR_FORMAT) as tar:
            for name, content in (("config.json", config), ("layer.tar", layer), ("manifest.json", manifest)):
                tar.addfile(_entry(name, 0o644, len(content)), io.BytesIO(content))
        fresh.rename(archive)

    def _layer(self) -> bytes:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            for folder in ("bin", "tmp"):
                entry = _entry(folder, 0o1777 if folder == "tmp" else 0o755, 0)
                entry.type = tarfile.DIRTYPE
                tar.addfile(entry)
            for target, source in sorted(self.files.items()):
                with source.open("rb") as file:
                    tar.addfile(_entry(target.lstrip("/"), 0o755, source.stat().st_size), file)
            for link, target in sorted(self.links.items()):
                entry = _entry(link.lstrip("/"), 0o777, 0)
                entry.type, entry.linkname = tarfile.SYMTYPE, target
                tar.addfile(entry)
        return buffer.getvalue()


def _entry(name: str, mode: int, size: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.mode, entry.size = mode, size
    return entry

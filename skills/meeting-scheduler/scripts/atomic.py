"""Writing a file whole or not at all. A package holds all it runs, so each skill carries a copy of this file."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def write_bytes(place: Path, data: bytes) -> None:
    """Replaces the file at `place` (or makes it, and the folders above it) in one step, keeping its mode."""
    place.parent.mkdir(parents=True, exist_ok=True)
    mode = place.stat().st_mode & 0o777 if place.exists() else 0o644
    handle, name = tempfile.mkstemp(prefix=".write-", dir=place.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fchmod(stream.fileno(), mode)
            os.fsync(stream.fileno())
        Path(name).replace(place)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def write_text(place: Path, text: str) -> None:
    """Writes UTF-8 text as `write_bytes` does."""
    write_bytes(place, text.encode("utf-8"))

"""Paths in the agent's workspace, and no other. A package holds all it runs, so each skill has a copy of this file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from openclaw_skill import SkillError

PRIVATE = ".openclaw"
"""The runtime's own data, where an agent without a memory store keeps it in the workspace."""
SKIPPED = frozenset({PRIVATE, ".git", ".venv", "venv", "node_modules", "__pycache__", ".mypy_cache", ".ruff_cache"})
MAX_TEXT = 4 * 1024 * 1024


def root(ctx: Any) -> Path:
    """Returns the workspace's resolved path. Raises SkillError where none is mounted."""
    if ctx.workspace is None:
        raise SkillError("workspace: none is mounted; call this skill from an agent that has a workspace")
    return Path(ctx.workspace).resolve()


def locate(ctx: Any, path: str, field: str = "path") -> Path:
    """Returns where `path` (relative to the workspace, or absolute inside it) lies; it need not exist.

    `..`, symbolic links on the way and the runtime's own folder are refused with SkillError, even where they would
    end inside: a path that has to be interpreted is a path that can be misread.
    """
    base = root(ctx)
    if not path.isprintable():
        raise SkillError(f"{field}: {path!r} holds control characters; give a plain path")
    pure = PurePosixPath(path)
    if pure.is_absolute():
        if not pure.is_relative_to(base):
            raise SkillError(f"{field}: {path!r} is outside the workspace; give a path relative to it")
        pure = pure.relative_to(base)
    if ".." in pure.parts:
        raise SkillError(f"{field}: {path!r} holds '..'; give the path without it, relative to the workspace")
    if PRIVATE in pure.parts:
        raise SkillError(f"{field}: {path!r} is the runtime's own data; choose another path")
    place = base
    for part in pure.parts:
        place /= part
        if place.is_symlink():
            raise SkillError(f"{field}: {show(ctx, place)!r} is a symbolic link; name the file it stands for instead")
    return place


def locate_file(ctx: Any, path: str, field: str = "path") -> Path:
    """Returns where an existing regular file lies, or raises SkillError."""
    place = locate(ctx, path, field)
    if place.is_dir():
        raise SkillError(f"{field}: {path!r} is a folder; name a file in it")
    if not place.is_file():
        raise SkillError(f"{field}: {path!r} is no regular file or does not exist; list its folder first")
    return place


def show(ctx: Any, place: Path) -> str:
    """Returns a path as results name it: relative to the workspace, with slashes; the workspace itself is `.`."""
    return place.relative_to(root(ctx)).as_posix()


def read_bytes(place: Path, limit: int) -> bytes:
    """Returns up to `limit` bytes of a file that is not a symbolic link."""
    handle = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(handle, "rb") as stream:
        return stream.read(limit)


def read_text(ctx: Any, place: Path, limit: int = MAX_TEXT) -> str:
    """Returns a UTF-8 file as it is, line ends included, or raises SkillError."""
    data = read_bytes(place, limit + 1)
    if len(data) > limit:
        raise SkillError(f"path: {show(ctx, place)!r} has more than {limit} bytes; use a smaller file")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise SkillError(f"path: {show(ctx, place)!r} is not UTF-8 text (byte {error.start})") from None


def walk(base: Path) -> Iterator[Path]:
    """Yields the regular files below `base` in a fixed order; links and the folders in SKIPPED are passed over."""
    if base.is_file():
        yield base
        return
    for folder, names, files in os.walk(base):
        names[:] = sorted(name for name in names if name not in SKIPPED and not (Path(folder) / name).is_symlink())
        for name in sorted(files):
            place = Path(folder) / name
            if place.is_file() and not place.is_symlink():
                yield place

"""Looking through folders and files."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import workspace

from openclaw_skill import SkillError

Rows = list[dict[str, Any]]

MAX_FILE = 2 * 1024 * 1024
"""Larger files are not searched; what people write is smaller."""
MAX_LINE = 400
"""Longer lines are cut in results."""


def entries(base: Path, *, recursive: bool, hidden: bool) -> Iterator[Path]:
    """Yields what is in a folder, sorted; links are named but never followed."""
    for place in sorted(base.iterdir()):
        if place.name == workspace.PRIVATE or (place.name.startswith(".") and not hidden):
            continue
        yield place
        if recursive and place.is_dir() and not place.is_symlink() and place.name not in workspace.SKIPPED:
            yield from entries(place, recursive=True, hidden=hidden)


def up_to(join: Callable[[list[str]], str], lines: list[str], limit: int) -> tuple[str, int]:
    """Returns the leading lines whose characters fit into `limit`, joined, and how many these are."""
    size = 0
    for count, line in enumerate(lines):
        size += len(line)
        if size > limit:
            return (join(lines[:count]), count) if count else (line[:limit], 1)
    return join(lines), len(lines)


def matcher(pattern: str, *, regex: bool, ignore_case: bool) -> re.Pattern[str]:
    """Returns what to search lines with. Raises SkillError for a wrong expression."""
    try:
        return re.compile(pattern if regex else re.escape(pattern), re.IGNORECASE if ignore_case else 0)
    except re.error as error:
        raise SkillError(
            f"pattern: {pattern!r} is no regular expression ({error}); mend it or set regex false"
        ) from None


def text_lines(place: Path) -> list[str] | None:
    """Returns a file's lines without line ends, or None for binary and large files."""
    data = workspace.read_bytes(place, MAX_FILE + 1)
    if len(data) > MAX_FILE or b"\0" in data[:8192]:
        return None
    return data.decode("utf-8", "replace").splitlines()


def hits(lines: list[str], wanted: re.Pattern[str], context: int) -> Iterator[dict[str, Any]]:
    """Yields line and column (from 1) and text of each line that matches, with its surroundings if asked for."""
    for index, line in enumerate(lines):
        found = wanted.search(line)
        if found is None:
            continue
        hit: dict[str, Any] = {"line": index + 1, "column": found.start() + 1, "text": line[:MAX_LINE]}
        if context:
            hit["before"] = [text[:MAX_LINE] for text in lines[max(0, index - context) : index]]
            hit["after"] = [text[:MAX_LINE] for text in lines[index + 1 : index + 1 + context]]
        yield hit

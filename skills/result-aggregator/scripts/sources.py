"""The records of a source: given in the call, or in a file of the workspace."""

from __future__ import annotations

import json
from typing import Any

import workspace

from openclaw_skill import SkillError

MAX_BYTES = 16 * 1024 * 1024


def items_of(ctx: Any, source: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns the records of one source. Raises SkillError that names the source and what is wrong with it."""
    name = source["name"]
    if ("items" in source) == ("file" in source):
        raise SkillError(f"sources: {name} needs exactly one of items and file")
    if "items" in source:
        given: list[dict[str, Any]] = source["items"]
        return given
    place = workspace.locate_file(ctx, source["file"], f"sources: file of {name}")
    text = workspace.read_text(ctx, place, MAX_BYTES)
    try:
        if place.suffix == ".jsonl":
            found = [json.loads(line) for line in text.splitlines() if line.strip()]
        else:
            found = json.loads(text)
    except ValueError as error:
        raise SkillError(f"sources: file {source['file']!r} of {name} is not JSON ({error})") from None
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise SkillError(f"sources: file {source['file']!r} of {name} must hold a list of objects")
    return found

"""Joining records that several sources have."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from openclaw_skill import SkillError

Record = dict[str, Any]


def merge(
    given: Sequence[tuple[str, Sequence[Record]]], key: tuple[str, ...], prefer: tuple[str, ...], least: int
) -> dict[str, Any]:
    """Joins the records of `given` (source and records) that have the same values at the paths of `key`.

    Where sources disagree about a field, the first of `prefer` that has it wins, else the first of `given`.
    Raises SkillError for a record without its key.
    """
    ranks = {name: at for at, name in enumerate([*prefer, *(name for name, _ in given if name not in prefer)])}
    groups: dict[str, list[tuple[str, Record]]] = {}
    for name, items in given:
        for at, item in enumerate(items):
            groups.setdefault(_identity(item, key, f"{name}[{at}]"), []).append((name, item))
    merged, conflicts = [], []
    for identity, members in groups.items():
        sources = list(dict.fromkeys(name for name, _ in members))
        if len(sources) < least:
            continue
        record: Record = {}
        for field in dict.fromkeys(field for _, item in members for field in item):
            # A source that has the same record twice speaks with its first word.
            said = {name: item[field] for name, item in reversed(members) if field in item}
            winner = min(said, key=lambda name: ranks[name])
            record[field] = said[winner]
            if len({_canonical(value) for value in said.values()}) > 1:
                values = {name: said[name] for name in sources if name in said}
                conflicts.append({"key": json.loads(identity), "field": field, "values": values, "taken": winner})
        merged.append({"record": record, "sources": sources})
    counts = {name: len(items) for name, items in given}
    return {"items": merged, "conflicts": conflicts, "counts": counts, "leftOut": len(groups) - len(merged)}


def _identity(item: Record, key: tuple[str, ...], where: str) -> str:
    return _canonical([_at(item, path, where) for path in key])


def _at(item: Record, path: str, where: str) -> Any:
    value: Any = item
    for part in path.split("."):
        if not isinstance(value, dict) or part not in value:
            raise SkillError(f"key: {path!r} is missing in {where}; choose fields that every record has")
        value = value[part]
    return value


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)

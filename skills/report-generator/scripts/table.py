"""From records to the parts of a report. Pure, and the same for the same input."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from openclaw_skill import SkillError

Row = dict[str, Any]
OPERATIONS = ("count", "sum", "mean", "min", "max", "distinct")


@dataclass(frozen=True)
class Section:
    """A part of a report: a heading, paragraphs, and a table whose cells are texts."""

    title: str
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    paragraphs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Report:
    """A report: its title, what stands below it, and its sections."""

    title: str
    lead: tuple[str, ...] = ()
    sections: tuple[Section, ...] = field(default_factory=tuple)


def value_at(row: Row, path: str) -> Any:
    """Returns the value under a column; `a.b` reaches into objects, None stands for what is not there."""
    if path in row:
        return row[path]
    value: Any = row
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def columns_of(rows: Sequence[Row]) -> list[str]:
    """Returns every key in the order in which it first appears."""
    return list(dict.fromkeys(key for row in rows for key in row))


def text_of(value: Any) -> str:
    """Returns a cell: nothing for null, numbers without needless digits, JSON for what has parts."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4f}".rstrip("0").rstrip(".") if math.isfinite(value) and abs(value) < 1e15 else str(value)
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False, sort_keys=True)
    return str(value)


def sort(rows: Sequence[Row], column: str, *, descending: bool) -> list[Row]:
    """Returns rows by a column: numbers, then texts, and what is missing last; equal rows keep their order."""

    def key(row: Row) -> tuple[int, float, str]:
        value = value_at(row, column)
        if isinstance(value, int | float):
            return (0, float(value), "")
        return (1, 0.0, text_of(value))

    present = [row for row in rows if value_at(row, column) is not None]
    missing = [row for row in rows if value_at(row, column) is None]
    return sorted(present, key=key, reverse=descending) + missing


def aggregate(rows: Sequence[Row], column: str, operation: str) -> Any:
    """Returns one figure of a column. Raises SkillError where numbers are needed and something else is there."""
    values = [value for row in rows if (value := value_at(row, column)) is not None]
    if operation == "count":
        return len(values)
    if operation == "distinct":
        return len({text_of(value) for value in values})
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise SkillError(f"aggregates: {operation} of {column!r} needs numbers, found {text_of(value)[:40]!r}")
    if not values:
        return None
    if operation == "mean":
        return math.fsum(values) / len(values)
    return {"sum": math.fsum if any(isinstance(v, float) for v in values) else sum, "min": min, "max": max}[operation](
        values
    )


def build(title: str, rows: Sequence[Row], options: dict[str, Any]) -> Report:
    """Returns the report of records after the options of the action fromRecords."""
    if "sortBy" in options:
        rows = sort(rows, options["sortBy"], descending=options.get("descending", False))
    columns = options.get("columns") or columns_of(rows)
    figures = options.get("aggregates", [])
    group = options.get("groupBy")
    sections: list[Section] = []
    if group is None:
        sections += [_figures("Figures", rows, figures)] if figures else []
        sections.append(_table("Records", rows, columns))
    else:
        groups: dict[str, list[Row]] = {}
        for row in rows:
            groups.setdefault(text_of(value_at(row, group)) or "(none)", []).append(row)
        sections.append(_overview(group, groups, figures))
        shown = [column for column in columns if column != group]
        sections += [_table(f"{group}: {name}", groups[name], shown) for name in sorted(groups)]
    return Report(title, (f"{len(rows)} records.",), tuple(sections))


def _table(title: str, rows: Sequence[Row], columns: Sequence[str]) -> Section:
    cells = tuple(tuple(text_of(value_at(row, column)) for column in columns) for row in rows)
    return Section(title, tuple(columns), cells)


def _figures(title: str, rows: Sequence[Row], figures: Sequence[dict[str, str]]) -> Section:
    cells = tuple((f"{f['op']} of {f['column']}", text_of(aggregate(rows, f["column"], f["op"]))) for f in figures)
    return Section(title, ("Figure", "Value"), cells)


def _overview(group: str, groups: dict[str, list[Row]], figures: Sequence[dict[str, str]]) -> Section:
    head = (group, "records", *(f"{f['op']} of {f['column']}" for f in figures))
    cells = tuple(
        (name, str(len(rows)), *(text_of(aggregate(rows, f["column"], f["op"])) for f in figures))
        for name, rows in sorted(groups.items())
    )
    return Section("Overview", head, cells)

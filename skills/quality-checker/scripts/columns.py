"""Rules for records."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from finding import Finding

from openclaw_skill import SkillError

_MORE = "more values than the header has names"
_NUMBER = re.compile(r"[+-]?\d+(?:\.\d+)?(?:[eE][+-]?\d{1,3})?")
_SHOWN = 100


@dataclass(frozen=True)
class Rule:
    """What the values of one column must be."""

    name: str
    type: str
    required: bool
    unique: bool
    minimum: float | None
    maximum: float | None
    pattern: re.Pattern[str] | None
    values: tuple[Any, ...] | None


def rules_of(given: Sequence[dict[str, Any]]) -> list[Rule]:
    """Reads the rules. Raises SkillError that names the column and what is wrong."""
    rules = []
    for each in given:
        name = each["name"]
        try:
            pattern = re.compile(each["pattern"]) if "pattern" in each else None
        except re.error as error:
            raise SkillError(f"columns: pattern of {name}, {each['pattern']!r}, does not compile: {error}") from None
        low, high = each.get("minimum"), each.get("maximum")
        if low is not None and high is not None and low > high:
            raise SkillError(f"columns: minimum of {name}, {low}, is more than its maximum, {high}")
        values = tuple(each["values"]) if "values" in each else None
        required, unique = each.get("required", True), each.get("unique", False)
        rules.append(Rule(name, each.get("type", "string"), required, unique, low, high, pattern, values))
    return rules


def read(text: str, suffix: str, path: str) -> list[dict[str, Any]]:
    """Returns the records of a file. Raises SkillError."""
    text = text.removeprefix("\ufeff")  # of programs that write tables
    try:
        match suffix:
            case ".csv":
                rows = csv.DictReader(io.StringIO(text), restkey=_MORE, strict=True)
                return [{name: value for name, value in row.items() if value is not None} for row in rows]
            case ".jsonl":
                found = [json.loads(line) for line in text.splitlines() if line.strip()]
            case ".json":
                found = json.loads(text)
            case _:
                raise SkillError(f"path: {path!r} must end in .json, .jsonl or .csv")
    except (ValueError, csv.Error) as error:
        raise SkillError(f"path: {path!r} cannot be read as {suffix}: {error}") from None
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise SkillError(f"path: {path!r} must hold a list of objects")
    return found


def check(records: Sequence[dict[str, Any]], rules: Sequence[Rule], *, others: bool, least: int) -> list[Finding]:
    """Returns what is wrong, record by record (numbered from 1)."""
    found = []
    if len(records) < least:
        found.append(Finding("error", "records", f"{len(records)} records, at least {least} are wanted"))
    known = {rule.name for rule in rules}
    seen: dict[str, dict[str, int]] = {rule.name: {} for rule in rules if rule.unique}
    for number, record in enumerate(records, 1):
        if _MORE in record:
            found.append(Finding("error", "column", _MORE, number))
        elif not others and (more := record.keys() - known):
            found.append(Finding("error", "column", f"{', '.join(sorted(more))}: no such column is allowed", number))
        for rule in rules:
            value = record.get(rule.name)
            if value is None or value == "":
                if rule.required:
                    found.append(Finding("error", "required", f"{rule.name} is missing", number))
                continue
            found += [
                Finding("error", what, f"{rule.name}: {_shown(value)} {told}", number)
                for what, told in _wrong(value, rule)
            ]
            if rule.unique:
                first = seen[rule.name].setdefault(json.dumps(value, sort_keys=True), number)
                if first != number:
                    told = f"{rule.name}: {_shown(value)} is in record {first}, too"
                    found.append(Finding("error", "unique", told, number))
    return found


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _wrong(value: Any, rule: Rule) -> Iterator[tuple[str, str]]:
    typed = _typed(value, rule.type)
    if typed is None:
        yield "type", f"is no {rule.type}"
        return
    if isinstance(typed, int | float) and not isinstance(typed, bool):
        if rule.minimum is not None and typed < rule.minimum:
            yield "range", f"is below {rule.minimum:g}"
        if rule.maximum is not None and typed > rule.maximum:
            yield "range", f"is above {rule.maximum:g}"
    if rule.pattern is not None and not rule.pattern.fullmatch(str(value)):
        yield "pattern", f"does not match {rule.pattern.pattern}"
    if rule.values is not None and not any(
        typed == each and isinstance(typed, bool) == isinstance(each, bool) for each in rule.values
    ):
        yield "values", f"is none of {', '.join(map(str, rule.values))}"


def _typed(value: Any, kind: str) -> Any:
    """The value as its type; None where it is none. Files of CSV hold texts only."""
    try:
        match kind:
            case "string":
                return value if isinstance(value, str) else None
            case "boolean":
                return value if isinstance(value, bool) else {"true": True, "false": False}.get(str(value).lower())
            case "date":
                text = str(value)
                return date.fromisoformat(text) if len(text) == len("2026-01-31") else datetime.fromisoformat(text)
            case _ if isinstance(value, bool):
                return None
            case "integer":
                return value if isinstance(value, int) else int(value) if re.fullmatch(r"[+-]?\d+", value) else None
            case _:
                number = float(value) if not isinstance(value, str) or _NUMBER.fullmatch(value) else math.nan
                return (value if isinstance(value, int) else number) if math.isfinite(number) else None
    except (TypeError, ValueError, OverflowError):
        return None

"""Whether two label selectors may choose the same object. Pure.

https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#label-selectors
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_SET = re.compile(r"^(?P<key>\S+)\s+(?P<operator>in|notin)\s*\((?P<values>[^)]*)\)$")
_EQUAL = re.compile(r"^(?P<key>[^\s=!]+)\s*(?P<operator>==|=|!=)\s*(?P<value>\S*)$")


@dataclass(frozen=True)
class _Requirement:
    """What one part asks of a label: `values` it may have, None for any; `excluded` ones; whether it is `present`."""

    key: str
    values: frozenset[str] | None = None
    excluded: frozenset[str] = frozenset()
    present: bool | None = None


def disjoint(left: str, right: str) -> bool:
    """Whether no object can match both selectors; an empty one matches everything."""
    return any(_exclude(one, other) for one in _parse(left) for other in _parse(right) if one.key == other.key)


def _exclude(one: _Requirement, other: _Requirement) -> bool:
    if one.present is not None and other.present is not None and one.present != other.present:
        return True
    if one.values is not None and other.values is not None and not one.values & other.values:
        return True
    return any(
        first.values is not None and first.values <= second.excluded for first, second in ((one, other), (other, one))
    )


def _parse(selector: str) -> list[_Requirement]:
    # Commas inside of parentheses separate values.
    parts = [part.strip() for part in re.split(r",(?![^()]*\))", selector)]
    return [_requirement(part) for part in parts if part]


def _requirement(part: str) -> _Requirement:
    if match := _SET.match(part):
        values = frozenset(value.strip() for value in match["values"].split(","))
        if match["operator"] == "in":
            return _Requirement(match["key"], values=values, present=True)
        return _Requirement(match["key"], excluded=values)
    if match := _EQUAL.match(part):
        value = frozenset({match["value"]})
        if match["operator"] == "!=":
            return _Requirement(match["key"], excluded=value)
        return _Requirement(match["key"], values=value, present=True)
    if part.startswith("!"):
        return _Requirement(part[1:].strip(), present=False)
    return _Requirement(part, present=True)

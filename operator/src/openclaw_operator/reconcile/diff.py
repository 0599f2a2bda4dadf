"""Does a live object still hold what was asked for? Pure, tolerant of defaults and of what others added."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

from openclaw_operator.patches import list_key

# What is one value to the API server, although it could be merged: one subject more is another right given away, one
# label more in a selector and a Service has no pods, or a NetworkPolicy protects none.
_ATOMIC = frozenset({"subjects", "selector", "podSelector", "namespaceSelector", "matchLabels"})
_QUANTITY = re.compile(r"^\+?([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(Ki|Mi|Gi|Ti|Pi|Ei|[numkMGTPE]|[eE][+-]?[0-9]+)?$")
_SUFFIXES = {
    "": Decimal(1),
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    "k": Decimal(10**3),
    "M": Decimal(10**6),
    "G": Decimal(10**9),
    "T": Decimal(10**12),
    "P": Decimal(10**15),
    "E": Decimal(10**18),
    "Ki": Decimal(2**10),
    "Mi": Decimal(2**20),
    "Gi": Decimal(2**30),
    "Ti": Decimal(2**40),
    "Pi": Decimal(2**50),
    "Ei": Decimal(2**60),
}


def contains(live: Any, desired: Any) -> bool:
    """Whether everything in `desired` is in `live`; what `desired` leaves out may be anything."""
    if isinstance(desired, dict):
        if not isinstance(live, dict):
            return live is None and all(_empty(value) for value in desired.values())
        return all(
            contains(live.get(key), value) and (key not in _ATOMIC or len(live.get(key) or ()) == len(value or ()))
            for key, value in desired.items()
        )
    if isinstance(desired, list):
        return _contains_list(live or [], desired) if isinstance(live, list | None) else False
    if _empty(desired) and _empty(live):
        return True
    return bool(live == desired) or _same_quantity(live, desired)


def quantity(value: object) -> Decimal | None:
    """A Kubernetes quantity as a number, None when it is not one."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    match = _QUANTITY.match(str(value))
    if not match:
        return None
    number, suffix = match.group(1), match.group(2) or ""
    if suffix in _SUFFIXES:
        return Decimal(number) * _SUFFIXES[suffix]
    return Decimal(number) * Decimal(10) ** int(suffix[1:])


def _contains_list(live: list[Any], desired: list[Any]) -> bool:
    key = list_key(desired)
    if key is None:
        return len(live) == len(desired) and all(map(contains, live, desired))
    by_key = {item.get(key): item for item in live if isinstance(item, dict)}
    return all(item[key] in by_key and contains(by_key[item[key]], item) for item in desired)


def _empty(value: object) -> bool:
    """What the API server leaves out when it writes an object."""
    return value is None or value is False or value in ("", 0) or (isinstance(value, dict | list) and not value)


def _same_quantity(live: object, desired: object) -> bool:
    left, right = quantity(live), quantity(desired)
    return left is not None and left == right

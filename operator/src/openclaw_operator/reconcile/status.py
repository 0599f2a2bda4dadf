"""Conditions and status patches. Pure: the time comes in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

# Reasons of an agent that its author stopped: not ready, and nothing is wrong.
MEANT_TO_STOP = frozenset({"Suspended", "ScaledToZero"})
# Ready, because the next message wakes it.
HIBERNATED = "Hibernated"
# A message quotes what the user wrote. The CRD takes 32768 characters; nobody reads more than this.
MESSAGE_LENGTH = 2048


@dataclass(frozen=True)
class Condition:
    """One condition as it is now; the time of its last flip is worked out against the old status."""

    type: str
    status: bool | None
    reason: str
    message: str

    @property
    def text(self) -> str:
        """The status as metav1 spells it."""
        return {True: "True", False: "False", None: "Unknown"}[self.status]


def conditions(
    old: Iterable[Mapping[str, Any]], new: Iterable[Condition], generation: int, now: str
) -> list[dict[str, Any]]:
    """The conditions to report, in the order of `new`; lastTransitionTime moves only when status flips."""
    known = {item["type"]: item for item in old}
    result = []
    for condition in new:
        before = known.get(condition.type)
        flipped = before is None or before["status"] != condition.text
        result.append(
            {
                "type": condition.type,
                "status": condition.text,
                "reason": condition.reason,
                "message": shorten(condition.message),
                "lastTransitionTime": now if before is None or flipped else before["lastTransitionTime"],
                "observedGeneration": generation,
            }
        )
    return result


def shorten(message: str) -> str:
    """The beginning, with the field, and the end, with the fix."""
    if len(message) <= MESSAGE_LENGTH:
        return message
    half = (MESSAGE_LENGTH - 5) // 2
    return f"{message[:half]} ... {message[-half:]}"


def patch(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON merge patch from `old` to `new`; None in `new` means absent. Empty when there is nothing to write."""
    changed: dict[str, Any] = {}
    for key, value in new.items():
        before = old.get(key)
        if isinstance(value, Mapping) and isinstance(before, Mapping):
            gone = {inner: None for inner in before if inner not in value}
            inner_patch = patch(before, {**gone, **value})
            if inner_patch:
                changed[key] = inner_patch
        elif before != value:
            changed[key] = value
    return changed


def told_condition(status: Mapping[str, Any], type_: str) -> Mapping[str, Any] | None:
    """A condition as a status tells it."""
    return next((item for item in status.get("conditions") or () if item["type"] == type_), None)


def ready_condition(status: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The Ready condition of a status."""
    return told_condition(status, "Ready")


def readiness(status: Mapping[str, Any]) -> str:
    """True, False or Unknown as the Ready condition says; Suspended where the author stopped the agent, Hibernated
    where it sleeps until the next message."""
    ready = ready_condition(status)
    if ready is None:
        return "Unknown"
    if ready["reason"] in MEANT_TO_STOP:
        return "Suspended"
    return HIBERNATED if ready["reason"] == HIBERNATED else str(ready["status"])

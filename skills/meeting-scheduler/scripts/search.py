"""Looking for slots."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import Any

from people import Participant, Span


@dataclass(frozen=True)
class Wish:
    """How long the meeting is, at which times it may begin, and how much time around it must be free."""

    duration: timedelta
    step: timedelta
    buffer: timedelta


def find(everybody: Sequence[Participant], span: Span, wish: Wish, limit: int) -> dict[str, Any]:
    """Returns the best slots, which do not overlap; where there is none, the one the fewest are in the way of."""
    found: list[tuple[int, datetime, list[str]]] = []
    closest: tuple[int, datetime, list[str]] | None = None
    for start in _starts(span, wish):
        end = start + wish.duration
        away = [each for each in everybody if not each.has_time(start, end, wish.buffer)]
        needed = [each.name for each in away if not each.optional]
        if needed:
            if closest is None or len(needed) < closest[0]:
                closest = len(needed), start, needed
        else:
            found.append((len(away), start, [each.name for each in away]))
    slots: list[tuple[datetime, list[str]]] = []
    for _, start, missing in sorted(found, key=lambda slot: slot[:2]):
        if len(slots) < limit and all(abs(start - other) >= wish.duration for other, _ in slots):
            slots.append((start, missing))
    return {
        "slots": [_shown(start, wish, everybody, span) | {"missing": missing} for start, missing in slots],
        "closest": None if slots or closest is None else _closest(closest, wish, span),
    }


def _starts(span: Span, wish: Wish) -> Iterator[datetime]:
    """Every time of the span a meeting may begin at: multiples of the step on the clock of the meeting's zone."""
    for days in range((span.last - span.first).days + 1):
        midnight = datetime.combine(span.first + timedelta(days=days), time())
        for number in range(timedelta(days=1) // wish.step + 1):
            wall = midnight + number * wish.step
            start = wall.replace(tzinfo=span.zone).astimezone(UTC)
            # In the night in which clocks go forward an hour does not exist.
            exists = start.astimezone(span.zone).replace(tzinfo=None) == wall
            if exists and wall - midnight < timedelta(days=1) and start + wish.duration <= span.end:
                yield start


def _shown(start: datetime, wish: Wish, everybody: Sequence[Participant], span: Span) -> dict[str, Any]:
    local = {each.name: start.astimezone(each.zone).isoformat(timespec="minutes") for each in everybody}
    return {**_times(start, wish, span), "local": local}


def _times(start: datetime, wish: Wish, span: Span) -> dict[str, str]:
    ends = (start, start + wish.duration)
    first, last = (moment.astimezone(span.zone).isoformat(timespec="minutes") for moment in ends)
    return {"start": first, "end": last}


def _closest(closest: tuple[int, datetime, list[str]], wish: Wish, span: Span) -> dict[str, Any]:
    _, start, names = closest
    return {**_times(start, wish, span), "inTheWay": names}

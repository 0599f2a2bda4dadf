"""A participant: when they work and when they are busy."""

from __future__ import annotations

import bisect
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import calendars
import workspace
import zones

from openclaw_skill import SkillError

Interval = tuple[datetime, datetime]
_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_WORKING = ("mon", "tue", "wed", "thu", "fri")
_MAX_CALENDAR = 16 * 1024 * 1024


@dataclass(frozen=True)
class Span:
    """The days that are looked at, in the zone of the meeting."""

    first: date
    last: date
    zone: ZoneInfo

    @property
    def start(self) -> datetime:
        """The first moment, UTC."""
        return datetime.combine(self.first, time(), self.zone).astimezone(UTC)

    @property
    def end(self) -> datetime:
        """The moment after the last, UTC."""
        return datetime.combine(self.last + timedelta(days=1), time(), self.zone).astimezone(UTC)


@dataclass(frozen=True)
class Participant:
    """Somebody who is to come. Intervals are in UTC, in order, and do not touch."""

    name: str
    zone: ZoneInfo
    optional: bool
    working: tuple[Interval, ...]
    busy: tuple[Interval, ...]

    def has_time(self, start: datetime, end: datetime, buffer: timedelta) -> bool:
        """Returns whether they work all that time, with nothing else within `buffer` of it."""
        at = bisect.bisect_right(self.working, start, key=_begin) - 1
        if at < 0 or end > self.working[at][1]:
            return False
        # Of those that begin before it is over, the last is the one that ends last: they do not touch.
        at = bisect.bisect_left(self.busy, end + buffer, key=_begin) - 1
        return at < 0 or self.busy[at][1] <= start - buffer


def _begin(interval: Interval) -> datetime:
    return interval[0]


def participant_of(ctx: Any, given: dict[str, Any], span: Span) -> Participant:
    """Reads a participant. Raises SkillError that names them and what is wrong."""
    name = given["name"]
    where = f"participants: {name}"
    zone = zones.zone_of(given["timeZone"], f"{where}: timeZone") if "timeZone" in given else span.zone
    busy = [_busy(each, zone, where) for each in given.get("busy", ())]
    if "calendar" in given:
        place = workspace.locate_file(ctx, given["calendar"], f"{where}: calendar")
        text = workspace.read_text(ctx, place, _MAX_CALENDAR)
        try:
            busy += calendars.busy(text, span.start, span.end, zone)
        except calendars.CalendarError as error:
            raise SkillError(f"{where}: calendar {given['calendar']!r}: {error}") from None
    hours = _hours(given.get("workingHours", "09:00-17:00"), where)
    days = {_DAYS.index(day) for day in given.get("workingDays", _WORKING)}
    working = join(_working(span, zone, hours, days))
    return Participant(name, zone, given.get("optional", False), working, join(iter(busy)))


def join(intervals: Iterator[Interval]) -> tuple[Interval, ...]:
    """Returns the intervals in order, those that touch as one."""
    joined: list[Interval] = []
    for start, end in sorted(intervals):
        if joined and start <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(joined[-1][1], end)
        else:
            joined.append((start, end))
    return tuple(joined)


def _busy(given: dict[str, Any], zone: ZoneInfo, where: str) -> Interval:
    start, end = (zones.time_of(given[side], zone, f"{where}: busy.{side}") for side in ("start", "end"))
    if end <= start:
        raise SkillError(f"{where}: busy.end, {given['end']}, is not after its start, {given['start']}")
    return start.astimezone(UTC), end.astimezone(UTC)


def _hours(text: str, where: str) -> tuple[time, time]:
    try:
        start, end = (time.fromisoformat(part) for part in text.split("-"))
    except ValueError as error:
        raise SkillError(f"{where}: workingHours: {text!r} ({error}); write 09:00-17:00") from None
    if end <= start:
        raise SkillError(f"{where}: workingHours: {text!r} ends before it begins; write 09:00-17:00")
    return start, end


def _working(span: Span, zone: ZoneInfo, hours: tuple[time, time], days: set[int]) -> Iterator[Interval]:
    """Working hours are by the wall clock of the participant, so they move with daylight saving time."""
    day = span.first - timedelta(days=1)
    while day <= span.last + timedelta(days=1):
        if day.weekday() in days:
            start, end = (datetime.combine(day, side, zone).astimezone(UTC) for side in hours)
            if start < span.end and span.start < end:
                yield max(start, span.start), min(end, span.end)
        day += timedelta(days=1)

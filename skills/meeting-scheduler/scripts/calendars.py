"""Busy times of an iCalendar file (RFC 5545)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import recurrence

Interval = tuple[datetime, datetime]
_DURATION = re.compile(r"P(?:(\d+)W)?(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)S)?)?")


class CalendarError(Exception):
    """The file cannot be understood. `str()` names the event and what is wrong with it."""


@dataclass
class _Event:
    title: str = ""
    uid: str = ""
    start: datetime | None = None
    end: datetime | None = None
    all_day: bool = False
    lasts: timedelta | None = None
    rule: str = ""
    dates: list[datetime] = field(default_factory=list)
    excluded: set[datetime] = field(default_factory=set)
    instead_of: datetime | None = None
    free: bool = False


def busy(text: str, start: datetime, end: datetime, zone: tzinfo) -> Iterator[Interval]:
    """Yields the busy times between `start` and `end` in UTC. `zone` is that of times without one.

    Raises CalendarError for what cannot be understood: a meeting that is overlooked is worse than none found.
    """
    events = list(_events(text, zone))
    # An event that replaces one of a series takes its place, whatever it says.
    replaced: dict[str, set[datetime]] = {}
    for event in events:
        if event.instead_of is not None:
            replaced.setdefault(event.uid, set()).add(event.instead_of)
    for event in events:
        if event.free or event.start is None:
            continue
        lasts = _lasts(event)
        skip = event.excluded | (replaced.get(event.uid, set()) if event.instead_of is None else set())
        for begins in _begins(event, end):
            first, last = begins.astimezone(UTC), (begins + lasts).astimezone(UTC)
            if begins.astimezone(UTC) not in skip and first < end and start < last:
                yield first, last


def _begins(event: _Event, until: datetime) -> Iterator[datetime]:
    assert event.start is not None
    if not event.rule:
        yield event.start
    else:
        try:
            yield from recurrence.times(event.rule, event.start, until)
        except recurrence.RuleError as error:
            raise CalendarError(f"event {event.title or event.uid!r}: RRULE {event.rule}: {error}") from None
    yield from event.dates


def _lasts(event: _Event) -> timedelta:
    assert event.start is not None
    if event.lasts is not None:
        return event.lasts
    if event.end is not None:
        # By the wall clock: from 23:00 to 01:00 stays that in the night in which clocks change.
        return event.end.replace(tzinfo=None) - event.start.replace(tzinfo=None)
    return timedelta(days=1) if event.all_day else timedelta()


def _events(text: str, zone: tzinfo) -> Iterator[_Event]:
    event: _Event | None = None
    depth = 0
    # A long line goes on in the next one, after a space (RFC 5545, 3.1).
    for line in re.sub(r"\r?\n[ \t]", "", text).splitlines():
        name, parameters, value = _line(line)
        if name == "BEGIN" and value.upper() == "VEVENT":
            event, depth = _Event(), 0
        elif event is None:
            continue
        elif name == "BEGIN":
            depth += 1
        elif name == "END" and value.upper() == "VEVENT":
            yield event
            event = None
        elif name == "END":
            depth -= 1
        elif depth == 0:
            try:
                _take(event, name, parameters, value, zone)
            except ValueError as error:
                raise CalendarError(f"event {event.title or event.uid!r}: {name} {value!r}: {error}") from None


def _line(line: str) -> tuple[str, dict[str, str], str]:
    head, _, value = re.sub(r'"[^"]*"', lambda quoted: quoted[0].replace(":", "\0"), line).partition(":")
    name, *parts = head.split(";")
    parameters = dict(part.partition("=")[::2] for part in parts)
    plain = {key.upper(): text.strip('"').replace("\0", ":") for key, text in parameters.items()}
    return name.upper(), plain, value.replace("\0", ":")


def _take(event: _Event, name: str, parameters: dict[str, str], value: str, zone: tzinfo) -> None:
    match name:
        case "SUMMARY":
            event.title = value
        case "UID":
            event.uid = value
        case "DTSTART":
            event.start = _time(value, parameters, zone)
            event.all_day = len(value) == len("20260331")
        case "DTEND":
            event.end = _time(value, parameters, zone)
        case "DURATION":
            event.lasts = _duration(value)
        case "RRULE":
            event.rule = value
        case "RDATE":
            event.dates += [_time(part, parameters, zone) for part in value.split(",")]
        case "EXDATE":
            event.excluded |= {_time(part, parameters, zone).astimezone(UTC) for part in value.split(",")}
        case "RECURRENCE-ID":
            event.instead_of = _time(value, parameters, zone).astimezone(UTC)
        case "TRANSP" | "STATUS":
            event.free = event.free or value.upper() in {"TRANSPARENT", "CANCELLED"}
        case _:
            pass


def _time(value: str, parameters: dict[str, str], zone: tzinfo) -> datetime:
    if name := parameters.get("TZID"):
        try:
            zone = ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError(f"the time zone {name!r} is not known; export the calendar with IANA names") from None
    if len(value) == len("20260331"):
        return datetime.combine(date.fromisoformat(value), time(), zone)
    moment = datetime.strptime(value.removesuffix("Z"), "%Y%m%dT%H%M%S")  # noqa: DTZ007 - its zone follows
    return moment.replace(tzinfo=UTC if value.endswith("Z") else zone)


def _duration(value: str) -> timedelta:
    found = _DURATION.fullmatch(value.lstrip("+"))
    if found is None:
        raise ValueError("it is no duration like PT1H30M")
    weeks, days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return timedelta(weeks=weeks, days=days, hours=hours, minutes=minutes, seconds=seconds)

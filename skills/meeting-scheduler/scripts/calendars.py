"""Busy times of an iCalendar file (RFC 5545)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import recurrence

Interval = tuple[datetime, datetime]
_DURATION = re.compile(r"P(?:(\d{1,4})W)?(?:(\d{1,5})D)?(?:T(?:(\d{1,6})H)?(?:(\d{1,6})M)?(?:(\d{1,8})S)?)?")
_KINDS = (["VEVENT"], ["VFREEBUSY"])


class CalendarError(Exception):
    """The file cannot be understood. `str()` names the event, where it is in one, and what is wrong."""


@dataclass
class _Event:
    title: str = ""
    uid: str = ""
    start: datetime | None = None
    end: datetime | None = None
    all_day: bool = False
    lasts: tuple[timedelta, timedelta] | None = None
    periods: list[Interval] = field(default_factory=list)
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
        skip = event.excluded | (replaced.get(event.uid, set()) if event.instead_of is None else set())
        try:
            found = [*event.periods, *([] if event.free or event.start is None else _times(event, start, end, skip))]
        except (recurrence.RuleError, ValueError, OverflowError) as error:
            told = f"RRULE {event.rule}: {error}" if isinstance(error, recurrence.RuleError) else error
            raise CalendarError(f"event {event.title or event.uid!r}: {told}") from None
        yield from ((first, last) for first, last in found if first < end and start < last)


def _times(event: _Event, start: datetime, end: datetime, skip: set[datetime]) -> Iterator[Interval]:
    """When an event takes place, from about `start` on."""
    assert event.start is not None
    lasts = _end(event, event.start) - event.start.astimezone(UTC)
    if lasts < timedelta():
        raise ValueError(f"it ends before it begins, at {event.start.isoformat()}")
    begins = [event.start]
    if event.rule:
        begins = list(recurrence.times(event.rule, event.start, start - lasts, end))
    for each in (*begins, *event.dates):
        if each.astimezone(UTC) not in skip:
            yield each.astimezone(UTC), _end(event, each)


def _end(event: _Event, begins: datetime) -> datetime:
    """When one that begins then ends, in UTC."""
    assert event.start is not None
    if event.lasts is not None:
        # Days are by the wall clock, hours are exact (RFC 5545, 3.3.6).
        days, exact = event.lasts
        return (begins + days).astimezone(UTC) + exact
    if event.end is None:
        return (begins + timedelta(days=event.all_day)).astimezone(UTC)
    if event.end.tzinfo == event.start.tzinfo:
        # From 23:00 to 01:00 stays that in the night in which clocks change.
        wall = event.end.replace(tzinfo=None) - event.start.replace(tzinfo=None)
        return (begins + wall).astimezone(UTC)
    return begins.astimezone(UTC) + (event.end - event.start)


def _events(text: str, zone: tzinfo) -> Iterator[_Event]:
    event: _Event | None = None
    inside: list[str] = []
    # A long line goes on in the next one, after a space (RFC 5545, 3.1).
    lines = re.sub(r"\r?\n[ \t]", "", text.removeprefix("\ufeff")).splitlines()
    for name, parameters, value in map(_line, filter(str.strip, lines)):
        if not inside and (name, value.upper()) != ("BEGIN", "VCALENDAR"):
            raise CalendarError(f"it is no calendar: {name[:60]!r} stands where BEGIN:VCALENDAR must")
        if name == "BEGIN":
            inside.append(value.upper())
            event = _Event() if inside[1:] in _KINDS else event
        elif name == "END":
            if inside.pop() != value.upper():
                raise CalendarError(f"END:{value} ends what did not begin; export the calendar again")
            if event is not None and len(inside) == 1:
                yield event
                event = None
        elif event is not None and inside[1:] in _KINDS:
            try:
                (_take if inside[1] == "VEVENT" else _take_busy)(event, name, parameters, value, zone)
            except (ValueError, OverflowError) as error:
                raise CalendarError(f"event {event.title or event.uid!r}: {name} {value!r}: {error}") from None
    if inside or not lines:
        raise CalendarError("it is cut off, or empty; export the calendar again")


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


def _take_busy(event: _Event, name: str, parameters: dict[str, str], value: str, zone: tzinfo) -> None:
    """Of a list of busy times; its own start and end are those of the list."""
    if name == "FREEBUSY" and parameters.get("FBTYPE", "BUSY").upper() != "FREE":
        event.periods += [_period(part, parameters, zone) for part in value.split(",")]


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


def _period(text: str, parameters: dict[str, str], zone: tzinfo) -> Interval:
    start, _, end = text.partition("/")
    begins = _time(start, parameters, zone).astimezone(UTC)
    return begins, begins + sum(_duration(end), timedelta()) if end[:1] in "+P" else _time(
        end, parameters, zone
    ).astimezone(UTC)


def _duration(value: str) -> tuple[timedelta, timedelta]:
    """Days, and the exact rest."""
    found = _DURATION.fullmatch(value.lstrip("+"))
    if found is None:
        raise ValueError("it is no duration like PT1H30M")
    weeks, days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return timedelta(weeks=weeks, days=days), timedelta(hours=hours, minutes=minutes, seconds=seconds)

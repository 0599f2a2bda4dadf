"""Repeated events: the rules calendar programs write (RFC 5545, 3.3.10). What is not understood is refused."""

from __future__ import annotations

import calendar
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta

_DAYS = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")
_KNOWN = {
    "DAILY": {"BYDAY"},
    "WEEKLY": {"BYDAY", "WKST"},
    "MONTHLY": {"BYDAY", "BYMONTHDAY"},
    "YEARLY": set(),
}
MOST = 100_000


class RuleError(Exception):
    """The rule has a part that is not understood. `str()` names it."""


def times(rule: str, start: datetime, until: datetime) -> Iterator[datetime]:
    """Yields when a repeated event begins, from `start` on and before `until`, by the wall clock of its zone.

    Raises RuleError.
    """
    parts = dict(part.partition("=")[::2] for part in rule.upper().split(";") if part)
    frequency = parts.pop("FREQ", "")
    if frequency not in _KNOWN:
        raise RuleError(f"FREQ={frequency} is none of {', '.join(_KNOWN)}")
    every = _number(parts.pop("INTERVAL", "1"), "INTERVAL")
    count = _number(parts.pop("COUNT", str(MOST)), "COUNT")
    last = _until(parts.pop("UNTIL", ""), start)
    if unknown := parts.keys() - _KNOWN[frequency]:
        raise RuleError(f"{min(unknown)} with FREQ={frequency} is not understood")
    seen = 0
    for day in _days(frequency, every, parts, start.date()):
        begins = datetime.combine(day, start.timetz())
        if day < start.date():
            continue
        seen += 1
        if seen > min(count, MOST) or begins >= until or (last is not None and begins > last):
            return
        yield begins


def _number(text: str, name: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise RuleError(f"{name}={text} is no number from 1")
    return int(text)


def _until(text: str, start: datetime) -> datetime | None:
    if not text:
        return None
    try:
        if len(text) == len("20260331"):
            return datetime.combine(date.fromisoformat(text) + timedelta(days=1), start.timetz()) - timedelta.resolution
        moment = datetime.strptime(text.removesuffix("Z"), "%Y%m%dT%H%M%S")  # noqa: DTZ007 - its zone follows
    except ValueError:
        raise RuleError(f"UNTIL={text} is no time") from None
    return moment.replace(tzinfo=UTC if text.endswith("Z") else start.tzinfo)


def _days(frequency: str, every: int, parts: dict[str, str], first: date) -> Iterator[date]:
    """All days of the rule in order, without end; some may lie before `first`."""
    week = [_weekday(name) for name in parts.get("BYDAY", "").split(",") if name]
    step = 0
    while step < MOST:
        match frequency:
            case "DAILY":
                day = first + timedelta(days=step * every)
                if not week or (0, day.weekday()) in week:
                    yield day
            case "WEEKLY":
                # Weeks begin on Monday, or as the rule says: that decides which ones every second week leaves out.
                begins = _DAYS.index(parts.get("WKST", "MO")) if parts.get("WKST", "MO") in _DAYS else 0
                monday = first - timedelta(days=(first.weekday() - begins) % 7) + timedelta(weeks=step * every)
                wanted = {day for _, day in week} or {first.weekday()}
                yield from (day for at in range(7) if (day := monday + timedelta(days=at)).weekday() in wanted)
            case "MONTHLY":
                yield from _of_month(first, step * every, week, parts.get("BYMONTHDAY", ""))
            case _:
                year = first.year + step * every
                # The 29th of February repeats in leap years only.
                if first.day <= calendar.monthrange(min(year, date.max.year), first.month)[1]:
                    yield first.replace(year=min(year, date.max.year))
        step += 1


def _of_month(first: date, months: int, week: list[tuple[int, int]], by_day: str) -> Iterator[date]:
    index = first.year * 12 + first.month - 1 + months
    year, month = divmod(index, 12)
    month += 1
    if year > date.max.year:
        return
    length = calendar.monthrange(year, month)[1]
    if week:
        days = set()
        for nth, weekday in week:
            found = [day for day in range(1, length + 1) if date(year, month, day).weekday() == weekday]
            if nth == 0:
                days |= set(found)
            elif abs(nth) <= len(found):
                days.add(found[nth - 1 if nth > 0 else nth])
    else:
        wanted = [
            _number(part.lstrip("-"), "BYMONTHDAY") * (-1 if part[0] == "-" else 1)
            for part in by_day.split(",")
            if part
        ]
        days = {day if day > 0 else length + 1 + day for day in wanted or [first.day]}
    yield from (date(year, month, day) for day in sorted(days) if 1 <= day <= length)


def _weekday(text: str) -> tuple[int, int]:
    number, name = text[:-2], text[-2:]
    if name not in _DAYS or not (number.lstrip("+-").isdigit() or not number):
        raise RuleError(f"BYDAY={text} is no weekday like MO or 2TU")
    return int(number or 0), _DAYS.index(name)

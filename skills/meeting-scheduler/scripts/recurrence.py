"""Repeated events: the rules calendar programs write (RFC 5545, 3.3.10). What is not understood is refused."""

from __future__ import annotations

import calendar
import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta

_DAYS = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")
_KNOWN = {
    "DAILY": {"BYDAY"},
    "WEEKLY": {"BYDAY"},
    "MONTHLY": {"BYDAY", "BYMONTHDAY"},
    "YEARLY": set(),
}
_LONGEST = {"DAILY": 1, "WEEKLY": 7, "MONTHLY": 31, "YEARLY": 366}
"""Days of one step at most."""
MOST = 10_000
"""Of every number in a rule."""


class RuleError(Exception):
    """The rule has a part that is not understood. `str()` names it."""


def times(rule: str, start: datetime, since: datetime, until: datetime) -> Iterator[datetime]:
    """Yields when a repeated event begins, from about `since` on and before `until`, by the wall clock of its zone.

    Raises RuleError.
    """
    parts = dict(part.partition("=")[::2] for part in rule.upper().split(";") if part)
    frequency = parts.pop("FREQ", "")
    if frequency not in _KNOWN:
        raise RuleError(f"FREQ={frequency} is none of {', '.join(_KNOWN)}")
    every = _number(parts.pop("INTERVAL", "1"), "INTERVAL")
    count = _number(parts.pop("COUNT"), "COUNT") if "COUNT" in parts else None
    last = _until(parts.pop("UNTIL", ""), start)
    monday = parts.pop("WKST", "MO")
    if monday not in _DAYS:
        raise RuleError(f"WKST={monday} is none of {', '.join(_DAYS)}")
    if unknown := parts.keys() - _KNOWN[frequency]:
        raise RuleError(f"{min(unknown)} with FREQ={frequency} is not understood")
    step = 0
    if count is None:
        # What was years ago need not be counted.
        step = max(0, (since.date() - start.date()).days // (_LONGEST[frequency] * every) - 1)
    seen = 0
    for day in _days(frequency, every, parts, start.date(), step, _DAYS.index(monday)):
        if day < start.date():
            continue
        begins = datetime.combine(day, start.timetz())
        seen += 1
        if (count is not None and seen > count) or begins >= until or (last is not None and begins > last):
            return
        yield begins


def _number(text: str, name: str) -> int:
    if not re.fullmatch("[0-9]{1,5}", text) or not 1 <= int(text) <= MOST:
        raise RuleError(f"{name}={text} is no number from 1 to {MOST}")
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


def _days(frequency: str, every: int, parts: dict[str, str], first: date, step: int, monday: int) -> Iterator[date]:
    """All days of the rule in order, to the end of time; some may lie before `first`. `monday` begins a week."""
    week = [_weekday(name) for name in parts.get("BYDAY", "").split(",") if name]
    try:
        while True:
            match frequency:
                case "DAILY":
                    day = first + timedelta(days=step * every)
                    if not week or (0, day.weekday()) in week:
                        yield day
                case "WEEKLY":
                    # When a week begins decides which ones every second week leaves out.
                    begins = first - timedelta(days=(first.weekday() - monday) % 7) + timedelta(weeks=step * every)
                    wanted = {day for _, day in week} or {first.weekday()}
                    yield from (day for at in range(7) if (day := begins + timedelta(days=at)).weekday() in wanted)
                case "MONTHLY":
                    yield from _of_month(first, step * every, week, parts.get("BYMONTHDAY", ""))
                case _:
                    year = first.year + step * every
                    # The 29th of February repeats in leap years only.
                    if first.day <= calendar.monthrange(year, first.month)[1]:
                        yield first.replace(year=year)
            step += 1
    except (OverflowError, ValueError):
        # The year after 9999.
        return


def _of_month(first: date, months: int, week: list[tuple[int, int]], by_day: str) -> Iterator[date]:
    """The days of the month so many after `first`: those of `week` and of `by_day`, where both are there."""
    year, month = divmod(first.year * 12 + first.month - 1 + months, 12)
    length = calendar.monthrange(year, month + 1)[1]
    days = set(range(1, length + 1))
    if week:
        named = set()
        for nth, weekday in week:
            found = [day for day in sorted(days) if date(year, month + 1, day).weekday() == weekday]
            if nth == 0:
                named |= set(found)
            elif abs(nth) <= len(found):
                named.add(found[nth - 1 if nth > 0 else nth])
        days &= named
    numbers = [_day_number(part) for part in by_day.split(",") if part]
    if numbers or not week:
        days &= {day if day > 0 else length + 1 + day for day in numbers or [first.day]}
    yield from (date(year, month + 1, day) for day in sorted(days))


def _day_number(text: str) -> int:
    return _number(text.removeprefix("-"), "BYMONTHDAY") * (-1 if text.startswith("-") else 1)


def _weekday(text: str) -> tuple[int, int]:
    number, name = text[:-2], text[-2:]
    if name not in _DAYS or not (number.lstrip("+-").isdigit() or not number):
        raise RuleError(f"BYDAY={text} is no weekday like MO or 2TU")
    return int(number or 0), _DAYS.index(name)

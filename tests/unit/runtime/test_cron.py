"""When a cron schedule is due, over clock changes too."""

from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from zoneinfo import ZoneInfo

import pytest

from openclaw_runtime.schedules import cron


def at(text: str, zone: str = "Etc/UTC", fold: int = 0) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold).timestamp()


def following(schedule: str, zone: str, after: float, count: int) -> list[str]:
    def times() -> Iterator[str]:
        moment = after
        while (found := cron.next_after(schedule, zone, moment)) is not None:
            moment = found
            yield datetime.fromtimestamp(moment, UTC).strftime("%m-%d %H:%M")

    return list(islice(times(), count))


@pytest.mark.parametrize(
    ("schedule", "zone", "after", "expected"),
    [
        ("0 9,18 * * *", "Etc/UTC", "2026-11-27T09:00", ["11-27 18:00", "11-28 09:00"]),
        ("0 0 * * 0", "Etc/UTC", "2026-11-27T09:00", ["11-29 00:00", "12-06 00:00"]),
        ("@daily", "Asia/Kolkata", "2026-11-27T09:00", ["11-27 18:30", "11-28 18:30"]),
        # In Berlin the clocks skip 02:00 to 03:00 on 29 March: the run comes right after.
        ("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00", ["03-29 01:00", "03-30 00:30"]),
        # On 25 October 02:00 to 03:00 comes twice: the run comes once, an hourly one both times.
        ("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00", ["10-25 00:30", "10-26 01:30"]),
        ("30 * * * *", "Europe/Berlin", "2026-10-25T01:45", ["10-25 00:30", "10-25 01:30", "10-25 02:30"]),
    ],
)
def test_the_next_times(schedule: str, zone: str, after: str, expected: list[str]) -> None:
    assert following(schedule, zone, at(after, zone), len(expected)) == expected


def test_an_hour_that_comes_twice_gives_no_time_that_is_past() -> None:
    again = at("2026-10-25T02:10", "Europe/Berlin", fold=1)
    assert following("30 2 * * *", "Europe/Berlin", again, 1) == ["10-26 01:30"]


@pytest.mark.parametrize(
    ("schedule", "after", "until", "expected"),
    [
        ("0 9 * * *", "2026-11-27T08:59", "2026-11-27T09:00", "2026-11-27T09:00"),
        ("0 9 * * *", "2026-11-27T09:00", "2026-11-28T08:59", None),
        ("0 9 * * *", "2026-11-01T09:00", "2026-11-27T08:59", "2026-11-26T09:00"),
        ("* * * * *", "2000-01-01T00:00", "2026-11-27T08:59", "2026-11-27T08:59"),
        ("1-5 * * 1-5 1-5", "2000-01-01T00:00", "2026-11-27T08:59", "2026-05-29T23:05"),
        ("0 0 29 2 *", "2000-01-01T00:00", "2026-11-27T08:59", "2024-02-29T00:00"),
        ("0 0 1 1 *", "2026-01-01T00:00", "2026-11-27T08:59", None),
        ("0 9 * * *", "2026-11-28T00:00", "2026-11-27T00:00", None),
    ],
)
def test_of_the_times_missed_the_latest_is_found(schedule: str, after: str, until: str, expected: str | None) -> None:
    found = cron.latest(schedule, "Etc/UTC", at(after), at(until))
    assert found == (None if expected is None else at(expected))

"""Times of a cron schedule in a time zone. Pure: every moment is given, as Unix seconds.

Clock changes are treated as Debian's cron does: a time that the clocks skip comes right after, one that comes twice
comes once; a schedule of every hour or minute goes by elapsed time.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

MACROS: Final = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_ANY_DAY = datetime(2000, 1, 1, tzinfo=UTC)


@lru_cache(maxsize=1024)
def check_cron(schedule: str) -> str:
    """Returns the schedule. Raises ValueError for one that is none, or that has no time in fifty years."""
    fields = MACROS.get(schedule, schedule)
    problem = None
    if len(fields.split()) != 5:
        problem = "it has not five fields"
    else:
        try:
            next(CronSim(fields, _ANY_DAY))
        except CronSimError as error:
            problem = str(error)[:1].lower() + str(error)[1:]
        except StopIteration:
            problem = "it has no time in fifty years"
    if problem:
        raise ValueError(f"{schedule!r} is not a cron schedule ({problem}); write five fields, like 0 9,18 * * *")
    return schedule


@lru_cache(maxsize=1024)
def check_time_zone(name: str) -> str:
    """Returns the name. Raises ValueError for one that the IANA database does not have."""
    try:
        known = ZoneInfo(name).key == name
    except (OSError, ValueError, KeyError):
        known = False
    if not known:
        raise ValueError(f"{name!r} is not an IANA time zone, like Europe/Riga or Etc/UTC")
    return name


def next_after(schedule: str, time_zone: str, after: float) -> float | None:
    """Returns the first time after a moment, or None if there is none in fifty years."""
    return next(_times(schedule, time_zone, after), None)


def latest(schedule: str, time_zone: str, after: float, until: float) -> float | None:
    """Returns the last time in (`after`, `until`], or None.

    Halves what is left to look at: a minute's schedule has half a million times in a year.
    """
    found: float | None = None
    first, last = after, until
    while last - first > 0:
        moment = next_after(schedule, time_zone, first if found is None else (first + last) / 2)
        if moment is not None and moment <= until:
            found = first = moment
        elif found is None or last - first < 1:
            break
        else:
            last = (first + last) / 2
    return found


def _times(schedule: str, time_zone: str, after: float) -> Iterator[float]:
    start = datetime.fromtimestamp(after, ZoneInfo(time_zone))
    for moment in CronSim(MACROS.get(schedule, schedule), start):
        # In an hour that comes twice the library counts from its first pass, whichever `start` is in.
        if (seconds := moment.timestamp()) > after:
            yield seconds

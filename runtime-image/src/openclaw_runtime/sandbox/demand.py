"""How many calls there were at once of late. Pure: the clock comes in."""

from collections.abc import Callable
from typing import Final

KEEP_SECONDS: Final = 60.0


class Peak:
    """The most calls at once in the last `KEEP_SECONDS`, or up to twice as long ago."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._since = clock()
        self._before = 0
        self._now = 0

    def note(self, calls: int) -> None:
        """Takes how many calls there are."""
        self._turn()
        self._now = max(self._now, calls)

    def value(self) -> int:
        """Returns the most that were noted."""
        self._turn()
        return max(self._before, self._now)

    def _turn(self) -> None:
        now = self._clock()
        if now - self._since >= KEEP_SECONDS:
            # What was noted longer ago than two spans counts no more.
            self._before = self._now if now - self._since < 2 * KEEP_SECONDS else 0
            self._now, self._since = 0, now

"""Time limits that stand still while somebody is asked something: what a person needs to answer is nobody's delay."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from types import TracebackType


class Countdown:
    """Calls `ended` once `seconds` have run, those that it stood still not counted. Pauses may overlap."""

    def __init__(self, seconds: float, ended: Callable[[], None]) -> None:
        self._left = seconds
        self._ended = ended
        self._pauses = 0
        self._stopped_at = 0.0
        self._over = False
        self.stood_still = 0.0
        """Seconds of the pauses so far, one that is not over only once it was cancelled."""
        self._run()

    def _run(self) -> None:
        loop = asyncio.get_running_loop()
        self._deadline = loop.time() + self._left
        self._handle = loop.call_at(self._deadline, self._fire)

    def _fire(self) -> None:
        self._over = True
        self._left = 0.0
        self._ended()

    def remaining(self) -> float:
        """Returns the seconds that are left."""
        if self._over or self._pauses:
            return self._left
        return max(0.0, self._deadline - asyncio.get_running_loop().time())

    def pause(self) -> None:
        """Lets it stand still until `resume` was called as often."""
        if not self._pauses:
            self._left = self.remaining()
            self._stopped_at = asyncio.get_running_loop().time()
            self._handle.cancel()
        self._pauses += 1

    def resume(self) -> None:
        """Ends one pause."""
        self._pauses -= 1
        if not self._pauses and not self._over:
            self.stood_still += asyncio.get_running_loop().time() - self._stopped_at
            self._run()

    def cancel(self) -> None:
        """Ends it; `ended` is not called any more."""
        if not self._over:
            self._left = self.remaining()
            self._over = True
            if self._pauses:
                self.stood_still += asyncio.get_running_loop().time() - self._stopped_at
        self._handle.cancel()


class TimeLimit:
    """As `asyncio.timeout`, which raises TimeoutError where the block takes longer, with pauses."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._timeout = asyncio.timeout(None)
        self._countdown: Countdown | None = None

    async def __aenter__(self) -> "TimeLimit":
        await self._timeout.__aenter__()
        self._countdown = Countdown(self._seconds, self._expire)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._countdown is not None:
            self._countdown.cancel()
        await self._timeout.__aexit__(kind, error, trace)

    def _expire(self) -> None:
        self._timeout.reschedule(0)

    @property
    def expired(self) -> bool:
        """Whether it was this limit that ended the block."""
        return self._timeout.expired()

    @property
    def stood_still(self) -> float:
        """Seconds that it stood still, once the block has ended."""
        return 0.0 if self._countdown is None else self._countdown.stood_still

    def remaining(self) -> float:
        """Returns the seconds that are left."""
        return self._seconds if self._countdown is None else self._countdown.remaining()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Lets the limit stand still for the block. May be entered from any task, and several times at once."""
        countdown = self._countdown
        if countdown is not None:
            countdown.pause()
        try:
            yield
        finally:
            if countdown is not None:
                countdown.resume()

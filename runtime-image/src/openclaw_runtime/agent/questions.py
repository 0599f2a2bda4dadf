"""What a skill asks its user: one question at a time for each turn, bounded in number and time, ended with the gateway.

How a question reaches the user, and the answer comes back, is the turn's `Ask`: see `gateway.conversations` for people,
and the bus for agents that work for another one.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

from openclaw_runtime.errors import NoAnswerError

Show = Callable[[], Awaitable[None]]
"""Says the question as the turn's answer so far, once whoever asks is ready for what comes back."""

Ask = Callable[[str, Show], Awaitable[str]]
"""Asks a turn's user: the question, and what shows it. Raises `NoAnswerError` or another `OpenClawError`."""


class Questions:
    """The questions that are open at this replica, those that wait for their turn included."""

    def __init__(self) -> None:
        self._waiting: set[asyncio.Future[str]] = set()
        self._ended: str | None = None
        self.open = 0

    @contextmanager
    def one(self, most: int) -> Iterator[None]:
        """Counts a question. Raises `NoAnswerError` when `most` are open already."""
        if self.open >= most:
            raise NoAnswerError(f"{most} questions wait for their users already, which is what execution allows")
        self.open += 1
        try:
            yield
        finally:
            self.open -= 1

    async def answer(self, asking: Awaitable[str], seconds: float) -> str:
        """Returns the answer that `asking` waits for. Raises `NoAnswerError` when it takes longer, or after `end`."""
        waiting = asyncio.ensure_future(asking)
        if self._ended:
            waiting.cancel()
        self._waiting.add(waiting)
        try:
            async with asyncio.timeout(seconds) as limit:
                return await waiting
        except TimeoutError:
            if limit.expired():
                raise NoAnswerError(f"nobody answered within {seconds:g} s") from None
            raise
        except asyncio.CancelledError:
            if self._ended and waiting.cancelled() and not _cancelled():
                raise NoAnswerError(self._ended) from None
            raise
        finally:
            self._waiting.discard(waiting)

    async def end(self, reason: str) -> None:
        """Ends every question, those to come included, with a reason."""
        self._ended = reason
        waiting = list(self._waiting)
        for each in waiting:
            each.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


def _cancelled() -> bool:
    """Returns whether this task itself is being cancelled, and not only what it waits for."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


class Slot:
    """A place among the skill calls at once. It is given up while the call's user is asked, for others to run."""

    def __init__(self, slots: asyncio.Semaphore) -> None:
        self._slots = slots
        self._held = False
        self._asking = 0
        self._over = False

    async def __aenter__(self) -> "Slot":
        await self._take()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._over = True
        self._give()

    @asynccontextmanager
    async def given_up(self) -> AsyncIterator[None]:
        """Gives the place up for the block; at its end it is waited for again. Several blocks may overlap."""
        self._asking += 1
        self._give()
        try:
            yield
        except asyncio.CancelledError:
            self._asking -= 1
            raise
        except BaseException:
            await self._return()
            raise
        await self._return()

    async def _return(self) -> None:
        self._asking -= 1
        if not self._asking:
            await self._take()

    async def _take(self) -> None:
        if self._held or self._over:
            return
        await self._slots.acquire()
        self._held = True
        self._give_back_if_over()

    def _give_back_if_over(self) -> None:
        """The call may have ended while its place was waited for."""
        if self._over:
            self._give()

    def _give(self) -> None:
        if self._held:
            self._held = False
            self._slots.release()

"""Requests that nobody waits for in a chat: a few at a time, fewer the longer they are.

Providers have no call that answers several prompts at once (their batch APIs answer within hours), and several prompts
in one request would read each other. So a batch is requests that are made side by side.
"""

import asyncio
import math
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

from openclaw_runtime.errors import ModelError
from openclaw_runtime.models.observer import BackgroundObserver

_SIZES = ((100, 10), (500, 5), (1_000, 3))
_LIMITED = "rate_limit_exceeded"


def batch_size(lengths: Sequence[float]) -> int:
    """Returns how many prompts of such lengths, in characters, are asked side by side: by their mean length."""
    mean = sum(lengths) / len(lengths)
    return next((size for below, size in _SIZES if mean < below), 1)


class Background:
    """Admits requests in the order they came, each as soon as the batch with it is not too large.

    One that a rate limit refused although it was retried is made once more when no other runs. If that fails too, or
    any other failure, the caller's own fallback answer is given, if there is one.
    """

    def __init__(self, observer: BackgroundObserver) -> None:
        self._observer = observer
        self._running: list[float] = []
        self._waiting: deque[tuple[float, asyncio.Future[None]]] = deque()

    async def run(self, prompt: str, ask: Callable[[], Awaitable[str]], fallback: str | None = None) -> str:
        """Returns the answer. Raises the `ModelError` of the last try where there is no `fallback`."""
        try:
            answer, outcome = await self._batched_or_single(len(prompt), ask)
        except ModelError:
            self._observer.background_done("failed" if fallback is None else "fallback")
            if fallback is None:
                raise
            return fallback
        self._observer.background_done(outcome)
        return answer

    async def _batched_or_single(self, length: float, ask: Callable[[], Awaitable[str]]) -> tuple[str, str]:
        try:
            async with self._admitted(length):
                return await ask(), "batch"
        except ModelError as error:
            if error.code != _LIMITED:
                raise
        # Infinitely long: nothing runs beside it.
        async with self._admitted(math.inf):
            return await ask(), "single"

    @asynccontextmanager
    async def _admitted(self, length: float) -> AsyncIterator[None]:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (length, turn)
        self._waiting.append(entry)
        self._admit()
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():
                # Admitted, and cancelled before it knew.
                self._running.remove(length)
            elif entry in self._waiting:
                self._waiting.remove(entry)
            self._admit()
            raise
        try:
            yield
        finally:
            self._running.remove(length)
            self._admit()

    def _admit(self) -> None:
        while self._waiting:
            length, turn = self._waiting[0]
            if turn.cancelled():
                self._waiting.popleft()
                continue
            if len(self._running) >= batch_size([*self._running, length]):
                break
            self._waiting.popleft()
            self._running.append(length)
            turn.set_result(None)
        self._observer.background_waiting(len(self._waiting))

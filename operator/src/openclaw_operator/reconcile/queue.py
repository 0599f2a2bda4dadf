"""A level-based work queue: a key waits at most once, is worked on by one worker at a time, and backs off on faults."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable

from openclaw_operator.errors import ApiError
from openclaw_operator.telemetry import Metrics, about

LOG = logging.getLogger(__name__)
FIRST_BACKOFF_SECONDS = 0.25
LAST_BACKOFF_SECONDS = 60.0
# kind, namespace, name
Key = tuple[str, str, str]
# Returns after how many seconds the key wants to be looked at again, None for not before something changes.
Reconcile = Callable[[Key], Awaitable[float | None]]


def backoff_seconds(failures: int, jitter: float) -> float:
    """Pause after the `failures`th fault in a row (1, 2, ...); `jitter` in 0..1 spreads it by a quarter."""
    plain: float = min(FIRST_BACKOFF_SECONDS * 2.0 ** min(failures - 1, 32), LAST_BACKOFF_SECONDS)
    return plain * (0.875 + jitter / 4)


class WorkQueue:
    """Keys to be reconciled. `monotonic` and `jitter` are the clock and the random source."""

    def __init__(
        self,
        reconcile: Reconcile,
        metrics: Metrics,
        *,
        monotonic: Callable[[], float],
        jitter: Callable[[], float],
    ) -> None:
        self._reconcile = reconcile
        self._metrics = metrics
        self._monotonic = monotonic
        self._jitter = jitter
        self._ready: deque[Key] = deque()
        self._waiting: set[Key] = set()
        self._working: set[Key] = set()
        self._again: set[Key] = set()
        # Worked on in a state that has been overtaken: how that ends says nothing about the new one.
        self._overtaken: set[Key] = set()
        self._failures: dict[Key, int] = {}
        self._timers: dict[Key, asyncio.TimerHandle] = {}
        self._available = asyncio.Semaphore(0)

    def add(self, key: Key) -> None:
        """Reconcile as soon as a worker is free; while it is being worked on, once more afterwards."""
        timer = self._timers.pop(key, None)
        if timer:
            timer.cancel()
        if key in self._waiting:
            return
        if key in self._working:
            self._again.add(key)
            return
        self._waiting.add(key)
        self._ready.append(key)
        self._metrics.queue.set(len(self._ready))
        self._available.release()

    def add_changed(self, key: Key) -> None:
        """Like add, for a resource whose author changed it: faults with what it was do not hold up what it is now."""
        self._failures.pop(key, None)
        if key in self._working:
            self._overtaken.add(key)
        self.add(key)

    def add_after(self, key: Key, seconds: float) -> None:
        """Reconcile in `seconds`, or earlier when somebody asks for it earlier."""
        if key in self._waiting:
            return
        loop = asyncio.get_running_loop()
        timer = self._timers.get(key)
        if timer:
            if timer.when() <= loop.time() + seconds:
                return
            timer.cancel()
        self._timers[key] = loop.call_later(seconds, self._due, key)

    def forget(self, key: Key) -> None:
        """The resource is gone: drop its timer and its history."""
        timer = self._timers.pop(key, None)
        if timer:
            timer.cancel()
        self._failures.pop(key, None)

    async def run(self, workers: int) -> None:
        """Work for ever."""
        async with asyncio.TaskGroup() as group:
            for _ in range(workers):
                group.create_task(self._work())

    def _due(self, key: Key) -> None:
        self._timers.pop(key, None)
        self.add(key)

    async def _work(self) -> None:
        while True:
            await self._available.acquire()
            key = self._ready.popleft()
            self._metrics.queue.set(len(self._ready))
            self._waiting.discard(key)
            self._working.add(key)
            try:
                with about(*key):
                    await self._one(key)
            finally:
                self._working.discard(key)
                self._overtaken.discard(key)
                if key in self._again:
                    self._again.discard(key)
                    self.add(key)

    async def _one(self, key: Key) -> None:
        started = self._monotonic()
        result = "ok"
        try:
            again = await self._reconcile(key)
        except ApiError as error:
            result = "fault"
            self._retry(key, error.retry_after, f"{error}")
        except Exception:
            # A bug met by one resource must not stop the others.
            result = "bug"
            LOG.exception("reconciling %s %s/%s failed", *key)
            self._retry(key, None, "unexpected error")
        else:
            self._failures.pop(key, None)
            if again is not None:
                self.add_after(key, again)
        finally:
            self._metrics.reconciles.labels(key[0], result).observe(self._monotonic() - started)

    def _retry(self, key: Key, at_least: float | None, message: str) -> None:
        if key in self._overtaken and not at_least:
            LOG.warning("%s %s/%s: %s; again at once, since it was changed meanwhile", *key, message)
            return
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        pause = max(backoff_seconds(failures, self._jitter()), at_least or 0.0)
        LOG.warning("%s %s/%s: %s; again in %.1f s", *key, message, pause)
        # What woke the key meanwhile is covered by the retry.
        self._again.discard(key)
        self.add_after(key, pause)

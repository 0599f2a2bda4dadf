"""A level-based work queue: a key waits at most once, is worked on by one worker at a time, and backs off on faults.

What is only to be told, a status, does not hold up what is to be done: it has one turn of eight while both wait.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable

from openclaw_operator.errors import ApiError
from openclaw_operator.telemetry import Metrics, about

LOG = logging.getLogger(__name__)
FIRST_BACKOFF_SECONDS = 0.25
LAST_BACKOFF_SECONDS = 60.0
# What is only told has one turn of so many while there is work.
NEWS_TURNS = 8
# kind, namespace, name
Key = tuple[str, str, str]
# Returns after how many seconds the key wants to be looked at again, None for not before something changes.
Reconcile = Callable[[Key], Awaitable[float | None]]


def backoff_seconds(failures: int, jitter: float) -> float:
    """Pause after the `failures`th fault in a row (1, 2, ...); `jitter` in 0..1 spreads it by a quarter."""
    plain: float = min(FIRST_BACKOFF_SECONDS * 2.0 ** min(failures - 1, 32), LAST_BACKOFF_SECONDS)
    return plain * (0.875 + jitter / 4)


def soonest(*pauses: float | None) -> float | None:
    """The shortest of some pauses, None where there is none."""
    return min((pause for pause in pauses if pause is not None), default=None)


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
        # In the order they came; a key is in one of the two.
        self._work: OrderedDict[Key, None] = OrderedDict()
        self._news: OrderedDict[Key, None] = OrderedDict()
        self._turns = 0
        self._workers = 0
        self._working: set[Key] = set()
        # To be looked at once more → whether only for news.
        self._again: dict[Key, bool] = {}
        # Worked on in a state that has been overtaken: how that ends says nothing about the new one.
        self._overtaken: set[Key] = set()
        self._failures: dict[Key, int] = {}
        # By key and whether they are for news.
        self._timers: dict[tuple[Key, bool], asyncio.TimerHandle] = {}
        self._available = asyncio.Semaphore(0)

    @property
    def busy(self) -> bool:
        """Whether there is work for more workers than there are: what can be told later need not be told now."""
        return 0 < self._workers < len(self._working) + len(self._work)

    def add(self, key: Key, *, news: bool = False) -> None:
        """Reconcile as soon as a worker is free; while it is being worked on, once more afterwards.

        `news`: only for the sake of what is told about it.
        """
        self._stop_timer(key, news=True)
        if not news:
            self._stop_timer(key, news=False)
        if key in self._working:
            self._again[key] = news and self._again.get(key, True)
            return
        if key in self._work or (news and key in self._news):
            return
        if key in self._news:
            del self._news[key]
        else:
            self._available.release()
        (self._news if news else self._work)[key] = None
        self._metrics.queue.set(len(self._work) + len(self._news))

    def add_changed(self, key: Key) -> None:
        """Like add, for a resource whose author changed it: faults with what it was do not hold up what it is now."""
        self._failures.pop(key, None)
        if key in self._working:
            self._overtaken.add(key)
        self.add(key)

    def add_after(self, key: Key, seconds: float, *, news: bool = False) -> None:
        """Reconcile in `seconds`, or earlier when somebody asks for it earlier."""
        if key in self._work or (news and key in self._news):
            return
        loop = asyncio.get_running_loop()
        timer = self._timers.get((key, news))
        if timer:
            if timer.when() <= loop.time() + seconds:
                return
            timer.cancel()
        self._timers[key, news] = loop.call_later(seconds, self._due, key, news)

    def forget(self, key: Key) -> None:
        """The resource is gone: drop its timers and its history."""
        self._stop_timers(key)
        self._failures.pop(key, None)

    async def run(self, workers: int) -> None:
        """Work for ever."""
        self._workers = workers
        async with asyncio.TaskGroup() as group:
            for _ in range(workers):
                group.create_task(self._worker())

    def _due(self, key: Key, news: bool) -> None:
        self._timers.pop((key, news), None)
        self.add(key, news=news)

    def _stop_timer(self, key: Key, *, news: bool) -> None:
        timer = self._timers.pop((key, news), None)
        if timer:
            timer.cancel()

    def _stop_timers(self, key: Key) -> None:
        for news in (False, True):
            self._stop_timer(key, news=news)

    def _next(self) -> Key:
        self._turns += 1
        lane = self._news if self._news and (self._turns % NEWS_TURNS == 0 or not self._work) else self._work
        key, _ = lane.popitem(last=False)
        self._metrics.queue.set(len(self._work) + len(self._news))
        return key

    async def _worker(self) -> None:
        while True:
            await self._available.acquire()
            key = self._next()
            # What it was to be looked at for later is looked at now.
            self._stop_timers(key)
            self._working.add(key)
            try:
                with about(*key):
                    await self._one(key)
            finally:
                self._working.discard(key)
                self._overtaken.discard(key)
                if key in self._again:
                    self.add(key, news=self._again.pop(key))

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
        self._again.pop(key, None)
        self.add_after(key, pause)

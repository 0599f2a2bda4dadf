"""Where a sandbox listens, and the queue of calls waiting for one."""

import asyncio
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from openclaw_runtime.sandbox.errors import SandboxUnavailableError
from openclaw_runtime.skills.types import QueueObserver, QueueOutcome

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A sandbox that is ready for one call: a pod's address, or the socket of a local runner."""

    name: str
    uid: str
    address: tuple[str, int] | Path


@dataclass(slots=True)
class _Lane:
    """One pool's sandboxes at hand, and the calls that wait because there is none."""

    free: dict[str, Endpoint] = field(default_factory=dict)
    waiting: deque[asyncio.Future[Endpoint]] = field(default_factory=deque)


class SandboxQueue:
    """Hands sandboxes to calls, first come, first served. A sandbox is handed out once.

    Which of the free sandboxes is taken is random, because several gateways share them: all taking the oldest would
    mean that all but one find it busy.
    """

    def __init__(self, choose: random.Random, clock: Clock) -> None:
        self._choose = choose
        self._clock = clock
        self._lanes: dict[str, _Lane] = {}
        self.observer: QueueObserver | None = None

    def _lane(self, pool: str) -> _Lane:
        return self._lanes.setdefault(pool, _Lane())

    def offer(self, pool: str, endpoint: Endpoint) -> None:
        """Adds a free sandbox: the call that has waited longest gets it."""
        lane = self._lane(pool)
        while lane.waiting:
            future = lane.waiting.popleft()
            if not future.done():
                future.set_result(endpoint)
                return
        lane.free[endpoint.uid] = endpoint

    def withdraw(self, pool: str, uid: str) -> bool:
        """Takes a free sandbox away, because it is gone or no longer ready; returns whether it was here."""
        lane = self._lanes.get(pool)
        if lane is None:
            return False
        found = lane.free.pop(uid, None) is not None
        self._forget_if_empty(pool, lane)
        return found

    def _forget_if_empty(self, pool: str, lane: _Lane) -> None:
        # A call that was just handed its sandbox may still hold a lane that was forgotten and made anew since.
        if not lane.free and not lane.waiting and self._lanes.get(pool) is lane:
            del self._lanes[pool]

    def take(self, pool: str) -> Endpoint | None:
        """Returns a free sandbox of the pool; None if there is none, or if calls wait for one."""
        lane = self._lanes.get(pool)
        if lane is None or not lane.free or lane.waiting:
            return None
        endpoint = lane.free.pop(self._choose.choice(list(lane.free)))
        self._forget_if_empty(pool, lane)
        self._tell(pool, 0.0, "served")
        return endpoint

    async def acquire(self, pool: str, deadline: float) -> Endpoint:
        """Returns a sandbox of the pool, waiting until `deadline` (by the clock of this queue).

        Raises `SandboxUnavailableError` at the deadline.
        """
        endpoint = self.take(pool)
        if endpoint is not None:
            return endpoint
        lane = self._lane(pool)
        future: asyncio.Future[Endpoint] = asyncio.get_running_loop().create_future()
        lane.waiting.append(future)
        started = self._clock()
        outcome: QueueOutcome = "cancelled"
        self._count(pool, lane)
        try:
            async with asyncio.timeout(max(0.0, deadline - started)):
                endpoint = await future
                outcome = "served"
                return endpoint
        except TimeoutError:
            outcome = "deadline"
            if future.done() and not future.cancelled():
                self.offer(pool, future.result())
            waited = self._clock() - started
            ahead = len(lane.waiting) - 1
            raise SandboxUnavailableError(
                f"no sandbox of pool {pool} became free within {waited:.1f} s ({max(0, ahead)} other calls wait for it)"
            ) from None
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                self.offer(pool, future.result())
            raise
        finally:
            if future in lane.waiting:
                lane.waiting.remove(future)
            self._forget_if_empty(pool, lane)
            self._count(pool, lane)
            self._tell(pool, self._clock() - started, outcome)

    def _count(self, pool: str, lane: _Lane) -> None:
        if self.observer is not None:
            self.observer.waiting(pool, _waiting(lane))

    def _tell(self, pool: str, seconds: float, outcome: QueueOutcome) -> None:
        if self.observer is not None:
            self.observer.waited(pool, seconds, outcome)

    def status(self) -> dict[str, dict[str, int]]:
        """Returns per pool how many sandboxes are free and how many calls wait."""
        return {pool: {"free": len(lane.free), "waiting": _waiting(lane)} for pool, lane in self._lanes.items()}


def _waiting(lane: _Lane) -> int:
    return sum(not future.done() for future in lane.waiting)

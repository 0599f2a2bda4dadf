"""How many local sandboxes wait: as many as there were calls at once of late, within bounds."""

import asyncio
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from openclaw_runtime.sandbox.demand import KEEP_SECONDS, Peak
from openclaw_runtime.sandbox.endpoint import Endpoint, SandboxQueue
from openclaw_runtime.sandbox.local import LocalPool, LocalRunner

LANE = "local"


class Process:
    """A runner's process that ends when it is told to."""

    def __init__(self) -> None:
        self.over = asyncio.Event()

    async def wait(self) -> int:
        await self.over.wait()
        return 0


class Lifeline:
    def __init__(self, process: Process) -> None:
        self._process = process

    def close(self) -> None:
        self._process.over.set()


class Place:
    """A pool whose runners start at once while it is `opened`, with a clock that stands until it is moved."""

    def __init__(self, folder: Path, **bounds: int) -> None:
        self.now = 0.0
        self.queue = SandboxQueue(random.Random(0), time.monotonic)
        self._folder = folder
        self._count = 0
        self.opened = asyncio.Event()
        self.opened.set()
        self.runners: dict[str, Any] = {}
        self.pool = LocalPool(self.queue, self._start, LANE, clock=lambda: self.now, **bounds)

    async def _start(self) -> LocalRunner:
        await self.opened.wait()
        self._count += 1
        own = self._folder / str(self._count)
        own.mkdir()
        process: Any = Process()
        lifeline: Any = Lifeline(process)
        self.runners[str(self._count)] = process
        return LocalRunner(Endpoint(own.name, own.name, own / "sock"), process, lifeline)

    async def calls(self, count: int) -> None:
        """So many calls at once, which end when all have their sandbox."""

        async def call() -> str:
            self.pool.expect()
            endpoint = self.queue.take(LANE) or await self.queue.acquire(LANE, time.monotonic() + 60)
            self.pool.taken(endpoint.uid)
            return endpoint.uid

        for uid in await asyncio.gather(*(call() for _ in range(count))):
            self.runners[uid].over.set()

    async def until(self, holds: Callable[[dict[str, int]], bool]) -> None:
        async with asyncio.timeout(60):
            while not holds(self.pool.status()):  # noqa: ASYNC110
                await asyncio.sleep(0.01)


async def test_as_many_wait_as_calls_came_at_once_until_fewer_come(tmp_path: Path) -> None:
    place = Place(tmp_path, warm=1, max_warm=3, limit=8)
    place.pool.fill()
    await place.until(lambda status: status["warm"] == 1)
    await place.calls(2)
    await place.until(lambda status: status == {"warm": 2, "starting": 0, "alive": 2})
    await place.calls(6)
    await place.until(lambda status: status == {"warm": 3, "starting": 0, "alive": 3})
    place.now = KEEP_SECONDS
    await place.calls(1)
    await place.until(lambda status: status == {"warm": 3, "starting": 0, "alive": 3})
    place.now = 2 * KEEP_SECONDS
    place.pool.fill()
    await place.until(lambda status: status == {"warm": 1, "starting": 0, "alive": 1})
    await place.pool.close()


async def test_what_waits_for_nobody_is_started_after_what_is_waited_for(tmp_path: Path) -> None:
    place = Place(tmp_path, warm=1, max_warm=4, limit=16)
    place.opened.clear()
    calls = asyncio.ensure_future(place.calls(4))
    await place.until(lambda _: place.queue.status() == {LANE: {"free": 0, "waiting": 4}})
    place.pool.fill()
    assert place.pool.status() == {"warm": 0, "starting": 4, "alive": 0}
    place.opened.set()
    await calls
    await place.until(lambda status: status == {"warm": 4, "starting": 0, "alive": 4})
    await place.pool.close()


def test_a_peak_is_forgotten_after_a_while() -> None:
    now = [0.0]
    peak = Peak(lambda: now[0])
    peak.note(5)
    now[0] = KEEP_SECONDS
    peak.note(2)
    assert peak.value() == 5
    now[0] = 2 * KEEP_SECONDS
    assert peak.value() == 2
    now[0] = 5 * KEEP_SECONDS
    assert peak.value() == 0

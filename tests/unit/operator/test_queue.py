from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from openclaw_operator.errors import ApiError, UnavailableError
from openclaw_operator.reconcile import queue
from openclaw_operator.reconcile.queue import Key, WorkQueue, backoff_seconds
from openclaw_operator.telemetry import Metrics

A: Key = ("Agent", "demo", "a")
B: Key = ("Agent", "demo", "b")


class Work:
    """Reconciles that a test lets go one by one."""

    def __init__(self) -> None:
        self.started: asyncio.Queue[Key] = asyncio.Queue()
        self.gates: dict[Key, asyncio.Queue[float | BaseException | None]] = {A: asyncio.Queue(), B: asyncio.Queue()}
        self.running: Counter[Key] = Counter()
        self.most: Counter[Key] = Counter()

    async def __call__(self, key: Key) -> float | None:
        self.running[key] += 1
        self.most[key] = max(self.most[key], self.running[key])
        self.started.put_nowait(key)
        result = await self.gates[key].get()
        self.running[key] -= 1
        if isinstance(result, BaseException):
            raise result
        return result

    def finish(self, key: Key, result: float | BaseException | None = None) -> None:
        self.gates[key].put_nowait(result)


@pytest.fixture
async def running() -> AsyncIterator[Callable[[Work], Awaitable[WorkQueue]]]:
    tasks: list[asyncio.Task[None]] = []

    async def start(work: Work) -> WorkQueue:
        made = WorkQueue(work, Metrics(), monotonic=asyncio.get_running_loop().time, jitter=lambda: 0.5)
        tasks.append(asyncio.create_task(made.run(3)))
        return made

    yield start
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


Start = Callable[[Work], Awaitable[WorkQueue]]


async def test_a_key_waits_once_and_is_never_worked_on_twice_at_once(running: Start) -> None:
    work = Work()
    made = await running(work)
    for _ in range(5):
        made.add(A)
    assert await work.started.get() == A
    for _ in range(5):
        made.add(A)
    work.finish(A)
    assert await work.started.get() == A
    work.finish(A)
    # Had it been queued once more, A would come before B.
    made.add(B)
    assert await work.started.get() == B
    assert work.most[A] == 1
    assert work.started.empty()


async def test_other_keys_go_on(running: Start) -> None:
    work = Work()
    made = await running(work)
    made.add(A)
    assert await work.started.get() == A
    made.add(B)
    assert await work.started.get() == B
    work.finish(B, RuntimeError("a bug"))
    made.add(B)
    assert await work.started.get() == B


@pytest.mark.parametrize("error", [UnavailableError("no answer"), RuntimeError("a bug")])
async def test_faults_are_tried_again(running: Start, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    pauses: list[int] = []

    def short(failures: int, jitter: float) -> float:
        pauses.append(failures)
        return 0.0

    monkeypatch.setattr(queue, "backoff_seconds", short)
    work = Work()
    made = await running(work)
    made.add(A)
    for _ in range(3):
        assert await work.started.get() == A
        work.finish(A, error)
    assert await work.started.get() == A
    assert pauses == [1, 2, 3]
    # A success starts the count anew.
    work.finish(A)
    made.add(A)
    assert await work.started.get() == A
    work.finish(A, error)
    assert await work.started.get() == A
    assert pauses == [1, 2, 3, 1]


async def test_a_change_by_the_author_does_not_wait_for_the_faults_of_before(
    running: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[int] = []

    def long(failures: int, jitter: float) -> float:
        pauses.append(failures)
        return 3600.0

    monkeypatch.setattr(queue, "backoff_seconds", long)
    work = Work()
    made = await running(work)
    made.add(A)
    assert await work.started.get() == A
    # It comes while the reconcile that is going to fail is under way.
    made.add_changed(A)
    work.finish(A, UnavailableError("no answer"))
    assert await work.started.get() == A
    assert pauses == []
    work.finish(A, UnavailableError("no answer"))
    made.add(B)
    assert await work.started.get() == B
    assert pauses == [1]
    # It comes while the key waits for its next try: at once, and the count starts anew.
    made.add_changed(A)
    assert await work.started.get() == A
    work.finish(A, UnavailableError("no answer"))
    work.finish(B)
    made.add(B)
    assert await work.started.get() == B
    assert pauses == [1, 1]


async def test_a_server_that_asks_for_patience_gets_it(running: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    work = Work()
    made = await running(work)
    asked: list[float] = []
    monkeypatch.setattr(made, "add_after", lambda _key, seconds: asked.append(seconds))
    made.add(A)
    await work.started.get()
    work.finish(A, ApiError(429, "TooManyRequests", "slow down", retry_after=7.0))
    made.add(B)
    await work.started.get()
    assert asked == [7.0]


async def test_a_result_asks_for_another_look(running: Start) -> None:
    work = Work()
    made = await running(work)
    made.add(A)
    await work.started.get()
    work.finish(A, 0.0)
    assert await work.started.get() == A


async def test_the_earlier_of_two_times_counts(running: Start) -> None:
    work = Work()
    made = await running(work)
    made.add_after(A, 3600)
    made.add_after(A, 0)
    assert await work.started.get() == A


async def test_what_is_forgotten_does_not_come_back(running: Start) -> None:
    work = Work()
    made = await running(work)
    made.add_after(A, 0.0)
    made.forget(A)
    made.add_after(B, 0.0)
    assert await work.started.get() == B
    assert work.started.empty()


class OneByOne:
    """What one worker does, in its order; the first reconcile waits for `begin`."""

    def __init__(self) -> None:
        self.done: list[Key] = []
        self.begun = asyncio.Event()
        self.begin = asyncio.Event()
        self.over = asyncio.Event()

    async def __call__(self, key: Key) -> None:
        self.begun.set()
        await self.begin.wait()
        self.done.append(key)
        if key[2] == "last":
            self.over.set()


def named(*names: object) -> list[Key]:
    return [("Agent", "demo", str(name)) for name in names]


@asynccontextmanager
async def one_worker() -> AsyncIterator[tuple[WorkQueue, OneByOne]]:
    """A queue whose one worker is held up by A; when the block ends it goes on until `last` is done."""
    work = OneByOne()
    made = WorkQueue(work, Metrics(), monotonic=asyncio.get_running_loop().time, jitter=lambda: 0.5)
    running = asyncio.create_task(made.run(1))
    made.add(A)
    await work.begun.wait()
    yield made, work
    work.begin.set()
    await asyncio.wait_for(work.over.wait(), 60)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_what_is_only_told_has_one_turn_of_eight_while_there_is_work() -> None:
    async with one_worker() as (made, work):
        for key in named("told", "later", "last"):
            made.add(key, news=True)
        for key in named(*range(12)):
            made.add(key)
        # It waits as work already.
        made.add(*named(3), news=True)
    assert work.done == [A, *named(*range(6), "told", *range(6, 12), "later", "last")]


async def test_work_overtakes_what_was_only_to_be_told() -> None:
    async with one_worker() as (made, work):
        made.add(B, news=True)
        made.add(*named("other"))
        made.add(B)
        made.add(B, news=True)
        made.add(*named("last"))
    assert work.done == [A, *named("other"), B, *named("last")]


async def test_news_do_not_put_work_off() -> None:
    """It waits among the news when its time as work comes."""
    async with one_worker() as (made, work):
        due = asyncio.Event()
        made.add_after(B, 0.0)
        made.add_after(B, 3600, news=True)
        made.add(B, news=True)
        asyncio.get_running_loop().call_later(0.0, due.set)
        await due.wait()
        for key in named(*range(9), "last"):
            made.add(key)
    assert work.done == [A, B, *named(*range(9), "last")]


async def test_it_is_busy_with_more_work_than_workers() -> None:
    async with one_worker() as (made, _):
        assert not made.busy
        made.add(B, news=True)
        assert not made.busy
        made.add(*named("last"))
        assert made.busy


def test_backoff_grows_to_a_cap() -> None:
    pauses = [backoff_seconds(number, 0.5) for number in range(1, 100)]
    assert pauses[:4] == [0.25, 0.5, 1.0, 2.0]
    assert pauses == sorted(pauses)
    assert pauses[-1] == queue.LAST_BACKOFF_SECONDS
    assert backoff_seconds(3, 0.0) < 1.0 < backoff_seconds(3, 1.0)

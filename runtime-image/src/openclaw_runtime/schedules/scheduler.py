"""Runs what is due. Every replica of an agent has one, and the store says which of them takes a slot."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractContextManager, aclosing
from dataclasses import dataclass
from typing import Any, Final

from openclaw_runtime.agent.events import TurnDone, TurnEvent, TurnRequest
from openclaw_runtime.errors import MemoryStoreError, OpenClawError
from openclaw_runtime.schedules.cron import latest, next_after
from openclaw_runtime.schedules.plan import Planned
from openclaw_runtime.schedules.store import LEASE_SECONDS, Outcome, Run, ScheduleStore
from openclaw_runtime.skills.audit import Audit, ScheduleRecord
from openclaw_runtime.telemetry import Metrics

logger = logging.getLogger(__name__)

LONGEST_WAIT: Final = 60.0
"""Between two looks at the clock, which may have been set, or have stood still with a laptop."""
_RUNNING_WAIT: Final = LEASE_SECONDS / 3
_RETRY_WAIT: Final = 5.0
_COUNTED: Final = ("succeeded", "failed", "skipped", "missed", "interrupted")


@dataclass(frozen=True)
class Turns:
    """How a turn is run: `admit` counts it as in flight or raises `OpenClawError`, `run` is the agent's loop."""

    admit: Callable[[str], AbstractContextManager[None]]
    run: Callable[[TurnRequest], AsyncGenerator[TurnEvent, None]]


class Scheduler:
    """The schedules of one agent at one replica. `now` is Unix time, `timer` a monotonic clock, both in seconds."""

    def __init__(
        self,
        agent: str,
        replica: str,
        store: ScheduleStore,
        turns: Turns,
        *,
        now: Callable[[], float],
        timer: Callable[[], float],
        metrics: Metrics,
        audit: Audit,
    ) -> None:
        self._agent = agent
        self._replica = replica
        self._store = store
        self._turns = turns
        self._now = now
        self._timer = timer
        self._metrics = metrics
        self._audit = audit
        self._plan: tuple[Planned, ...] = ()
        self._adopted: tuple[Planned, ...] | None = None
        self._changed = asyncio.Event()
        self._looking = asyncio.Lock()
        self._opened = False
        self._taking: set[str] = set()
        self._runs: set[asyncio.Task[None]] = set()
        self._running: set[tuple[str, float]] = set()
        self._ticking: asyncio.Task[None] | None = None

    def use(self, plan: tuple[Planned, ...]) -> None:
        """Makes the schedules those given. Runs that have begun go on."""
        if plan != self._plan:
            self._plan = plan
            self._changed.set()
        for item in plan:
            for outcome in _COUNTED:
                # From 0 on, or the first one would be no increase.
                self._metrics.schedule_runs.labels(item.name, outcome)

    def start(self, ready: Callable[[], Awaitable[None]]) -> None:
        """Begins to run what is due, once the agent is `ready`."""
        self._ticking = asyncio.create_task(self._forever(ready), name="schedules")

    async def pause(self) -> None:
        """Starts no more runs."""
        if self._ticking is not None:
            self._ticking.cancel()
            await asyncio.gather(self._ticking, return_exceptions=True)
            self._ticking = None

    async def close(self) -> None:
        """Ends the runs that still run: they are interrupted."""
        await self.pause()
        for run in self._runs:
            run.cancel()
        await self.idle()

    async def idle(self) -> None:
        """Returns when no run is under way."""
        while self._runs:
            await asyncio.gather(*self._runs, return_exceptions=True)

    async def tick(self) -> float:
        """Starts what is due now. Returns the seconds until the next look. Raises `MemoryStoreError`."""
        async with self._looking:
            return await self._look()

    async def _look(self) -> float:
        if not self._opened:
            await self._store.start()
            self._opened = True
        now, plan = self._now(), self._plan
        if plan != self._adopted:
            await self._store.adopt({item.name: item.definition for item in plan}, now)
            self._adopted = plan
        if not plan:
            return LONGEST_WAIT
        if self._running:
            await self._store.keep_alive(self._running, now)
        for name in await self._store.interrupt(now):
            self._metrics.schedule_runs.labels(name, "interrupted").inc()
        states = await self._store.states()
        for item in plan:
            state = states.get(item.name)
            if item.suspend or item.name in self._taking or state is None or state.definition != item.definition:
                continue
            slot = latest(item.cron, item.time_zone, state.settled, now)
            if slot is not None:
                self._begin(item, slot)
        return self._wait(now)

    async def view(self) -> list[dict[str, Any]]:
        """Returns every schedule with its last and its next run, for people. Raises `MemoryStoreError`."""
        runs = await self._store.runs() if self._opened else {}
        return [_view(item, runs.get(item.name, []), self._now()) for item in self._plan]

    async def _forever(self, ready: Callable[[], Awaitable[None]]) -> None:
        await ready()
        told: str | None = None
        while True:
            self._changed.clear()
            try:
                wait, told = await self.tick(), None
            except MemoryStoreError as error:
                if told != str(error):
                    told = str(error)
                    logger.warning("schedules wait for their store: %s", error)
                wait = _RETRY_WAIT
            except Exception:
                logger.exception("looking at the schedules failed")
                wait = LONGEST_WAIT
            try:
                async with asyncio.timeout(wait):
                    await self._changed.wait()
            except TimeoutError:
                pass

    def due(self) -> float | None:
        """Returns when something is to run next, in Unix seconds; None if nothing is."""
        return self._next(self._now())

    def _next(self, after: float) -> float | None:
        upcoming = (next_after(item.cron, item.time_zone, after) for item in self._plan if not item.suspend)
        return min((moment for moment in upcoming if moment is not None), default=None)

    def _wait(self, now: float) -> float:
        longest = _RETRY_WAIT if self._taking else _RUNNING_WAIT if self._runs else LONGEST_WAIT
        due = self._next(now)
        return longest if due is None else min(longest, due - now)

    def _begin(self, item: Planned, slot: float) -> None:
        self._taking.add(item.name)
        run = asyncio.create_task(self._take(item, slot), name=f"schedule-{item.name}")
        self._runs.add(run)
        run.add_done_callback(self._runs.discard)

    async def _take(self, item: Planned, slot: float) -> None:
        """Takes a slot, if no other replica has it, and runs it."""
        now = self._now()
        late = item.deadline is not None and now - slot > item.deadline
        outcome: Outcome | None = None
        try:
            # In flight before it is taken: a gateway that ends leaves the slot to another, or finishes its run.
            with self._turns.admit(item.session):
                wanted: Outcome = "missed" if late else "running"
                try:
                    outcome = await self._store.settle(
                        item.name, item.definition, slot, now, wanted, forbid=item.forbid
                    )
                finally:
                    self._taking.discard(item.name)
                if outcome == "running":
                    await self._run(item, slot)
                elif outcome is not None:
                    logger.warning("a run was %s", outcome, extra={"schedule": item.name})
                    await self._record(item, slot, outcome, now, 0.0)
        except OpenClawError as error:
            if outcome is None:
                logger.warning("a run has to wait: %s", error, extra={"schedule": item.name})
        finally:
            self._taking.discard(item.name)

    async def _run(self, item: Planned, slot: float) -> None:
        begun, started = self._now(), self._timer()
        self._running.add((item.name, slot))
        outcome: Outcome = "interrupted"
        message = "its gateway ended before it did"
        try:
            outcome, message = await self._turn(item)
        except OpenClawError as error:
            outcome, message = "failed", str(error)
            raise
        except Exception:
            logger.exception("a run failed", extra={"schedule": item.name})
            outcome, message = "failed", "the agent failed; its log has the details"
        finally:
            self._running.discard((item.name, slot))
            log = logger.info if outcome == "succeeded" else logger.warning
            log("a run %s: %s", outcome, message[:200], extra={"schedule": item.name})
            await self._record(item, slot, outcome, begun, (self._timer() - started) * 1000)
            try:
                await self._store.finish(item.name, slot, outcome, message, self._now())
            except MemoryStoreError as error:
                # Told as interrupted once its lease is over.
                logger.warning("how a run ended was not noted: %s", error, extra={"schedule": item.name})

    async def _turn(self, item: Planned) -> tuple[Outcome, str]:
        async with aclosing(self._turns.run(item.request())) as events:
            async for event in events:
                if isinstance(event, TurnDone):
                    return ("failed", event.error) if event.error else ("succeeded", event.text)
        raise AssertionError("a turn ends with TurnDone")

    async def _record(self, item: Planned, slot: float, outcome: Outcome, begun: float, duration_ms: float) -> None:
        self._metrics.schedule_runs.labels(item.name, outcome).inc()
        await self._audit.write(
            ScheduleRecord(
                time=begun,
                agent=self._agent,
                schedule=item.name,
                slot=slot,
                session=item.session,
                skill=item.call.skill if item.call else "",
                action=item.call.action if item.call else "",
                replica=self._replica,
                outcome=outcome,
                total_ms=round(duration_ms, 3),
            )
        )


def _view(item: Planned, runs: list[Run], now: float) -> dict[str, Any]:
    last = runs[0] if runs else None
    return {
        "name": item.name,
        "schedule": item.cron,
        "time_zone": item.time_zone,
        "trigger_of": item.skill,
        "prompt": item.prompt,
        "skill": item.call.skill if item.call else None,
        "action": item.call.action if item.call else None,
        "suspend": item.suspend,
        "session": item.session,
        "running": any(run.outcome == "running" for run in runs),
        "next_run": None if item.suspend else next_after(item.cron, item.time_zone, now),
        "last_run": None
        if last is None
        else {
            "slot": last.slot,
            "outcome": last.outcome,
            "started_at": last.started_at,
            "finished_at": last.finished_at,
            "message": last.message,
        },
    }

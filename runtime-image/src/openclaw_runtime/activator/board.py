"""What gateways say of themselves, who is needed, and what follows from it: is an agent idle?"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated, Final

import msgspec

from openclaw_runtime.activator.settings import Sleeper

LIVE_SECONDS: Final = 15.0
"""A gateway that has said nothing for so long is not counted any more; it does so every five seconds."""
SHORTEST_SLEEP_SECONDS: Final = 120.0
"""An agent that is due again sooner stays awake."""


class Report(msgspec.Struct, frozen=True):
    """What a gateway says of itself.

    `idle_seconds` is 0 while it has anything to do. `wake_at` is when it is due again, in Unix seconds. One that does
    not `accept` is shutting down.
    """

    replica: str
    address: str
    idle_seconds: float
    accepts: bool = True
    # Up to the end of the year 9999, or there would be no way to write it.
    wake_at: Annotated[float, msgspec.Meta(ge=0, lt=253_402_300_800)] | None = None


class State(msgspec.Struct, frozen=True):
    """What the operator is told of an agent: the data of its ConfigMap."""

    state: str
    replicas: str | None = None
    wake_at: str | None = msgspec.field(name="wakeAt", default=None)


ACTIVE: Final = State("active")


class Board:
    """`timer` is a monotonic clock and `now` Unix time, both in seconds; `changed` is told who is to be looked at.

    No agent is idle before it has been known for `settle_seconds`.
    """

    def __init__(
        self,
        timer: Callable[[], float],
        now: Callable[[], float],
        changed: Callable[[str], None],
        *,
        settle_seconds: float,
    ) -> None:
        self._timer = timer
        self._now = now
        self._changed = changed
        self._settle_seconds = settle_seconds
        self._known: dict[str, float] = {}
        self._reports: defaultdict[str, dict[str, tuple[float, Report]]] = defaultdict(dict)
        self._wanted: dict[str, float] = {}
        self._held: Counter[str] = Counter()
        self._served: Counter[str] = Counter()
        self._arrived: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)

    @property
    def held(self) -> int:
        """Requests that wait for a gateway."""
        return self._held.total()

    def report(self, agent: str, report: Report) -> None:
        """Takes note of what a gateway says."""
        now = self._timer()
        self._known.setdefault(agent, now)
        self._reports[agent][report.replica] = (now, report)
        if report.accepts:
            self._arrived[agent].set()
        self._changed(agent)

    def want(self, agent: str) -> None:
        """Somebody needs the agent now."""
        self._wanted[agent] = self._timer()
        self._changed(agent)

    def forget(self, agent: str, address: str) -> None:
        """Nobody answers at an address of the agent."""
        known = self._reports[agent]
        for replica in [replica for replica, (_, report) in known.items() if report.address == address]:
            del known[replica]

    def asleep(self, agent: str) -> bool:
        """Whether no gateway of the agent is known to take requests."""
        return not any(report.accepts for report in self._live(agent))

    @contextmanager
    def holding(self, agent: str) -> Iterator[None]:
        """While a request waits for a gateway of the agent."""
        self._held[agent] += 1
        try:
            yield
        finally:
            self._held[agent] -= 1

    async def address(self, agent: str) -> str:
        """Returns where a gateway of the agent takes requests, in turn, once there is one."""
        while True:
            accepting = sorted(report.address for report in self._live(agent) if report.accepts)
            if accepting:
                self._served[agent] += 1
                return accepting[self._served[agent] % len(accepting)]
            self._arrived[agent].clear()
            await self._arrived[agent].wait()

    def state(self, agent: str, sleeper: Sleeper) -> State | None:
        """Returns what is to be said of an agent; None while nothing is known that would change anything."""
        wanted = self._wanted.get(agent)
        if self._held[agent] or (wanted is not None and self._timer() - wanted < sleeper.idle_seconds):
            return ACTIVE
        live = self._live(agent)
        known = self._timer() - self._known.get(agent, self._timer())
        if live and (known < self._settle_seconds or any(each.idle_seconds < sleeper.idle_seconds for each in live)):
            return ACTIVE
        # Those that shut down, with nothing left to do, say nothing about the others.
        live = [report for report in live if report.accepts]
        if not live:
            return None
        due = min((report.wake_at for report in live if report.wake_at is not None), default=None)
        if due is not None and due - self._now() < SHORTEST_SLEEP_SECONDS:
            return ACTIVE
        at = None if due is None else datetime.fromtimestamp(due, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return State("idle", str(len(live)), at)

    def _live(self, agent: str) -> list[Report]:
        oldest = self._timer() - LIVE_SECONDS
        known = self._reports[agent]
        for replica in [replica for replica, (seen, _) in known.items() if seen < oldest]:
            del known[replica]
        return [report for _, report in known.values()]

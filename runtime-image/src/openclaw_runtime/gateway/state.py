"""The gateway while it runs: which loop answers, how many turns are in flight, whether it is ready."""

import asyncio
import traceback
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from typing import Any

from openclaw_runtime.agent.events import TurnEvent, TurnRequest
from openclaw_runtime.agent.loop import AgentLoop
from openclaw_runtime.bus.messages import Message
from openclaw_runtime.errors import OpenClawError
from openclaw_runtime.gateway.conversations import Conversations
from openclaw_runtime.gateway.idle import IdleClock
from openclaw_runtime.gateway.openai import RequestError
from openclaw_runtime.memory.attachments import AttachmentStore
from openclaw_runtime.memory.types import MemoryStore
from openclaw_runtime.models.spending import Spending
from openclaw_runtime.telemetry import Metrics

Check = Callable[[], Awaitable[None]]
"""Returns when a part works, else raises."""

_CHECK_SECONDS = 3.0


@dataclass
class Running:
    """A turn in flight, as /debug/tasks shows it: no text of anyone."""

    session: str
    started: float


@dataclass
class GatewayState:
    """Everything the routes share. `timer` is a monotonic clock in seconds."""

    loop: AgentLoop
    conversations: Conversations
    memory: MemoryStore
    attachments: AttachmentStore
    spending: Spending
    metrics: Metrics
    version: str
    start_time: float
    checks: dict[str, Check]
    timer: Callable[[], float]
    now: Callable[[], float]
    new_id: Callable[[], str]
    executor_status: Callable[[], dict[str, Any]]
    idle: IdleClock
    schedules: "Callable[[], Awaitable[list[dict[str, Any]]]] | None" = None
    config_error: str | None = None
    restart_needed: list[str] = field(default_factory=list)
    draining: bool = False
    running: dict[int, Running] = field(default_factory=dict)
    _idle: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def agent(self) -> str:
        """The agent's name."""
        return self.loop.config.claw.name

    def use(self, loop: AgentLoop, restart_needed: list[str]) -> None:
        """Lets new turns run on another loop; turns in flight keep theirs."""
        self.loop = loop
        self.config_error = None
        self.restart_needed = restart_needed
        self.metrics.config_valid.set(1)
        self.metrics.config_reloads.labels("applied").inc()

    def reject(self, error: OpenClawError) -> None:
        """Keeps the configuration in use and says why the new one is not."""
        self.config_error = str(error)
        self.metrics.config_valid.set(0)
        self.metrics.config_reloads.labels("rejected").inc()

    async def turn(self, request: TurnRequest) -> AsyncGenerator[TurnEvent, None]:
        """Answers a message. Raises `RequestError` when there is no room, else what `Conversations.run` raises."""
        with self.admitted(request.session):
            async with aclosing(self.conversations.run(self.loop, request)) as events:
                async for event in events:
                    yield event

    def run(self, request: TurnRequest) -> AsyncGenerator[TurnEvent, None]:
        """Runs a turn that is admitted already and that nobody follows."""
        return self.loop.run(request)

    async def answer(self, message: Message) -> AsyncGenerator[dict[str, Any], None]:
        """Goes on with a turn whose user answered at another replica. See `Conversations.serve`."""
        with self._counted(str(message.payload.get("session"))):
            async with aclosing(self.conversations.serve(message)) as parts:
                async for part in parts:
                    yield part

    @contextmanager
    def admitted(self, session: str) -> Iterator[None]:
        """Counts a turn as in flight. Raises `RequestError` when there is no room for one."""
        limit = self.loop.config.gateway.max_in_flight
        if self.draining:
            raise RequestError("the gateway is shutting down; try again", status=503, code="shutting_down")
        if len(self.running) >= limit:
            raise RequestError(f"{limit} turns are in flight; try again", status=429, code="too_many_turns")
        with self._counted(session):
            try:
                yield
            except OpenClawError as error:
                self.metrics.errors.labels(getattr(error, "code", None) or type(error).__name__).inc()
                raise

    @contextmanager
    def _counted(self, session: str) -> Iterator[None]:
        running = Running(session, self.timer())
        self.running[id(running)] = running
        self.metrics.turns_in_flight.set(len(self.running))
        try:
            yield
        finally:
            del self.running[id(running)]
            self.metrics.turns_in_flight.set(len(self.running))
            if not self.running:
                self._idle.set()

    async def drain(self, seconds: float) -> bool:
        """Takes no more turns and waits for those in flight. Returns whether all of them ended in time."""
        self.draining = True
        self._idle.clear()
        try:
            async with asyncio.timeout(seconds):
                if self.running:
                    await self._idle.wait()
                await self.conversations.ended()
        except TimeoutError:
            return False
        return True

    async def readiness(self) -> tuple[bool, dict[str, str]]:
        """Returns whether the gateway can serve turns, and the state of each part: "ok" or what is wrong."""
        results = await asyncio.gather(*(_outcome(check) for check in self.checks.values()))
        details = dict(zip(self.checks, results, strict=True))
        ready = not self.draining and all(outcome == "ok" for outcome in results)
        details["config"] = self.config_error or "ok"
        if self.restart_needed:
            details["config"] = f"restart to apply: {', '.join(self.restart_needed)}"
        if self.draining:
            details["gateway"] = "shutting down"
        return ready, details

    def tasks(self) -> dict[str, Any]:
        """Returns what runs right now, for someone debugging."""
        now = self.timer()
        return {
            "turns": [
                {"session": turn.session, "seconds": round(now - turn.started, 3)} for turn in self.running.values()
            ],
            "tasks": [{"name": task.get_name(), "at": _place(task)} for task in asyncio.all_tasks() if not task.done()],
            "executor": self.executor_status(),
        }


async def _outcome(check: Check) -> str:
    try:
        async with asyncio.timeout(_CHECK_SECONDS):
            await check()
    except TimeoutError:
        return f"no answer within {_CHECK_SECONDS:g} s"
    except OpenClawError as error:
        return str(error)
    return "ok"


def _place(task: asyncio.Task[Any]) -> str:
    stack = task.get_stack(limit=1)
    if not stack:
        return "not started"
    frame = traceback.extract_stack(stack[0], limit=1)[0]
    return f"{frame.filename.rpartition('site-packages/')[2]}:{frame.lineno} {frame.name}"

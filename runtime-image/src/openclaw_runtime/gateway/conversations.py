"""Turns that a person follows. A skill may ask them: the question ends the answer, their next message goes on with it.

The turn stays at the replica where it began. The next message may come to any other: the bus knows who holds the
session's question, and the two replicas talk (`bus.talks`).
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import msgspec

from openclaw_runtime.agent.events import Activity, TextDelta, TurnDone, TurnEvent, TurnRequest
from openclaw_runtime.agent.loop import AgentLoop
from openclaw_runtime.agent.questions import Show
from openclaw_runtime.bus.bus import MessageBus
from openclaw_runtime.bus.messages import Message
from openclaw_runtime.errors import BusError, BusTimeoutError, NoAnswerError, OpenClawError, TurnError
from openclaw_runtime.gateway.openai import as_request_error

logger = logging.getLogger(__name__)

_EVENTS: dict[str, type[TurnEvent]] = {kind.__name__: kind for kind in (TextDelta, Activity, TurnDone)}
_HELD_SECONDS = 60
"""How much longer than its question a note of who holds it may last."""


@dataclass(eq=False)
class _Talk:
    """A turn and who follows it. It waits for its user from the moment the question was read until it is answered.

    `answer` is what the open question waits for. `waits` says that no request reads `events`: the next one may.
    """

    session: str
    events: AsyncGenerator[TurnEvent, None]
    seconds: float
    answer: "asyncio.Future[str] | None" = None
    waits: bool = False
    left: bool = False
    """Nobody follows it any more: what is still to come is only read to its end."""

    @property
    def open(self) -> bool:
        return self.answer is not None and not self.answer.done()


@dataclass(eq=False)
class Conversations:
    """The turns of one replica whose users may be asked."""

    bus: MessageBus
    _waiting: dict[str, list[_Talk]] = field(default_factory=dict)
    _ending: "set[asyncio.Task[None]]" = field(default_factory=set)

    async def run(self, loop: AgentLoop, request: TurnRequest) -> AsyncGenerator[TurnEvent, None]:
        """Answers a message: goes on with the turn that asked its user, wherever it is, or begins one.

        The last event is a `TurnDone`. Raises what `AgentLoop.run` raises, and `TurnError` when the turn that asked is
        lost. Closing the generator before its last event cancels the turn.
        """
        talk = self._answered(request.session, request.said)
        if talk is None and (address := await self._holder(request.session)) is not None:
            taken = False
            async with aclosing(self._forwarded(address, request)) as events:
                async for event in events:
                    taken = True
                    yield event
            if taken:
                return
        async with aclosing(self._follow(talk or self._begin(loop, request))) as events:
            async for event in events:
                yield event

    async def serve(self, message: Message) -> AsyncGenerator[dict[str, Any], None]:
        """Goes on with a turn for another replica, which got the answer: yields its events as JSON objects."""
        talk = self._answered(str(message.payload.get("session")), str(message.payload.get("text")))
        if talk is None:
            yield {"taken": False}
            return
        yield {"taken": True}
        try:
            async with aclosing(self._follow(talk)) as events:
                async for event in events:
                    yield {"event": type(event).__name__, "value": msgspec.to_builtins(event)}
        except OpenClawError as error:
            failed = as_request_error(error)
            yield {"error": str(failed), "status": failed.status, "code": failed.code or "internal_error"}

    def open(self) -> int:
        """Returns how many turns wait for their users, or end without them."""
        return sum(map(len, self._waiting.values())) + len(self._ending)

    async def ended(self) -> None:
        """Returns when no turn goes on that nobody follows."""
        while self._ending:
            await asyncio.wait(self._ending)

    async def close(self) -> None:
        """Cancels what is still there."""
        for talks in list(self._waiting.values()):
            for talk in list(talks):
                self._leave(talk)
        for task in self._ending:
            task.cancel()
        await asyncio.gather(*self._ending, return_exceptions=True)

    def _begin(self, loop: AgentLoop, request: TurnRequest) -> _Talk:
        # The turn asks through its talk, which is made with the turn.
        asks: list[Callable[[str, Show], Any]] = []

        async def ask(question: str, show: Show) -> str:
            return str(await asks[0](question, show))

        talk = _Talk(request.session, loop.run(request, ask), loop.config.execution.ask_timeout_seconds)
        asks.append(partial(self._ask, talk))
        return talk

    async def _ask(self, talk: _Talk, _question: str, show: Show) -> str:
        """Waits for the user's next message."""
        if talk.left:
            raise NoAnswerError("the user did not answer the question before, so there is nobody to ask")
        talk.answer = asyncio.get_running_loop().create_future()
        try:
            await show()
            return await talk.answer
        finally:
            talk.answer = None
            if talk.waits:
                # No answer, and no request that would read on: the turn ends by itself, and the session keeps it.
                self._leave(talk)

    def _answered(self, session: str, text: str) -> _Talk | None:
        """Gives an answer to the session's oldest question here. Returns its turn, for one request to follow."""
        talk = next((talk for talk in self._waiting.get(session, []) if talk.waits and talk.open), None)
        if talk is not None and talk.answer is not None:
            self._forget(talk)
            talk.answer.set_result(text)
        return talk

    async def _follow(self, talk: _Talk) -> AsyncGenerator[TurnEvent, None]:
        """Yields the events of a turn until its end or its next question."""
        try:
            async for event in talk.events:
                if isinstance(event, TurnDone) and event.question:
                    if not await self._hold(talk):
                        continue  # It has ended meanwhile; what the turn says to that belongs to this answer.
                    talk.waits = True
                yield event
                if talk.waits:
                    return
        finally:
            if not talk.waits and not talk.left:
                await talk.events.aclose()

    async def _hold(self, talk: _Talk) -> bool:
        """Makes a question known, here and to other replicas, before its user sees it. Returns whether it is open."""
        try:
            await self.bus.hold(_name(talk.session), talk.seconds + _HELD_SECONDS)
        except BusError as error:
            logger.warning("only this replica knows of a question: %s", error, extra={"session": talk.session})
        if talk.open:
            self._waiting.setdefault(talk.session, []).append(talk)
            return True
        self._let_go(talk.session)
        return False

    def _forget(self, talk: _Talk) -> None:
        """Takes a question back that is not open any more."""
        talk.waits = False
        talks = self._waiting.get(talk.session, [])
        if talk in talks:
            talks.remove(talk)
        if not talks:
            self._waiting.pop(talk.session, None)
            self._let_go(talk.session)

    def _let_go(self, session: str) -> None:
        if session not in self._waiting:
            self._spawn(self._let_go_of(session), "let-go")

    async def _let_go_of(self, session: str, address: str | None = None) -> None:
        try:
            await self.bus.let_go(_name(session), address)
        except BusError as error:
            logger.warning("the bus was not told of a question that is over: %s", error)

    def _leave(self, talk: _Talk) -> None:
        """Lets a turn end that nobody follows any more."""
        self._forget(talk)
        talk.left = True
        self._spawn(_read_to_end(talk), "unfollowed")

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(work, name=f"conversation-{name}")
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def _holder(self, session: str) -> str | None:
        try:
            return await self.bus.holder(_name(session))
        except BusError as error:
            # Without a bus a turn can begin all the same; whether one waits elsewhere, nobody can tell.
            logger.warning("whether another replica asked something is not known: %s", error)
            return None

    async def _forwarded(self, address: str, request: TurnRequest) -> AsyncGenerator[TurnEvent, None]:
        """Yields the events of a turn at another replica; none when no question is open there after all."""
        payload = {"session": request.session, "text": request.said}
        try:
            async with aclosing(self.bus.talks.begin(address, payload)) as parts:
                async for part in parts:
                    if "error" in part:
                        raise TurnError(part["error"], status=part["status"], code=part["code"])
                    if "event" in part:
                        yield msgspec.convert(part["value"], _EVENTS[part["event"]])
        except BusTimeoutError:
            await self._let_go_of(request.session, address)
            raise TurnError(
                "the gateway that asked this question has ended, and the work with it; please say again what to do",
                status=409,
                code="question_lost",
            ) from None
        except BusError as error:
            raise TurnError(str(error), status=503, code="bus_unavailable") from None


def _name(session: str) -> str:
    return f"question:{session}"


async def _read_to_end(talk: _Talk) -> None:
    try:
        async with aclosing(talk.events) as events:
            async for _ in events:
                pass
    except OpenClawError as error:
        logger.warning("a turn that nobody follows failed: %s", error, extra={"session": talk.session})

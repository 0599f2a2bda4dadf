"""Requests, broadcasts and their answers, on top of any transport."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

from msgspec.structs import replace

from openclaw_runtime.bus.messages import EVERYONE, Answer, Message, MessageType, Transport
from openclaw_runtime.bus.questions import Answerer, Questions
from openclaw_runtime.bus.talks import Talks
from openclaw_runtime.errors import BusTimeoutError, OpenClawError, RemoteAgentError
from openclaw_runtime.timelimit import TimeLimit

logger = logging.getLogger(__name__)

Handler = Callable[[Message], Awaitable[dict[str, Any]]]
"""Does what a message asks and returns the payload of the answer. An `OpenClawError` becomes an error answer."""


class MessageBus:
    """One agent's place on the bus. `now_ms` is the wall clock, `new_id` yields unique ids.

    `sent` is told for whom each message was left.
    """

    def __init__(
        self,
        agent: str,
        transport: Transport,
        *,
        now_ms: Callable[[], int],
        new_id: Callable[[], str],
        default_timeout_ms: int = 30_000,
        sent: Callable[[str], None] = lambda _agent: None,
    ) -> None:
        self._agent = agent
        self._transport = transport
        self._now_ms = now_ms
        self._new_id = new_id
        self._default_timeout_ms = default_timeout_ms
        self._sent = sent
        self._handler: Handler | None = None
        self._waiting: dict[str, asyncio.Queue[Message]] = {}
        self._questions = Questions(transport, self._reply)
        self.talks = Talks(transport, self._reply)
        """Between replicas of this agent."""

    async def start(self, handler: Handler) -> None:
        """Joins the bus; `handler` gets every message to this agent. Raises `BusError`."""
        self._handler = handler
        await self._transport.start(self._agent, self._handle, self._on_reply)

    async def pause(self) -> None:
        """Takes no more messages; requests of this agent are still answered."""
        await self._transport.pause()

    async def close(self, drain_seconds: float = 0) -> None:
        """Leaves the bus; messages being handled get `drain_seconds` to finish."""
        await self.talks.close(drain_seconds)
        await self._transport.close(drain_seconds)

    async def backlog(self) -> int:
        """Returns how many messages to this agent are not handled yet. Raises `BusError`."""
        return await self._transport.backlog()

    async def ping(self) -> None:
        """Returns when the bus can be reached. Raises `BusError`."""
        await self._transport.ping()

    async def send(self, to: str | Sequence[str], payload: dict[str, Any], *, timeout_ms: int | None = None) -> None:
        """Leaves a message for one agent or several and expects no answer. Raises `BusError`."""
        for agent in [to] if isinstance(to, str) else to:
            await self._publish(agent, self._message(agent, "request", payload, timeout_ms, answer=False))

    async def hold(self, name: str, seconds: float) -> None:
        """Has the other replicas of this agent know, for so long, that this one holds `name`. Raises `BusError`."""
        await self._transport.hold(name, seconds)

    async def let_go(self, name: str, address: str | None = None) -> None:
        """Takes that back, for this replica or for the one at `address`. Raises `BusError`."""
        await self._transport.let_go(name, self._transport.address if address is None else address)

    async def holder(self, name: str) -> str | None:
        """Returns the address of another replica that holds `name`. Raises `BusError`."""
        address = await self._transport.holder(name)
        return None if address == self._transport.address else address

    async def ask(self, message: Message, question: str) -> str:
        """Asks whoever sent a message that is being handled, and returns the answer; its time stands still meanwhile.

        Raises `NoAnswerError`, and `BusError` when the bus cannot be reached.
        """
        return await self._questions.ask(message, question)

    async def request(
        self,
        to: str,
        payload: dict[str, Any],
        *,
        timeout_ms: int | None = None,
        answerer: Answerer | None = None,
    ) -> dict[str, Any]:
        """Asks one agent and returns the payload of its answer. What that one asks back is for `answerer`.

        The time for an answer stands still while a question is open. Raises `BusTimeoutError` when nobody answers in
        `timeout_ms`, `RemoteAgentError` when the answer is an error, `BusError` when the bus cannot be reached.
        """
        message = self._message(to, "request", payload, timeout_ms, answer=True)
        replies = self._waiting[message.id] = asyncio.Queue()
        try:
            async with (
                TimeLimit(message.timeout / 1000) as limit,
                self._questions.answered(answerer, limit) as answered,
            ):
                await self._publish(to, message)
                while (reply := await replies.get()).type == "question":
                    answered(reply)
        except TimeoutError:
            raise BusTimeoutError(f"agent {to} did not answer within {message.timeout} ms") from None
        finally:
            del self._waiting[message.id]
        if reply.type == "error":
            raise RemoteAgentError(str(reply.payload.get("message", "unknown error")))
        return reply.payload

    async def broadcast(
        self, payload: dict[str, Any], *, to: Sequence[str] | None = None, timeout_ms: int | None = None
    ) -> list[Answer]:
        """Asks many agents (default: all others) and gathers every answer, sorted by agent.

        An error or silence of one agent is its `Answer.error` and does not stop the others. Raises `BusError` when
        the bus cannot be reached.
        """
        targets = sorted(set(to if to is not None else await self._transport.agents()) - {self._agent})
        message = self._message(list(to) if to is not None else EVERYONE, "broadcast", payload, timeout_ms, answer=True)
        replies = self._waiting[message.id] = asyncio.Queue()
        answers: dict[str, Answer] = {}
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(message.timeout / 1000):
                    for agent in targets:
                        await self._publish(agent, message)
                    while len(answers) < len(targets):
                        reply = await replies.get()
                        error = str(reply.payload.get("message", "unknown error")) if reply.type == "error" else None
                        answers[reply.sender] = Answer(reply.sender, None if error else reply.payload, error)
        finally:
            del self._waiting[message.id]
        silent = f"no answer within {message.timeout} ms"
        return [answers.get(agent, Answer(agent, error=silent)) for agent in targets]

    async def _publish(self, agent: str, message: Message) -> None:
        await self._transport.publish(agent, message)
        self._sent(agent)

    def _message(
        self, to: str | list[str], kind: MessageType, payload: dict[str, Any], timeout_ms: int | None, *, answer: bool
    ) -> Message:
        return Message(
            id=self._new_id(),
            sender=self._agent,
            to=to,
            type=kind,
            payload=payload,
            timestamp=self._now_ms(),
            requires_response=answer,
            timeout=self._default_timeout_ms if timeout_ms is None else timeout_ms,
            reply_to=self._transport.address,
        )

    def _reply(self, kind: MessageType, payload: dict[str, Any], *, about: str | None = None) -> Message:
        """Returns a message for one replica."""
        return replace(self._message(self._agent, kind, payload, None, answer=False), correlation_id=about)

    def _on_reply(self, message: Message) -> None:
        waiting = self._waiting.get(message.correlation_id or "")
        if waiting is not None:
            waiting.put_nowait(message)
        elif not self._questions.receive(message):
            self.talks.receive(message)

    async def _handle(self, message: Message) -> Message | None:
        remaining_ms = message.deadline - self._now_ms()
        if remaining_ms <= 0:
            logger.warning("stale message dropped", extra={"message_id": message.id, "sender": message.sender})
            return None
        assert self._handler is not None
        kind: MessageType = "response"
        try:
            async with TimeLimit(remaining_ms / 1000) as limit:
                with self._questions.asking(message, limit):
                    payload = await self._handler(message)
        except TimeoutError:
            kind, payload = "error", {"message": f"agent {self._agent} needed more than {message.timeout} ms"}
        except OpenClawError as error:
            kind, payload = "error", {"message": str(error)}
        except Exception:
            logger.exception("handling a message failed", extra={"message_id": message.id})
            kind, payload = "error", {"message": f"agent {self._agent} failed; its log has the details"}
        if not message.requires_response:
            return None
        return Message(
            id=self._new_id(),
            sender=self._agent,
            to=message.sender,
            type=kind,
            payload=payload,
            timestamp=self._now_ms(),
            correlation_id=message.id,
            timeout=message.timeout,
        )

"""A talk of two replicas of one agent: a message to the one, and many back until it ends.

The one that answers gives a sign of life while it has nothing to say, so that the other notices when it is gone.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any, Protocol

from openclaw_runtime.bus.messages import Message, MessageType, Transport
from openclaw_runtime.errors import BusError, BusTimeoutError
from openclaw_runtime.lively import lively

logger = logging.getLogger(__name__)

Part = dict[str, Any]
Answer = Callable[[Message], AsyncGenerator[Part, None]]
"""Answers a message with parts. It does not raise, and is closed when the other end is not interested any more."""


class NewMessage(Protocol):
    """Makes a message of this agent."""

    def __call__(self, kind: MessageType, payload: Part, *, about: str | None = None) -> Message:
        """Returns the message; `about` is the id of the one it belongs to."""
        ...


class Talks:
    """The talks of one replica, those it began and those it answers. `beat` is seconds between signs of life."""

    def __init__(self, transport: Transport, new: NewMessage, beat: float = 5.0) -> None:
        self._transport = transport
        self._new = new
        self._beat = beat
        self._heard: dict[str, asyncio.Queue[Message]] = {}
        self._answering: dict[str, asyncio.Task[None]] = {}
        self.answer: Answer | None = None

    async def begin(self, address: str, payload: Part) -> AsyncGenerator[Part, None]:
        """Sends a message to one replica and yields its answer. Closing the generator tells it to stop.

        Raises `BusTimeoutError` when nothing is heard for three beats, `BusError` when the bus cannot be reached.
        """
        message = self._new("request", payload)
        heard = self._heard[message.id] = asyncio.Queue()
        over = False
        try:
            await self._transport.direct(address, message)
            while True:
                try:
                    reply = await asyncio.wait_for(heard.get(), 3 * self._beat)
                except TimeoutError:
                    over = True
                    raise BusTimeoutError(f"replica {address} says nothing any more") from None
                if reply.payload.get("end"):
                    over = True
                    return
                if (part := reply.payload.get("part")) is not None:
                    yield part
        finally:
            del self._heard[message.id]
            if not over:
                with contextlib.suppress(BusError):
                    await self._transport.direct(address, self._new("cancel", {}, about=message.id))

    def receive(self, message: Message) -> bool:
        """Takes a message that came to this replica. Returns whether it belongs to a talk."""
        if (heard := self._heard.get(message.correlation_id or "")) is not None:
            heard.put_nowait(message)
        elif message.type == "cancel":
            if (task := self._answering.get(message.correlation_id or "")) is not None:
                task.cancel()
        elif message.type == "request" and self.answer is not None and message.reply_to:
            task = asyncio.create_task(self._answer(message, self.answer), name=f"bus-talk-{message.id}")
            self._answering[message.id] = task
            task.add_done_callback(lambda _: self._answering.pop(message.id, None))
        else:
            return False
        return True

    async def _answer(self, message: Message, answer: Answer) -> None:
        async def say(payload: Part) -> None:
            await self._transport.direct(message.reply_to, self._new("response", payload, about=message.id))

        try:
            async with aclosing(answer(message)) as parts, aclosing(lively(parts, self._beat)) as heard:
                async for part in heard:
                    await say({} if part is None else {"part": part})
            await say({"end": True})
        except BusError as error:
            logger.warning("bus: an answer to another replica ended: %s", error)

    async def close(self, drain_seconds: float) -> None:
        """Lets answers under way end for so long, then ends them."""
        tasks = list(self._answering.values())
        if tasks:
            await asyncio.wait(tasks, timeout=drain_seconds)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

"""Questions that go back along a request: whoever does the work asks whoever asked for it."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

from openclaw_runtime.bus.messages import Message, Transport
from openclaw_runtime.bus.talks import NewMessage
from openclaw_runtime.errors import BusError, NoAnswerError, OpenClawError
from openclaw_runtime.timelimit import TimeLimit

logger = logging.getLogger(__name__)

Answerer = Callable[[str], Awaitable[str]]
"""Answers a question. Raises `OpenClawError` when it cannot."""

_NOBODY = "nobody waits for this work any more, so there is nobody to ask"


class Questions:
    """Both ends of the questions of one replica."""

    def __init__(self, transport: Transport, new: NewMessage) -> None:
        self._transport = transport
        self._new = new
        self._handled: dict[str, TimeLimit] = {}
        self._open: dict[str, asyncio.Future[Message]] = {}
        self._telling: set[asyncio.Task[None]] = set()

    @contextmanager
    def asking(self, message: Message, limit: TimeLimit) -> Iterator[None]:
        """Lets `ask` stop the time of a message for as long as it is handled."""
        self._handled[message.id] = limit
        try:
            yield
        finally:
            del self._handled[message.id]

    async def ask(self, message: Message, question: str) -> str:
        """Asks the sender of a message that is being handled. Raises `NoAnswerError` or `BusError`."""
        if message.type != "request" or not message.requires_response or not message.reply_to:
            raise NoAnswerError("this message expects no answer, so there is nobody to ask")
        asked = self._new("question", {"question": question}, about=message.id)
        answer = self._open[asked.id] = asyncio.get_running_loop().create_future()
        try:
            with self._handled[message.id].paused():
                await self._transport.direct(message.reply_to, asked)
                reply = await answer
        finally:
            del self._open[asked.id]
        if reply.type == "error":
            raise NoAnswerError(str(reply.payload.get("message", "there is no answer")))
        return str(reply.payload.get("answer", ""))

    @asynccontextmanager
    async def answered(self, answerer: Answerer | None, limit: TimeLimit) -> AsyncIterator[Callable[[Message], None]]:
        """Yields what has a question answered while the block goes on and `limit` stands still."""
        answering: set[asyncio.Task[None]] = set()

        def take(question: Message) -> None:
            task = asyncio.create_task(self._answer(question, answerer, limit), name=f"bus-question-{question.id}")
            answering.add(task)
            task.add_done_callback(answering.discard)

        try:
            yield take
        finally:
            tasks = list(answering)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def receive(self, message: Message) -> bool:
        """Takes an answer, or a question of work that nobody waits for. Returns whether it was one of these."""
        if (answer := self._open.get(message.correlation_id or "")) is not None:
            if not answer.done():
                answer.set_result(message)
        elif message.type == "question":
            task = asyncio.create_task(self._tell(message, self._new("error", {"message": _NOBODY}, about=message.id)))
            self._telling.add(task)
            task.add_done_callback(self._telling.discard)
        else:
            return False
        return True

    async def _answer(self, question: Message, answerer: Answerer | None, limit: TimeLimit) -> None:
        reply = self._new("error", {"message": _NOBODY}, about=question.id)
        try:
            if answerer is not None:
                with limit.paused():
                    answer = await answerer(str(question.payload.get("question", "")))
                reply = self._new("response", {"answer": answer}, about=question.id)
        except OpenClawError as error:
            reply = self._new("error", {"message": str(error)}, about=question.id)
        finally:
            # Also when the work is not waited for any more: whoever asked would wait in vain.
            await self._tell(question, reply)

    async def _tell(self, question: Message, reply: Message) -> None:
        try:
            await self._transport.direct(question.reply_to, reply)
        except BusError as error:
            logger.warning("bus: a question was not answered: %s", error)

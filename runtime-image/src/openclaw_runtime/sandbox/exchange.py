"""A connection from the call to its response: what the skill asks for is served, what it gives is read."""

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from typing import Any, Final

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from openclaw_runtime.errors import NoAnswerError
from openclaw_runtime.sandbox import errors
from openclaw_runtime.sandbox.attachments import Announced, Attachment, Receiver
from openclaw_runtime.sandbox.endpoint import Endpoint
from openclaw_runtime.sandbox.jsonrpc import (
    Failure,
    Fields,
    Json,
    Notification,
    ProtocolError,
    Request,
    Success,
    decode_frame,
    encode,
)
from openclaw_runtime.sandbox.protocol import (
    ASK,
    CALL_ID,
    LOG_LEVELS,
    MAX_FRAME_BYTES,
    MAX_QUESTION,
    CallResult,
    ErrorCode,
    Limits,
)
from openclaw_runtime.skills.types import CallContext
from openclaw_runtime.timelimit import TimeLimit

MAX_CONTEXT_CALLS: Final = 32
ATTACHMENT_SECONDS: Final = 10.0
"""How long the attachments of a call may take to arrive, once it was answered."""
_CANCEL_SECONDS: Final = 3.0
"""A cancellation that cannot be sent by then is told by the end of the connection."""
_LIMIT_SLACK_SECONDS: Final = 2.0
"""The pod ends a call at its timeout; if nothing was heard this long after it, the pod itself is given up."""

_NOT_TAKEN: Final = frozenset({ErrorCode.BUSY, ErrorCode.UNAUTHORIZED})

_log = logging.getLogger(__name__)


class Exchange:
    """What happens on the connection from the call to its response."""

    def __init__(self, connection: ClientConnection, context: CallContext, methods: frozenset[str]) -> None:
        self._connection = connection
        self._context = context
        self._methods = methods
        self._serving: set[asyncio.Task[None]] = set()
        self._limit: TimeLimit
        self.answered = False

    async def run(self, endpoint: Endpoint, limits: Limits) -> tuple[CallResult, tuple[Attachment, ...]]:
        """Serves the connection until the response and returns it with its attachments. Raises `SandboxError`."""
        try:
            async with TimeLimit(limits.timeout_seconds + _LIMIT_SLACK_SECONDS) as self._limit:
                result = CallResult.parse(await self._until_response())
            return result, await self._attachments(endpoint, result.attachments)
        except ConnectionClosed:
            raise errors.SandboxLostError(f"{endpoint.name} went away while the call ran") from None
        except ProtocolError as error:
            raise errors.ProtocolViolationError(f"{endpoint.name}: {error}") from None
        except TimeoutError:
            await self._cancel("timeout")
            raise errors.CallTimeoutError(
                f"{endpoint.name} did not end the call after {limits.timeout_seconds:g} s"
            ) from None
        except asyncio.CancelledError:
            await asyncio.shield(self._cancel("cancelled by the caller"))
            raise
        finally:
            for task in self._serving:
                task.cancel()

    async def _until_response(self) -> object:
        while True:
            message = decode_frame(await self._connection.recv())
            match message:
                case Success(id=id) if id == CALL_ID:
                    self.answered = True
                    return message.result
                case Failure(id=id) if id == CALL_ID or id is None:
                    self.answered = message.code not in _NOT_TAKEN
                    raise errors.from_code(message.code, message.message, message.data)
                case Notification("log", params):
                    await self._log(params)
                case Notification("progress", params):
                    fields = Fields(params, "progress")
                    fraction = fields.number("fraction", least=0, most=1)
                    await self._context.progress(fraction, fields.text("message"))
                case Request():
                    self._serve(message)
                case _:
                    raise ProtocolError("frame: not expected while a call runs")

    async def _attachments(self, endpoint: Endpoint, announced: Sequence[Announced]) -> tuple[Attachment, ...]:
        """Reads what the response has listed, and nothing more."""
        found = []
        try:
            async with asyncio.timeout(ATTACHMENT_SECONDS):
                for each in announced:
                    receiver = Receiver(each)
                    while not receiver.complete:
                        receiver.take(await self._connection.recv())
                    found.append(receiver.result())
        except TimeoutError:
            raise errors.CallTimeoutError(
                f"{endpoint.name} did not send its attachments within {ATTACHMENT_SECONDS:g} s"
            ) from None
        return tuple(found)

    async def _log(self, params: Json) -> None:
        fields = Fields(params, "log")
        level = fields.text("level", limit=16)
        if level not in LOG_LEVELS:
            raise ProtocolError("log.level: not known")
        await self._context.log(level, fields.text("message"), fields.mapping("fields"))

    async def _cancel(self, reason: str) -> None:
        with contextlib.suppress(ConnectionClosed, TimeoutError):
            async with asyncio.timeout(_CANCEL_SECONDS):
                await self._connection.send(encode(Notification("cancel", {"reason": reason})))

    def _serve(self, request: Request) -> None:
        if len(self._serving) >= MAX_CONTEXT_CALLS:
            raise ProtocolError(f"frame: more than {MAX_CONTEXT_CALLS} requests at once")
        task = asyncio.ensure_future(self._answer(request))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _answer(self, request: Request) -> None:
        response: Success | Failure
        if request.method not in self._methods:
            text = (
                f"{request.method}: at security level strict a skill with network:external may not use it, what it "
                "reads could leave: take the permission away, or leave this to another skill"
            )
            response = Failure(request.id, ErrorCode.PERMISSION_DENIED, text)
        else:
            try:
                with self._limit.paused() if request.method == ASK else contextlib.nullcontext():
                    response = Success(request.id, await _dispatch(self._context, request))
            except ProtocolError as error:
                response = Failure(request.id, ErrorCode.INVALID_PARAMS, str(error))
            except NoAnswerError as error:
                response = Failure(request.id, ErrorCode.NO_ANSWER, str(error))
            except Exception as error:  # noqa: BLE001 - whatever the agent's side raises is the skill's to handle
                _log.warning("context method %s failed", request.method, exc_info=error)
                response = Failure(request.id, ErrorCode.INTERNAL, f"{request.method} failed: {error}")
        try:
            frame = encode(response)
        except (TypeError, ValueError):
            frame = encode(Failure(request.id, ErrorCode.INTERNAL, f"{request.method}: the answer is not JSON"))
        if len(frame) > MAX_FRAME_BYTES:
            frame = encode(Failure(request.id, ErrorCode.INTERNAL, f"{request.method}: the answer is too large"))
        with contextlib.suppress(ConnectionClosed):
            await self._connection.send(frame)


async def _dispatch(context: CallContext, request: Request) -> Any:
    fields = Fields(request.params, request.method)
    match request.method:
        case "memory.add":
            return await context.memory_add(fields.mapping("record"))
        case "memory.search":
            limit = fields.integer("limit", least=1, most=100)
            return [dict(item) for item in await context.memory_search(fields.text("query"), limit)]
        case "llm.generate":
            return await context.llm_generate(fields.text("prompt", limit=MAX_FRAME_BYTES), fields.mapping("options"))
        case "ask":
            question = fields.text("question", limit=MAX_QUESTION)
            if not question.strip():
                raise ProtocolError("ask.question: is empty; ask something")
            return await context.ask(question)
    raise ProtocolError(f"method: {request.method} is not known")

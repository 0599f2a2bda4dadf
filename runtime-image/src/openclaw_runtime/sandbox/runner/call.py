"""One call inside the pod: relays between the gateway and the child, and decides how the call ended."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from openclaw_runtime.sandbox.attachments import Attachment, AttachmentError, Bounds, Offer, media_type_of
from openclaw_runtime.sandbox.jsonrpc import (
    Failure,
    Json,
    Message,
    Notification,
    ProtocolError,
    Request,
    Success,
    canonical_sha256,
    dumps,
)
from openclaw_runtime.sandbox.protocol import (
    ASK,
    CALL_ID,
    CONTEXT_METHODS,
    LOG_LEVELS,
    CallPayload,
    CallResult,
    ErrorCode,
    Limits,
)
from openclaw_runtime.sandbox.runner.channel import ChannelError, FrameTooLargeError
from openclaw_runtime.sandbox.runner.child import Child, Usage
from openclaw_runtime.sandbox.runner.output import MAX_LINE_BYTES, Allowance
from openclaw_runtime.timelimit import Countdown

MAX_OPEN_REQUESTS: Final = 32
MAX_REFUSED: Final = 16
"""Attachments that a call may have refused; one that goes on after that ends."""
KILL_GRACE_SECONDS: Final = 0.5
_DRAIN_SECONDS: Final = 1.0
_COUNT_SECONDS: Final = 0.05
_CHILD_CODES: Final = frozenset(
    {
        ErrorCode.INVALID_PARAMS,
        ErrorCode.PACKAGE,
        ErrorCode.PERMISSION_DENIED,
        ErrorCode.SKILL_ERROR,
        ErrorCode.SKILL_CRASHED,
        ErrorCode.RESULT_TOO_LARGE,
        ErrorCode.ATTACHMENT,
    }
)
"""What the child may say of itself. Busy, timeout and the like are the runner's to say."""

_TYPES: Final = {
    ErrorCode.INVALID_PARAMS: "invalid_params",
    ErrorCode.PACKAGE: "package",
    ErrorCode.TIMEOUT: "timeout",
    ErrorCode.CANCELLED: "cancelled",
    ErrorCode.PERMISSION_DENIED: "permission_denied",
    ErrorCode.SKILL_ERROR: "skill_error",
    ErrorCode.SKILL_CRASHED: "skill_crashed",
    ErrorCode.RESULT_TOO_LARGE: "result_too_large",
    ErrorCode.ATTACHMENT: "attachment",
}


def failure(code: ErrorCode, message: str, **data: Any) -> Failure:
    """Returns the failed response to `call`, with the type that goes with its code."""
    return Failure(CALL_ID, code, message, {"type": _TYPES.get(code, code.name.lower()), **data})


@dataclass(frozen=True, slots=True)
class Ended:
    """Why a call ended before its child answered."""

    code: ErrorCode
    message: str


def nonsense(error: ChannelError | ProtocolError) -> Ended:
    """Returns why a call ends whose child wrote what it may not."""
    if isinstance(error, FrameTooLargeError):
        return Ended(ErrorCode.RESULT_TOO_LARGE, f"the skill's process sent {error}")
    return Ended(ErrorCode.SKILL_CRASHED, f"the skill's process broke the protocol: {error}")


@dataclass(frozen=True, slots=True)
class Died:
    """The child ended without an answer: exit code, or minus the signal."""

    code: int


Outcome = Success | Failure | Ended | Died


class CallRun:
    """Runs one call. `send` writes a message to the gateway; the gateway's messages come in through `receive`."""

    def __init__(self, child: Child, payload: CallPayload, send: Callable[[Message], Awaitable[None]]) -> None:
        self._child = child
        self._payload = payload
        self._send = send
        self._outbox: asyncio.Queue[Message] = asyncio.Queue()
        self._outcome: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._open: dict[str, str] = {}
        """The methods of the requests that the gateway has not answered, by their ids."""
        timeout = payload.limits.timeout_seconds
        self._countdown = Countdown(
            timeout, partial(self.end, ErrorCode.TIMEOUT, f"the action took longer than {timeout:g} s")
        )
        self._bounds = Bounds()
        self._refused = 0
        self.attachments: list[Attachment] = []
        """What the call has given so far. It counts, and is sent, with a result only."""
        self._logs = Allowance()
        self._progress = Allowance(burst=20, per_second=20)

    def end(self, code: ErrorCode, message: str) -> None:
        """Ends the call from outside; the first reason counts."""
        self._settle(Ended(code, message))

    def _settle(self, outcome: Outcome) -> None:
        if not self._outcome.done():
            self._outcome.set_result(outcome)

    def receive(self, message: Message) -> None:
        """Takes a message of the gateway. Raises `ProtocolError` for one that does not belong here."""
        match message:
            case Notification("cancel", params):
                reason = params.get("reason")
                self.end(ErrorCode.CANCELLED, f"cancelled: {reason}" if isinstance(reason, str) else "cancelled")
            case Success(str() as identity) | Failure(str() as identity) if identity in self._open:
                if self._open.pop(identity) == ASK:
                    self._countdown.resume()
                self._child.send(message)
            case _:
                raise ProtocolError("frame: not expected while a call runs")

    async def run(self, tar: bytes) -> Success | Failure:
        """Runs the call with its package and returns the response. What the call has started is killed by then.

        Skills that may start programs are also reaped before the response. Of the others only the one process is left,
        and for Node.js a second one: they were killed and cannot have children, so that their end is not waited for.
        """
        executes = "process:execute" in self._payload.permissions
        breeds = executes or self._payload.runtime not in ("python", "node")
        # Of another language there is always more than the one process.
        several = executes or self._payload.runtime != "python"
        started, before = time.monotonic(), self._child.usage(processes=several)
        sender = asyncio.ensure_future(self._deliver())
        for name, stream in (("stdout", self._child.stdout), ("stderr", self._child.stderr)):
            stream.follow(partial(self._print, name))
        self._child.send_package(tar)
        self._child.send(Request(CALL_ID, "run", {"payload": self._payload.encode()}))
        relay = asyncio.ensure_future(self._relay())
        watchers = [relay, asyncio.ensure_future(self._watch_exit(relay))]
        if executes:
            watchers.append(asyncio.ensure_future(self._watch_processes()))
        try:
            outcome = await self._outcome
        finally:
            self._countdown.cancel()
            for task in watchers:
                task.cancel()
        duration_ms = (time.monotonic() - started - self._countdown.stood_still) * 1000
        after = self._child.usage(processes=several)
        if isinstance(outcome, Ended):
            await self._child.terminate(KILL_GRACE_SECONDS)
        elif breeds:
            await self._child.finish()
        else:
            self._child.kill()
        await self._empty_outbox(sender)
        usage = Usage(max(0.0, after.cpu_ms - before.cpu_ms), after.max_rss_bytes)
        return self._response(outcome, usage, duration_ms)

    async def _deliver(self) -> None:
        """Sends what is to be sent, in order; a gateway that is slow to read never holds up the call itself."""
        while True:
            await self._send(await self._outbox.get())
            self._outbox.task_done()

    async def _empty_outbox(self, sender: "asyncio.Future[None]") -> None:
        """Sends what was printed and logged before the end: it belongs before the response."""
        self._child.stdout.drain()
        self._child.stderr.drain()
        if self._logs.dropped:
            text = f"{self._logs.dropped} log lines were dropped: too many, or too much"
            self._outbox.put_nowait(Notification("log", {"level": "warning", "message": text, "fields": {}}))
        await asyncio.wait(
            [asyncio.ensure_future(self._outbox.join()), sender],
            timeout=_DRAIN_SECONDS,
            return_when=asyncio.FIRST_COMPLETED,
        )
        sender.cancel()

    def _response(self, outcome: Outcome, usage: Usage, duration_ms: float) -> Success | Failure:
        match outcome:
            case Ended(code, message):
                return failure(code, message)
            case Died(code):
                return failure(ErrorCode.SKILL_CRASHED, _death(code, self._payload.limits))
            case Failure(_, code, message, data):
                if code not in _CHILD_CODES:
                    return failure(ErrorCode.SKILL_CRASHED, "the skill's process broke the protocol")
                return failure(
                    ErrorCode(code), message, **{k: v for k, v in data.items() if k in ("detail", "permission")}
                )
        return self._success(outcome, usage, duration_ms)

    def _success(self, outcome: Success, usage: Usage, duration_ms: float) -> Success | Failure:
        if not isinstance(outcome.result, dict) or "output" not in outcome.result:
            return failure(ErrorCode.SKILL_CRASHED, "the skill's process broke the protocol")
        output = outcome.result["output"]
        try:
            size, sha256 = len(dumps(output)), canonical_sha256(output)
        except ValueError as error:
            return failure(ErrorCode.SKILL_CRASHED, f"the result of {self._payload.action} is not JSON: {error}")
        limit = self._payload.limits.max_result_bytes
        if size > limit:
            return failure(ErrorCode.RESULT_TOO_LARGE, f"the result is {size} bytes; at most {limit} are allowed")
        result = CallResult(
            output=output,
            duration_ms=round(duration_ms, 3),
            result_sha256=sha256,
            cpu_ms=round(usage.cpu_ms, 3),
            max_rss_bytes=usage.max_rss_bytes,
            attachments=tuple(each.announced for each in self.attachments),
        )
        return Success(CALL_ID, result.wire())

    async def _relay(self) -> None:
        """Passes on what the child says until it has answered."""
        try:
            async for message in self._child.messages():
                if isinstance(message, Success | Failure):
                    self._settle(message)
                    return
                if isinstance(message, Offer):
                    self._attach(message)
                else:
                    self._relay_one(message)
        except (ChannelError, ProtocolError) as error:
            self._settle(nonsense(error))

    def _relay_one(self, message: Request | Notification) -> None:
        match message:
            case Notification("log", params):
                self._log(params)
            case Notification("progress", {"fraction": int() | float() as fraction, "message": str() as text}):
                if self._progress.take(len(text), time.monotonic()):
                    fraction = min(1.0, max(0.0, float(fraction)))
                    report = {"fraction": fraction, "message": text[:1000]}
                    self._outbox.put_nowait(Notification("progress", report))
            case Request(str() as identity, method, params) if len(identity) <= 64:
                if method not in CONTEXT_METHODS:
                    self._child.send(Failure(identity, ErrorCode.METHOD_NOT_FOUND, f"there is no {method[:64]}"))
                elif len(self._open) >= MAX_OPEN_REQUESTS or identity in self._open:
                    text = f"more than {MAX_OPEN_REQUESTS} requests at once"
                    self._child.send(Failure(identity, ErrorCode.INVALID_REQUEST, text))
                else:
                    self._open[identity] = method
                    if method == ASK:
                        # A user thinks for as long as the gateway lets them, and the time is not the skill's.
                        self._countdown.pause()
                    self._outbox.put_nowait(Request(identity, method, params))
            case _:
                raise ProtocolError("frame: neither a log, progress nor a request")

    def _attach(self, offer: Offer) -> None:
        """Keeps an attachment, or tells the skill why not, which may do without."""
        media_type = offer.media_type or media_type_of(offer.name)
        try:
            self._bounds.take(offer.name, media_type, len(offer.data))
        except AttachmentError as error:
            self._refused += 1
            if self._refused > MAX_REFUSED:
                self.end(ErrorCode.ATTACHMENT, f"more than {MAX_REFUSED} attachments were refused; the last: {error}")
            self._child.send(Failure(offer.id, ErrorCode.ATTACHMENT, str(error)))
            return
        self.attachments.append(Attachment.of(offer.name, media_type, offer.data))
        self._child.send(Success(offer.id, None))

    def _log(self, params: Json) -> None:
        level, message, fields = params.get("level"), params.get("message"), params.get("fields")
        if level not in LOG_LEVELS or not isinstance(message, str) or not isinstance(fields, dict):
            raise ProtocolError("log: expected level, message and fields")
        size = len(message) + len(dumps(fields))
        if size > MAX_LINE_BYTES:
            message, fields = message[:MAX_LINE_BYTES], {}
        if self._logs.take(min(size, MAX_LINE_BYTES), time.monotonic()):
            self._outbox.put_nowait(Notification("log", {"level": level, "message": message, "fields": fields}))

    def _print(self, stream: str, line: str) -> None:
        if self._logs.take(len(line), time.monotonic()):
            level = "info" if stream == "stdout" else "warning"
            params = {"level": level, "message": line, "fields": {"stream": stream}}
            self._outbox.put_nowait(Notification("log", params))

    async def _watch_exit(self, relay: "asyncio.Future[None]") -> None:
        code = await self._child.exited()
        # Its answer may still be in the channel, which ends right after it, unless a process it left holds it open.
        await asyncio.wait([relay], timeout=_DRAIN_SECONDS)
        self._settle(Died(code))

    async def _watch_processes(self) -> None:
        limit = self._payload.limits.max_processes
        while True:
            await asyncio.sleep(_COUNT_SECONDS)
            if self._child.process_count() > limit:
                self.end(ErrorCode.SKILL_CRASHED, f"the skill started more than {limit} processes")
                return


def _death(code: int, limits: Limits) -> str:
    if code >= 0:
        return f"the skill's process ended with exit code {code} before it answered"
    names = {
        9: f"SIGKILL, perhaps for lack of memory: {limits.memory_hint}",
        24: "SIGXCPU: its CPU time was used up",
        25: "SIGXFSZ",
    }
    return f"the skill's process was killed by signal {names.get(-code, -code)}"

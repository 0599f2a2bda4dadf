"""One call inside the pod: relays between the gateway and the child, and decides how the call ended."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from openclaw_runtime.sandbox.protocol import (
    CALL_ID,
    CONTEXT_METHODS,
    LOG_LEVELS,
    CallPayload,
    CallResult,
    ErrorCode,
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
from openclaw_runtime.sandbox.runner.channel import ChannelError
from openclaw_runtime.sandbox.runner.child import Child, Exit
from openclaw_runtime.sandbox.runner.output import MAX_LINE_BYTES, Allowance, LineSplitter

MAX_OPEN_REQUESTS: Final = 32
KILL_GRACE_SECONDS: Final = 0.5
_DRAIN_SECONDS: Final = 1.0
_COUNT_SECONDS: Final = 0.05
_READ_SIZE: Final = 64 * 1024
_CHILD_CODES: Final = frozenset(
    {
        ErrorCode.INVALID_PARAMS,
        ErrorCode.PACKAGE,
        ErrorCode.PERMISSION_DENIED,
        ErrorCode.SKILL_ERROR,
        ErrorCode.SKILL_CRASHED,
        ErrorCode.RESULT_TOO_LARGE,
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
}


def failure(code: ErrorCode, message: str, **data: Any) -> Failure:
    """Returns the failed response to `call`, with the type that goes with its code."""
    return Failure(CALL_ID, code, message, {"type": _TYPES.get(code, code.name.lower()), **data})


@dataclass(frozen=True, slots=True)
class Ended:
    """Why a call ended before its child answered."""

    code: ErrorCode
    message: str


class CallRun:
    """Runs one call. `send` writes a message to the gateway; the gateway's messages come in through `receive`."""

    def __init__(self, child: Child, payload: CallPayload, send: Callable[[Message], Awaitable[None]]) -> None:
        self._child = child
        self._payload = payload
        self._send = send
        self._outcome: asyncio.Future[Success | Failure | Ended | Exit] = asyncio.get_running_loop().create_future()
        self._open: set[str] = set()
        self._logs = Allowance()
        self._progress = Allowance(burst=20, per_second=20)

    def end(self, code: ErrorCode, message: str) -> None:
        """Ends the call from outside; the first reason counts."""
        self._settle(Ended(code, message))

    def _settle(self, outcome: Success | Failure | Ended | Exit) -> None:
        if not self._outcome.done():
            self._outcome.set_result(outcome)

    def receive(self, message: Message) -> None:
        """Takes a message of the gateway. Raises `ProtocolError` for one that does not belong here."""
        match message:
            case Notification("cancel", params):
                reason = params.get("reason")
                self.end(ErrorCode.CANCELLED, f"cancelled: {reason}" if isinstance(reason, str) else "cancelled")
            case Success(str() as identity) | Failure(str() as identity) if identity in self._open:
                self._open.discard(identity)
                self._child.send(message)
            case _:
                raise ProtocolError("frame: not expected while a call runs")

    async def run(self, tar: bytes) -> Success | Failure:
        """Runs the call with its unpacked package and returns the response. Nothing of it is left behind."""
        started = time.monotonic()
        self._child.send_package(tar)
        self._child.send(Request(CALL_ID, "run", {"payload": self._payload.encode()}))
        relay = asyncio.ensure_future(self._relay())
        watchers = [relay, asyncio.ensure_future(self._watch_exit(relay))]
        if "process:execute" in self._payload.permissions:
            watchers.append(asyncio.ensure_future(self._watch_processes()))
        output = [asyncio.ensure_future(self._copy(stream)) for stream in (self._child.stdout, self._child.stderr)]
        timeout = self._payload.limits.timeout_seconds
        deadline = asyncio.get_running_loop().call_later(
            timeout, self.end, ErrorCode.TIMEOUT, f"the action took longer than {timeout:g} s"
        )
        try:
            outcome = await self._outcome
        finally:
            deadline.cancel()
            for task in watchers:
                task.cancel()
        duration_ms = (time.monotonic() - started) * 1000
        if isinstance(outcome, Ended):
            exit_ = await self._child.terminate(KILL_GRACE_SECONDS)
        else:
            exit_ = await self._child.finish()
        # Every writer is dead, so the pipes end; what is still in them belongs before the response.
        await asyncio.wait(output, timeout=_DRAIN_SECONDS)
        await self._report_dropped()
        return self._response(outcome, exit_, duration_ms)

    def _response(
        self, outcome: Success | Failure | Ended | Exit, exit_: Exit, duration_ms: float
    ) -> Success | Failure:
        match outcome:
            case Ended(code, message):
                return failure(code, message)
            case Exit(code):
                return failure(ErrorCode.SKILL_CRASHED, _death(code))
            case Failure(_, code, message, data):
                if code not in _CHILD_CODES:
                    return failure(ErrorCode.SKILL_CRASHED, "the skill's process broke the protocol")
                return failure(ErrorCode(code), message, **{k: v for k, v in data.items() if k == "detail"})
        return self._success(outcome, exit_, duration_ms)

    def _success(self, outcome: Success, exit_: Exit, duration_ms: float) -> Success | Failure:
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
        result = CallResult(output, round(duration_ms, 3), sha256, round(exit_.cpu_ms, 3), exit_.max_rss_bytes)
        return Success(CALL_ID, result.wire())

    async def _relay(self) -> None:
        """Passes on what the child says until it has answered."""
        try:
            async for message in self._child.messages():
                if isinstance(message, Success | Failure):
                    self._settle(message)
                    return
                await self._relay_one(message)
        except ProtocolError as error:
            self.end(ErrorCode.SKILL_CRASHED, f"the skill's process broke the protocol: {error}")
        except ChannelError as error:
            self.end(ErrorCode.RESULT_TOO_LARGE, f"the skill's process sent {error}")

    async def _relay_one(self, message: Request | Notification) -> None:
        match message:
            case Notification("log", params):
                await self._log(params)
            case Notification("progress", {"fraction": int() | float() as fraction, "message": str() as text}):
                if self._progress.take(len(text), time.monotonic()):
                    fraction = min(1.0, max(0.0, float(fraction)))
                    await self._send(Notification("progress", {"fraction": fraction, "message": text[:1000]}))
            case Request(str() as identity, method, params) if len(identity) <= 64:
                if method not in CONTEXT_METHODS:
                    self._child.send(Failure(identity, ErrorCode.METHOD_NOT_FOUND, f"there is no {method[:64]}"))
                elif len(self._open) >= MAX_OPEN_REQUESTS or identity in self._open:
                    text = f"more than {MAX_OPEN_REQUESTS} requests at once"
                    self._child.send(Failure(identity, ErrorCode.INVALID_REQUEST, text))
                else:
                    self._open.add(identity)
                    await self._send(Request(identity, method, params))
            case _:
                raise ProtocolError("frame: neither a log, progress nor a request")

    async def _log(self, params: Json) -> None:
        level, message, fields = params.get("level"), params.get("message"), params.get("fields")
        if level not in LOG_LEVELS or not isinstance(message, str) or not isinstance(fields, dict):
            raise ProtocolError("log: expected level, message and fields")
        size = len(message) + len(dumps(fields))
        if size > MAX_LINE_BYTES:
            message, fields = message[:MAX_LINE_BYTES], {}
        if self._logs.take(min(size, MAX_LINE_BYTES), time.monotonic()):
            await self._send(Notification("log", {"level": level, "message": message, "fields": fields}))

    async def _copy(self, stream: asyncio.StreamReader) -> None:
        """Turns output of the skill into log lines; it is always drained, so a flood never blocks anyone."""
        name = "stdout" if stream is self._child.stdout else "stderr"
        lines = LineSplitter()
        while data := await stream.read(_READ_SIZE):
            for line in lines.feed(data):
                await self._print(line, name)
        for line in lines.flush():
            await self._print(line, name)

    async def _print(self, line: str, stream: str) -> None:
        if self._logs.take(len(line), time.monotonic()):
            level = "info" if stream == "stdout" else "warning"
            await self._send(Notification("log", {"level": level, "message": line, "fields": {"stream": stream}}))

    async def _report_dropped(self) -> None:
        if self._logs.dropped:
            text = f"{self._logs.dropped} log lines were dropped: too many, or too much"
            with contextlib.suppress(ConnectionError):
                await self._send(Notification("log", {"level": "warning", "message": text, "fields": {}}))

    async def _watch_exit(self, relay: "asyncio.Future[None]") -> None:
        exit_ = await self._child.exited()
        # Its answer may still be in the channel, which ends right after it, unless a process it left holds it open.
        await asyncio.wait([relay], timeout=_DRAIN_SECONDS)
        self._settle(exit_)

    async def _watch_processes(self) -> None:
        limit = self._payload.limits.max_processes
        while True:
            await asyncio.sleep(_COUNT_SECONDS)
            if self._child.process_count() > limit:
                self.end(ErrorCode.SKILL_CRASHED, f"the skill started more than {limit} processes")
                return


def _death(code: int) -> str:
    if code >= 0:
        return f"the skill's process ended with exit code {code} before it answered"
    names = {9: "SIGKILL, perhaps for lack of memory", 24: "SIGXCPU: its CPU time was used up", 25: "SIGXFSZ"}
    return f"the skill's process was killed by signal {names.get(-code, -code)}"

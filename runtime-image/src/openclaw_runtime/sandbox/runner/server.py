"""The runner's server: readiness, the handshake of a call, and the one claim."""

import asyncio
import contextlib
import http
import json
import logging
import secrets
import signal
import socket
import time
from typing import Any, Final

from websockets.asyncio.server import Server, ServerConnection, serve, unix_serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request as HttpRequest
from websockets.http11 import Response
from websockets.typing import Subprotocol

from openclaw_runtime.sandbox.archive import ArchiveError, verify
from openclaw_runtime.sandbox.protocol import (
    CALL_ID,
    CALL_PATH,
    FRAME_OVERHEAD,
    MAX_FRAME_BYTES,
    MAX_PACKAGE_BYTES,
    MAX_RESULT_BYTES,
    NONCE_BYTES,
    SUBPROTOCOL,
    CallPayload,
    ErrorCode,
    Failure,
    Fields,
    Hello,
    Message,
    Notification,
    ProtocolError,
    Request,
    Success,
    decode,
    encode,
)
from openclaw_runtime.sandbox.runner.call import CallRun, failure
from openclaw_runtime.sandbox.runner.child import Child
from openclaw_runtime.sandbox.runner.rehearsal import own_address, rehearse_server
from openclaw_runtime.sandbox.runner.settings import Settings
from openclaw_runtime.sandbox.signing import SigningError, Verifier

HANDSHAKE_SECONDS: Final = 5.0
"""How long a connection may take from opening to a valid signed call."""
MAX_CONNECTIONS: Final = 64
RUNTIMES: Final = ("python",)
MAX_CHILD_FRAME: Final = MAX_RESULT_BYTES + FRAME_OVERHEAD
_CLOSE_SECONDS: Final = 1.0
_SEND_SECONDS: Final = 10.0

_log = logging.getLogger("openclaw.sandbox")


class _RefusedError(Exception):
    """The handshake failed; `response` is what the other end is told before the connection is closed."""

    def __init__(self, response: Failure) -> None:
        super().__init__(response.message)
        self.response = response


class Runner:
    """Serves one call and is done. `finished` is set when the process may exit."""

    def __init__(self, settings: Settings, verifier: Verifier, child: Child) -> None:
        self._settings = settings
        self._verifier = verifier
        self._child = child
        self._warm = False
        self._ready = False
        self._claimed = False
        self._run: CallRun | None = None
        self._connections = 0
        self.finished = asyncio.Event()

    async def serve(self) -> Server:
        """Waits for the child to be warm, then listens. Raises `ProtocolError` if the child dies first."""
        async for message in self._child.messages():
            if message == Notification("ready", {}):
                self._warm = True
                break
        if not self._warm:
            raise ProtocolError("child: ended before it was ready")
        options: dict[str, Any] = {
            "subprotocols": [Subprotocol(SUBPROTOCOL)],
            "compression": None,
            "max_size": MAX_FRAME_BYTES,
            "open_timeout": HANDSHAKE_SECONDS,
            "close_timeout": _CLOSE_SECONDS,
            "ping_interval": None,
            "server_header": None,
            "process_request": self._process_request,
        }
        if self._settings.socket_path is not None:
            server = await unix_serve(self._handle, str(self._settings.socket_path), **options)
        else:
            server = await serve(self._handle, self._settings.host, self._settings.port, **options)
        try:
            await rehearse_server(own_address(next(iter(server.sockets))))
        except (OSError, EOFError, TimeoutError) as error:
            _log.warning("the rehearsal failed", extra={"fields": {"reason": str(error) or type(error).__name__}})
        self._ready = True
        return server

    def stop(self) -> None:
        """Ends the runner: at once if it is idle, else by cancelling its call first."""
        if self._run is not None:
            self._run.end(ErrorCode.CANCELLED, "the sandbox is being stopped")
        elif not self._claimed:
            self.finished.set()

    async def watch_child(self) -> None:
        """Ends the runner when its child dies before any call came: it could only fail."""
        code = await self._child.exited()
        if not self._claimed:
            _log.error("the warm child died", extra={"fields": {"code": code}})
            self.finished.set()

    def _process_request(self, connection: ServerConnection, request: HttpRequest) -> Response | None:
        if request.path == CALL_PATH:
            if self._connections >= MAX_CONNECTIONS:
                return connection.respond(http.HTTPStatus.SERVICE_UNAVAILABLE, "too many connections\n")
            return None
        if request.path == "/health":
            return connection.respond(http.HTTPStatus.OK, "ok\n")
        if request.path == "/ready":
            if self._claimed or not self._ready:
                text = "claimed\n" if self._claimed else "starting\n"
                return connection.respond(http.HTTPStatus.SERVICE_UNAVAILABLE, text)
            return connection.respond(http.HTTPStatus.OK, "warm\n")
        return connection.respond(http.HTTPStatus.NOT_FOUND, f"only {CALL_PATH}, /ready and /health\n")

    async def _handle(self, connection: ServerConnection) -> None:
        self._connections += 1
        try:
            async with asyncio.timeout(HANDSHAKE_SECONDS):
                payload, tar = await self._handshake(connection)
        except _RefusedError as error:
            await self._refuse(connection, error.response)
        except ProtocolError as error:
            await self._refuse(connection, Failure(None, ErrorCode.INVALID_REQUEST, str(error)))
        except (TimeoutError, ConnectionClosed):
            await connection.close(1008, "no call")
        else:
            await self._serve_call(connection, payload, tar)
        finally:
            self._connections -= 1

    async def _refuse(self, connection: ServerConnection, response: Failure) -> None:
        if self._ready:
            _log.warning("refused", extra={"fields": {"code": int(response.code), "reason": response.message}})
        with contextlib.suppress(ConnectionClosed):
            await connection.send(encode(response))
        await connection.close(1008, "refused")

    async def _handshake(self, connection: ServerConnection) -> tuple[CallPayload, bytes]:
        """Returns the authorised call and its verified package. From the claim on this pod is used up."""
        if self._claimed:
            raise _RefusedError(Failure(None, ErrorCode.BUSY, "another call was accepted", {"type": "busy"}))
        nonce = secrets.token_bytes(NONCE_BYTES)
        hello = Hello(self._settings.pod_name, self._settings.pod_uid, nonce)
        await connection.send(encode(hello.message()))
        package = b""
        frame = await connection.recv()
        if isinstance(frame, bytes):
            if len(frame) > MAX_PACKAGE_BYTES:
                raise _RefusedError(failure(ErrorCode.PACKAGE, f"package: more than {MAX_PACKAGE_BYTES} bytes"))
            package = frame
            frame = await connection.recv()
        payload = self._authorise(_text(frame), nonce)
        return payload, self._open(package, payload)

    def _authorise(self, request: Message, nonce: bytes) -> CallPayload:
        """Checks the call and claims the pod for it, without giving way in between."""
        if not isinstance(request, Request) or request.method != "call" or request.id != CALL_ID:
            raise ProtocolError(f"frame: expected the request call with id {CALL_ID}")
        fields = Fields(request.params, "params")
        text, signature = fields.text("payload", limit=MAX_FRAME_BYTES), fields.text("signature", limit=128)
        try:
            payload = self._verifier.open(text, signature, nonce=nonce, pod_uid=self._settings.pod_uid, now=time.time())
        except SigningError as error:
            raise _RefusedError(failure(ErrorCode.UNAUTHORIZED, str(error))) from None
        except ProtocolError as error:
            raise _RefusedError(failure(ErrorCode.INVALID_PARAMS, str(error))) from None
        if self._claimed:
            raise _RefusedError(failure(ErrorCode.BUSY, "another call was accepted"))
        if payload.runtime not in RUNTIMES:
            known = ", ".join(RUNTIMES)
            text = f"runtime: {payload.runtime} is not known to this sandbox; known: {known}"
            raise _RefusedError(failure(ErrorCode.INVALID_PARAMS, text))
        self._claimed = True
        return payload

    def _open(self, package: bytes, payload: CallPayload) -> bytes:
        try:
            return verify(package, payload.digest)
        except ArchiveError as error:
            self.finished.set()
            raise _RefusedError(failure(ErrorCode.PACKAGE, str(error))) from None

    async def _serve_call(self, connection: ServerConnection, payload: CallPayload, tar: bytes) -> None:
        facts = {"callId": payload.call_id, "skill": payload.skill, "action": payload.action, "digest": payload.digest}
        _log.info("call", extra={"fields": facts})

        async def send(message: Message) -> None:
            # A gateway that is gone is noticed by the reader, which ends the call.
            with contextlib.suppress(ConnectionClosed):
                await connection.send(encode(message))

        run = self._run = CallRun(self._child, payload, send)
        reader = asyncio.ensure_future(self._read(connection, run))
        try:
            response = await run.run(tar)
            outcome = "ok" if isinstance(response, Success) else response.data.get("type")
            _log.info("done", extra={"fields": {"callId": payload.call_id, "outcome": outcome}})
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_SEND_SECONDS):
                    await send(response)
        finally:
            reader.cancel()
            await connection.close()
            self.finished.set()

    async def _read(self, connection: ServerConnection, run: CallRun) -> None:
        try:
            async for frame in connection:
                run.receive(_text(frame))
        except ProtocolError as error:
            run.end(ErrorCode.INVALID_REQUEST, str(error))
        run.end(ErrorCode.CANCELLED, "the gateway closed the connection")


def _text(frame: str | bytes) -> Message:
    if isinstance(frame, bytes):
        raise ProtocolError("frame: a binary frame where text belongs")
    return decode(frame)


class JsonFormatter(logging.Formatter):
    """One JSON object per line; `extra={"fields": {...}}` is merged in."""

    def format(self, record: logging.LogRecord) -> str:
        """Returns the line."""
        line = {"ts": round(record.created, 3), "level": record.levelname.lower(), "message": record.getMessage()}
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line | getattr(record, "fields", {}))


async def run(settings: Settings, verifier: Verifier, child: Child) -> int:
    """Runs the runner to its end and returns the exit code."""
    loop = asyncio.get_running_loop()
    await child.attach()
    runner = Runner(settings, verifier, child)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, runner.stop)
    try:
        server = await runner.serve()
    except (ProtocolError, OSError) as error:
        _log.error("cannot start", extra={"fields": {"reason": str(error)}})
        return 1
    watchers = [asyncio.ensure_future(runner.watch_child())]
    if settings.lifeline is not None:
        watchers.append(_hold_lifeline(settings.lifeline, runner))
    _log.info("ready", extra={"fields": {"pod": settings.pod_name}})
    await runner.finished.wait()
    for task in watchers:
        task.cancel()
    server.close(close_connections=True)
    await child.finish()
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(server.wait_closed(), _CLOSE_SECONDS)
    return 0


def _hold_lifeline(descriptor: int, runner: Runner) -> "asyncio.Task[None]":
    """Tells the process that started us that we are ready; the task it returns ends the runner with that process."""
    loop = asyncio.get_running_loop()
    lifeline = socket.socket(fileno=descriptor)
    lifeline.setblocking(False)

    async def wait() -> None:
        with contextlib.suppress(ConnectionError):
            await loop.sock_sendall(lifeline, b"\n")
            await loop.sock_recv(lifeline, 1)
        runner.stop()

    return asyncio.ensure_future(wait())

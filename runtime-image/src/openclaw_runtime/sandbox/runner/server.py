"""The runner's server: readiness, the handshake of a call, the one claim, and what comes after a call."""

import asyncio
import contextlib
import gc
import http
import logging
import secrets
import signal
import socket
import time
from collections.abc import Sequence
from typing import Final

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request as HttpRequest
from websockets.http11 import Response
from websockets.typing import Subprotocol

from openclaw_runtime.sandbox.archive import ArchiveError, verify
from openclaw_runtime.sandbox.attachments import MAX_ATTACHMENT_BYTES, Attachment
from openclaw_runtime.sandbox.jsonrpc import (
    Failure,
    Fields,
    Message,
    ProtocolError,
    Request,
    Success,
    decode_frame,
    encode,
)
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
    Hello,
)
from openclaw_runtime.sandbox.runner.call import CallRun, failure
from openclaw_runtime.sandbox.runner.channel import ChannelError
from openclaw_runtime.sandbox.runner.languages import SERVED
from openclaw_runtime.sandbox.runner.nursery import NotCleanError, Nursery
from openclaw_runtime.sandbox.runner.rehearsal import own_address, rehearse_server
from openclaw_runtime.sandbox.runner.settings import Settings
from openclaw_runtime.sandbox.runner.tenancy import Tenancy
from openclaw_runtime.sandbox.runner.zygote import ZygoteError
from openclaw_runtime.sandbox.signing import Connection, SigningError, Verifier

HANDSHAKE_SECONDS: Final = 5.0
"""How long a connection may take from opening to a valid signed call."""
PING_SECONDS: Final = 20.0
"""A gateway that is gone without a word is noticed by then; a call that waits for a user has no other limit here."""
MAX_CONNECTIONS: Final = 64
MAX_CHILD_FRAME: Final = max(MAX_RESULT_BYTES, MAX_ATTACHMENT_BYTES) + FRAME_OVERHEAD
_CLOSE_SECONDS: Final = 1.0
_SEND_SECONDS: Final = 10.0

_log = logging.getLogger("openclaw.sandbox")


class _RefusedError(Exception):
    """The handshake failed; `response` is what the other end is told before the connection is closed."""

    def __init__(self, response: Failure) -> None:
        super().__init__(response.message)
        self.response = response


class Runner:
    """Serves one call, or those of one lease, and is done. `finished` is set when the process may exit."""

    def __init__(self, settings: Settings, verifier: Verifier, nursery: Nursery) -> None:
        self._settings = settings
        self._verifier = verifier
        self._nursery = nursery
        self._tenancy = Tenancy(
            settings.leased, settings.lease_idle_seconds, settings.lease_max_seconds, time.monotonic
        )
        self._ready = asyncio.Event()
        self._stopping = False
        self._prepared = asyncio.Event()
        self._prepared.set()
        self._idle: asyncio.TimerHandle | None = None
        self._package: tuple[str, bytes] | None = None
        self._run: CallRun | None = None
        self._connections = 0
        self.finished = asyncio.Event()

    async def serve(self, listener: socket.socket) -> Server:
        """Waits for the child to be warm, then accepts calls. Raises `ProtocolError` if the child dies first."""
        await self._nursery.start()
        self._watch_child()
        server = await serve(
            self._handle,
            sock=listener,
            subprotocols=[Subprotocol(SUBPROTOCOL)],
            compression=None,
            max_size=MAX_FRAME_BYTES,
            open_timeout=HANDSHAKE_SECONDS,
            close_timeout=_CLOSE_SECONDS,
            ping_interval=PING_SECONDS,
            ping_timeout=PING_SECONDS,
            server_header=None,
            process_request=self._process_request,
        )
        try:
            await rehearse_server(own_address(next(iter(server.sockets))))
        except (OSError, EOFError, TimeoutError) as error:
            _log.warning("the rehearsal failed", extra={"fields": {"reason": str(error) or type(error).__name__}})
        # All that is here stays: a collection while a call runs looks at what came since.
        gc.freeze()
        self._ready.set()
        return server

    def stop(self) -> None:
        """Ends the runner: at once if it is idle, else after the call that runs. No other call is taken."""
        self._stopping = True
        if not self._tenancy.running:
            self.finished.set()

    def abort(self) -> None:
        """Ends the runner at once, and its call."""
        self.stop()
        if self._run is not None:
            self._run.end(ErrorCode.CANCELLED, "the sandbox is being stopped")

    def _watch_child(self) -> None:
        """Ends the runner if its child dies before a call came: that could only fail."""
        child = self._nursery.child

        def died(code: int) -> None:
            idle = self._prepared.is_set() and not self._tenancy.running and not self.finished.is_set()
            if idle and child is self._nursery.child:
                _log.error("the warm child died", extra={"fields": {"code": code}})
                self.finished.set()

        child.on_exit(died)

    async def _process_request(self, connection: ServerConnection, request: HttpRequest) -> Response | None:
        if request.path == CALL_PATH:
            if self._connections >= MAX_CONNECTIONS:
                return connection.respond(http.HTTPStatus.SERVICE_UNAVAILABLE, "too many connections\n")
            return None
        if request.path == "/health":
            return connection.respond(http.HTTPStatus.OK, "ok\n")
        if request.path == "/ready":
            # Nobody is told "not yet": the next question may be a second away.
            await self._ready.wait()
            if not self._tenancy.free:
                return connection.respond(http.HTTPStatus.SERVICE_UNAVAILABLE, "claimed\n")
            return connection.respond(http.HTTPStatus.OK, "warm\n")
        return connection.respond(http.HTTPStatus.NOT_FOUND, f"only {CALL_PATH}, /ready and /health\n")

    async def _handle(self, connection: ServerConnection) -> None:
        self._connections += 1
        try:
            async with asyncio.timeout(HANDSHAKE_SECONDS):
                accepted = await self._handshake(connection)
        except _RefusedError as error:
            await self._refuse(connection, error.response)
        except ProtocolError as error:
            await self._refuse(connection, Failure(None, ErrorCode.INVALID_REQUEST, str(error)))
        except (TimeoutError, ConnectionClosed):
            await connection.close(1008, "no call")
        else:
            if accepted is not None:
                await self._serve_call(connection, *accepted)
        finally:
            self._connections -= 1

    async def _refuse(self, connection: ServerConnection, response: Failure) -> None:
        if self._ready.is_set():
            _log.warning("refused", extra={"fields": {"code": int(response.code), "reason": response.message}})
        with contextlib.suppress(ConnectionClosed):
            await connection.send(encode(response))
        await connection.close(1008, "refused")

    async def _handshake(self, connection: ServerConnection) -> tuple[CallPayload, bytes] | None:
        """Returns the authorised call and its verified package, or None when a lease was given back.

        From the claim on this pod is used up for everybody but its holder.
        """
        if not self._tenancy.open:
            raise _RefusedError(Failure(None, ErrorCode.BUSY, "another call was accepted", {"type": "busy"}))
        nonce = secrets.token_bytes(NONCE_BYTES)
        settings = self._settings
        hello = Hello(
            settings.pod_name,
            settings.pod_uid,
            nonce,
            packages=(self._package[0],) if self._package else (),
            lease_idle_seconds=settings.lease_idle_seconds if settings.leased else 0,
        )
        await connection.send(encode(hello.message()))
        package = b""
        frame = await connection.recv()
        if isinstance(frame, bytes):
            if len(frame) > MAX_PACKAGE_BYTES:
                raise _RefusedError(failure(ErrorCode.PACKAGE, f"package: more than {MAX_PACKAGE_BYTES} bytes"))
            package = frame
            frame = await connection.recv()
        request = decode_frame(frame)
        here = Connection(nonce, settings.pod_uid, time.time())
        if settings.leased and isinstance(request, Request) and request.method == "release":
            self._release(request, here)
            await connection.send(encode(Success(CALL_ID, {})))
            return None
        payload = self._authorise(request, here)
        return payload, self._open(package, payload)

    def _authorise(self, request: Message, here: Connection) -> CallPayload:
        """Checks the call and claims the pod for it, without giving way in between."""
        if not isinstance(request, Request) or request.method != "call" or request.id != CALL_ID:
            raise ProtocolError(f"frame: expected the request call with id {CALL_ID}")
        text, signature = _signed(request)
        try:
            payload = self._verifier.open(text, signature, here)
        except SigningError as error:
            raise _RefusedError(failure(ErrorCode.UNAUTHORIZED, str(error))) from None
        except ProtocolError as error:
            raise _RefusedError(failure(ErrorCode.INVALID_PARAMS, str(error))) from None
        served = SERVED[self._settings.languages.runtime]
        if payload.runtime not in served and self._tenancy.open:
            known = ", ".join(served)
            text = f"runtime: {payload.runtime} is not known to this sandbox; known: {known}"
            raise _RefusedError(failure(ErrorCode.INVALID_PARAMS, text))
        if self._stopping or not self._tenancy.claim(payload.holder):
            raise _RefusedError(failure(ErrorCode.BUSY, "another call was accepted"))
        if self._idle is not None:
            self._idle.cancel()
        return payload

    def _release(self, request: Request, here: Connection) -> None:
        """Ends the lease if its holder asks for it."""
        text, signature = _signed(request)
        try:
            holder = self._verifier.open_release(text, signature, here)
        except SigningError as error:
            raise _RefusedError(failure(ErrorCode.UNAUTHORIZED, str(error))) from None
        if not self._tenancy.may_release(holder):
            raise _RefusedError(failure(ErrorCode.BUSY, "another call was accepted"))
        self.finished.set()

    def _open(self, package: bytes, payload: CallPayload) -> bytes:
        if not package and self._package and self._package[0] == payload.digest:
            return self._package[1]
        try:
            tar = verify(package, payload.digest)
        except ArchiveError as error:
            self.finished.set()
            raise _RefusedError(failure(ErrorCode.PACKAGE, str(error))) from None
        if self._settings.leased:
            self._package = payload.digest, tar
        return tar

    async def _serve_call(self, connection: ServerConnection, payload: CallPayload, tar: bytes) -> None:
        facts = {"callId": payload.call_id, "skill": payload.skill, "action": payload.action, "digest": payload.digest}
        _log.info("call", extra={"fields": facts})

        async def send(message: Message) -> None:
            # A gateway that is gone is noticed by the reader, which ends the call.
            with contextlib.suppress(ConnectionClosed):
                await connection.send(encode(message))

        goes_on = False
        # What the call before this one left is being cleared away.
        await self._prepared.wait()
        run = self._run = CallRun(self._nursery.child, payload, send)
        reader = asyncio.ensure_future(self._read(connection, run))
        try:
            response = await run.run(tar)
            # A caller that is gone may have broken off, and need not know what became of its lease.
            goes_on = self._between_calls(alone=reader.done())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_SEND_SECONDS):
                    await send(response)
                    if isinstance(response, Success) and run.attachments:
                        await _send_attachments(connection, run.attachments)
                        # The gateway ends the connection once it has them; what is on its way would end with us.
                        await asyncio.wait([reader])
            outcome = "ok" if isinstance(response, Success) else response.data.get("type")
            _log.info("done", extra={"fields": {"callId": payload.call_id, "outcome": outcome}})
        finally:
            reader.cancel()
            if goes_on:
                await self._prepare()
            await connection.close()
            if not goes_on:
                self.finished.set()

    def _between_calls(self, *, alone: bool) -> bool:
        """Returns whether another call may follow, and has it wait until the sandbox is clean again."""
        self._run = None
        if alone or self._stopping or self._tenancy.remaining() <= 0:
            return False
        self._prepared.clear()
        self._tenancy.running = False
        return True

    async def _prepare(self) -> None:
        """Makes everything ready for the next call of the lease, or ends the runner."""
        try:
            await self._nursery.renew()
        except (NotCleanError, ZygoteError, ProtocolError, ChannelError) as error:
            if not self.finished.is_set():
                _log.warning("the lease ends", extra={"fields": {"reason": str(error)}})
            self.finished.set()
            return
        self._prepared.set()
        self._watch_child()
        if self._stopping:
            self.finished.set()
        if not self._tenancy.running:
            self._idle = asyncio.get_running_loop().call_later(self._tenancy.remaining(), self.finished.set)

    async def _read(self, connection: ServerConnection, run: CallRun) -> None:
        try:
            # However it ends: a gateway that crashed says no goodbye.
            with contextlib.suppress(ConnectionClosed):
                async for frame in connection:
                    run.receive(decode_frame(frame))
        except ProtocolError as error:
            run.end(ErrorCode.INVALID_REQUEST, str(error))
        run.end(ErrorCode.CANCELLED, "the gateway closed the connection")


async def _send_attachments(connection: ServerConnection, attachments: Sequence[Attachment]) -> None:
    """Sends what the response has listed, in its order."""
    with contextlib.suppress(ConnectionClosed):
        for attachment in attachments:
            for chunk in attachment.chunks():
                await connection.send(chunk)


def _signed(request: Request) -> tuple[str, str]:
    """Returns the payload's text and its signature. Raises `ProtocolError`."""
    fields = Fields(request.params, "params")
    return fields.text("payload", limit=MAX_FRAME_BYTES), fields.text("signature", limit=128)


async def run(settings: Settings, verifier: Verifier, nursery: Nursery, listener: socket.socket) -> int:
    """Runs the runner to its end and returns the exit code."""
    loop = asyncio.get_running_loop()
    runner = Runner(settings, verifier, nursery)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, runner.stop)
    try:
        server = await runner.serve(listener)
    except (ProtocolError, ChannelError, ZygoteError, OSError) as error:
        _log.error("cannot start", extra={"fields": {"reason": str(error)}})
        return 1
    lifeline = None if settings.lifeline is None else _hold_lifeline(settings.lifeline, runner)
    _log.info("ready", extra={"fields": {"pod": settings.pod_name}})
    await runner.finished.wait()
    if lifeline is not None:
        lifeline.cancel()
    server.close(close_connections=True)
    await nursery.close()
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
        runner.abort()

    return asyncio.ensure_future(wait())

"""Runs Squid and answers it; serves health, metrics and the decisions of a call."""

import asyncio
import contextlib
import json
import logging
import shutil
import signal
import socket
import time
import uuid
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from openclaw_runtime.egress import grant as grants
from openclaw_runtime.egress import relay
from openclaw_runtime.egress.decider import Decider
from openclaw_runtime.egress.grant import GrantError
from openclaw_runtime.egress.journal import Journal
from openclaw_runtime.egress.resolver import Resolve, Resolver
from openclaw_runtime.egress.settings import Settings
from openclaw_runtime.egress.squid import ACCEPT, Layout, configuration
from openclaw_runtime.sandbox.signing import Checks

_STOP_SECONDS: Final = 5.0
_TRIAL_SECONDS: Final = 2.0
_TRIAL_PAUSE_SECONDS: Final = 0.05
_SETTLE_SECONDS: Final = 0.2
_SETTLE_PAUSE_SECONDS: Final = 0.01
_LINE_LIMIT: Final = 1024 * 1024
_CALLS_PATH: Final = "/v1/calls/"
_END: Final = "/end"

_log = logging.getLogger("openclaw.egress")
Answer = Callable[[str], Awaitable[str]]


class Service:
    """One proxy. `run` starts it and returns once it was told to stop, or Squid ended by itself."""

    def __init__(
        self, settings: Settings, keys: Checks, resolve: Resolve, write: Callable[[dict[str, Any]], None]
    ) -> None:
        self._settings = settings
        self._keys = keys
        self._journal = Journal(write)
        self._decider = Decider(keys, settings.rules, self._journal, resolve, time.time, lambda: uuid.uuid4().hex)
        self._ready = False
        self._stop = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    def stop(self) -> None:
        """Ends the service."""
        self._stop.set()

    async def run(self) -> int:
        """Returns the exit code: 0 if it was told to stop, 1 if Squid ended by itself."""
        settings = self._settings
        log = await asyncio.start_server(self._follow_log, "127.0.0.1", 0, limit=_LINE_LIMIT)
        inner, trial = _free_ports(2)
        layout = Layout(
            folder=settings.folder,
            host=settings.host,
            port=settings.port,
            inner_port=inner,
            trial_port=trial,
            log_port=log.sockets[0].getsockname()[1],
            relay=(settings.interpreter, "-I", "-S", str(settings.folder / "relay.py")),
        )
        _write_files(layout)
        servers = [
            log,
            await self._listen(layout.decide_socket, self._decider.decide),
            await self._listen(layout.rewrite_socket, self._decider.rewrite),
        ]
        api = await serve(
            _no_websocket, settings.host, settings.api_port, process_request=self._respond, compression=None
        )
        squid = await asyncio.create_subprocess_exec(
            settings.program, "-N", "-f", str(layout.configuration), stdin=asyncio.subprocess.DEVNULL
        )
        ended = asyncio.ensure_future(squid.wait())
        stopped = asyncio.ensure_future(self._stop.wait())
        listening = asyncio.ensure_future(self._await_squid(layout.trial_port))
        try:
            await asyncio.wait([ended, stopped], return_when=asyncio.FIRST_COMPLETED)
            if ended.done():
                _log.error("squid ended by itself", extra={"fields": {"code": squid.returncode}})
                return 1
            return 0
        finally:
            self._ready = False
            for task in (stopped, listening, *self._tasks):
                task.cancel()
            if not ended.done():
                squid.terminate()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(ended, _STOP_SECONDS)
                if squid.returncode is None:
                    squid.kill()
            for server in servers:
                server.close()
            api.close()

    async def _await_squid(self, port: int) -> None:
        """Watches for the moment from which Squid makes connections."""
        while not await _tried(port):  # noqa: ASYNC110 - Squid tells nobody
            await asyncio.sleep(_TRIAL_PAUSE_SECONDS)
        self._ready = True
        _log.info("ready", extra={"fields": {"port": self._settings.port}})

    async def _listen(self, path: Path, answer: Answer) -> asyncio.Server:
        async def follow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                async for line in reader:
                    task = asyncio.ensure_future(_answer(line, answer, writer))
                    self._tasks.add(task)
                    task.add_done_callback(self._tasks.discard)
            except (ValueError, ConnectionError) as error:
                _log.error("a helper of squid broke off", extra={"fields": {"reason": str(error)}})
            finally:
                writer.close()

        return await asyncio.start_unix_server(follow, path, limit=_LINE_LIMIT)

    async def _follow_log(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ValueError, ConnectionError):
            async for line in reader:
                self._decider.over(line.decode(errors="replace").strip())
        writer.close()

    async def _respond(self, connection: ServerConnection, request: Request) -> Response:
        path = request.path.partition("?")[0]
        if path == "/metrics":
            return connection.respond(HTTPStatus.OK, self._journal.metrics())
        if path == "/health":
            return connection.respond(HTTPStatus.OK, "ok\n")
        if path == "/ready":
            status = HTTPStatus.OK if self._ready else HTTPStatus.SERVICE_UNAVAILABLE
            return connection.respond(status, "ready\n" if self._ready else "starting\n")
        if path.startswith(_CALLS_PATH) and path.endswith(_END):
            return await self._end(connection, path[len(_CALLS_PATH) : -len(_END)], request)
        return connection.respond(HTTPStatus.NOT_FOUND, "only /health, /ready, /metrics and /v1/calls/<call>/end\n")

    async def _end(self, connection: ServerConnection, call_id: str, request: Request) -> Response:
        """Ends a call's way out and tells what was decided, for whoever has its token. The server knows only GET."""
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        try:
            grant = grants.verify(self._keys, token)
        except GrantError as error:
            return connection.respond(HTTPStatus.UNAUTHORIZED, f"{error}\n")
        if grant.call_id != call_id:
            return connection.respond(HTTPStatus.FORBIDDEN, "the token is of another call\n")
        self._decider.end(grant)
        # Its connections break off at that moment, too.
        end = asyncio.get_running_loop().time() + _SETTLE_SECONDS
        while not self._journal.settled(call_id) and asyncio.get_running_loop().time() < end:  # noqa: ASYNC110
            await asyncio.sleep(_SETTLE_PAUSE_SECONDS)
        body = json.dumps(self._journal.of_call(call_id)).encode()
        headers = Headers({"Content-Type": "application/json", "Content-Length": str(len(body)), "Connection": "close"})
        return Response(HTTPStatus.OK, "OK", headers, body)


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


async def _tried(port: int) -> bool:
    """Whether a tunnel through both of Squid's proxies comes about."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    try:
        writer.write(b"CONNECT 127.0.0.1:1 HTTP/1.1\r\nHost: 127.0.0.1:1\r\n\r\n")
        async with asyncio.timeout(_TRIAL_SECONDS):
            return b" 200 " in await reader.readline()
    except (OSError, ValueError, TimeoutError):
        return False
    finally:
        writer.close()


async def _answer(line: bytes, answer: Answer, writer: asyncio.StreamWriter) -> None:
    """Answers one line of a concurrent helper protocol, which begins with a channel number."""
    channel, _, question = line.decode(errors="replace").strip("\n").partition(" ")
    try:
        text = await answer(question)
    except Exception:  # noqa: BLE001 - logged
        # Squid waits for an answer to each line, and no answer is not a yes.
        _log.exception("a request could not be judged")
        text = "BH message=internal"
    writer.write(f"{channel} {text}\n".encode())
    with contextlib.suppress(ConnectionError):
        await writer.drain()


async def _no_websocket(_: ServerConnection) -> None:
    """Never called: every request is answered before."""


def _write_files(layout: Layout) -> None:
    layout.folder.mkdir(parents=True, exist_ok=True)
    for path in (layout.decide_socket, layout.rewrite_socket):
        path.unlink(missing_ok=True)
    layout.accept.write_text(ACCEPT)
    layout.certificate.write_bytes(_certificate())
    layout.certificate.chmod(0o600)
    # A copy, because Squid started by root runs its helpers as a user who may not get to where this package is.
    shutil.copyfile(relay.__file__, layout.folder / "relay.py")
    layout.configuration.write_text(configuration(layout))


def _certificate() -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "egress-proxy")])
    start = datetime.now(UTC) - timedelta(days=1)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=3650))
        .sign(key, hashes.SHA256())
    )
    encoded = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return encoded + certificate.public_bytes(serialization.Encoding.PEM)


async def run(settings: Settings, keys: Checks) -> int:
    """Runs the service until a signal ends it, and returns the exit code."""
    service = Service(settings, keys, Resolver(), _log_decision)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, service.stop)
    return await service.run()


def _log_decision(line: dict[str, Any]) -> None:
    _log.info("egress", extra={"fields": line})

"""The gateway's end of a call: sign it, send it, serve what the skill asks for, return what it answers."""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from websockets.asyncio.client import ClientConnection, connect, unix_connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage
from websockets.typing import Subprotocol

from openclaw_runtime.netloc import in_url
from openclaw_runtime.sandbox import errors
from openclaw_runtime.sandbox.endpoint import Endpoint
from openclaw_runtime.sandbox.exchange import Exchange
from openclaw_runtime.sandbox.jsonrpc import (
    Failure,
    Json,
    Message,
    Notification,
    ProtocolError,
    Request,
    decode_frame,
    encode,
)
from openclaw_runtime.sandbox.mcp import StdioServer
from openclaw_runtime.sandbox.protocol import (
    CALL_ID,
    CALL_PATH,
    FRAME_OVERHEAD,
    MAX_FRAME_BYTES,
    RELEASE_CONTEXT,
    SUBPROTOCOL,
    CallPayload,
    Hello,
    Holder,
    Limits,
    ReleasePayload,
)
from openclaw_runtime.sandbox.signing import Signs
from openclaw_runtime.skills.types import CallContext, SkillCall, SkillResult

VALIDITY_SECONDS: Final = 60
CONNECT_SECONDS: Final = 3.0

_log = logging.getLogger(__name__)


class UnreachableError(errors.SandboxUnavailableError):
    """This sandbox did not take the call; nothing has run, so another one may be tried."""


@dataclass(frozen=True, slots=True)
class CallOptions:
    """What goes with a call beside the call itself.

    `on_kept` is told when the call was answered and its sandbox waits for another one of its session: for how many
    seconds.
    """

    package: bytes
    limits: Limits
    context_methods: frozenset[str]
    on_kept: Callable[[float], None] = lambda _: None
    proxy_url: str = ""


@dataclass(slots=True)
class _Timing:
    """Milliseconds of each step, for spans and metrics."""

    clock: Callable[[], float]
    started: float
    steps: dict[str, float] = field(default_factory=dict)

    def mark(self, name: str) -> None:
        now = self.clock()
        self.steps[name] = round((now - self.started) * 1000, 3)
        self.started = now


class Calls(Protocol):
    """Whatever makes calls as `SandboxClient` does."""

    async def call(
        self, endpoint: Endpoint, call: SkillCall, options: CallOptions, context: CallContext
    ) -> SkillResult:
        """Makes one call on one sandbox."""
        ...

    async def release(self, endpoint: Endpoint, holder: Holder) -> None:
        """Gives a leased sandbox back."""


class SandboxClient:
    """Makes calls. One object serves any number of calls; `now` is Unix time, for the expiry of signatures."""

    def __init__(self, signer: Signs, now: Callable[[], float] = time.time) -> None:
        self._signer = signer
        self._now = now

    async def call(
        self, endpoint: Endpoint, call: SkillCall, options: CallOptions, context: CallContext
    ) -> SkillResult:
        """Makes one call on one sandbox.

        Raises `UnreachableError` or `SandboxBusyError` if this sandbox did not take it (nothing has run), and any
        other `SandboxError` for how it ended. Cancelling the task cancels the call in the sandbox.
        """
        timing = _Timing(time.monotonic, time.monotonic())
        connection = await self._connect(endpoint, options.limits)
        try:
            try:
                hello = await _hello(connection, endpoint)
                timing.mark("connect_ms")
                await self._send_call(connection, hello, call, options)
            except ConnectionClosed:
                raise UnreachableError(f"{endpoint.name} closed the connection before the call") from None
            timing.mark("send_ms")
            exchange = Exchange(connection, context, options.context_methods)
            try:
                result, attachments = await exchange.run(endpoint, options.limits)
            finally:
                if exchange.answered and hello.lease_idle_seconds:
                    options.on_kept(hello.lease_idle_seconds)
            timing.mark("run_ms")
        finally:
            await _discard(connection)
        usage = {"cpu_ms": result.cpu_ms, "max_rss_bytes": float(result.max_rss_bytes)}
        return SkillResult(
            result.output,
            result.duration_ms,
            result.result_sha256,
            endpoint.name,
            usage=usage,
            timings=timing.steps,
            attachments=attachments,
        )

    async def release(self, endpoint: Endpoint, holder: Holder) -> None:
        """Gives a leased sandbox back, so that it ends now. Raises `SandboxError` if it did not take it."""
        connection = await self._connect(endpoint, Limits())
        try:
            hello = await _hello(connection, endpoint)
            payload = ReleasePayload(hello.nonce, hello.pod_uid, int(self._now()) + VALIDITY_SECONDS, holder)
            text = payload.encode()
            signature = self._signer.sign(text, RELEASE_CONTEXT)
            await connection.send(encode(Request(CALL_ID, "release", {"payload": text, "signature": signature})))
            async with asyncio.timeout(CONNECT_SECONDS):
                answer = decode_frame(await connection.recv())
        except (ConnectionClosed, TimeoutError, ProtocolError):
            raise UnreachableError(f"{endpoint.name} closed the connection before its release") from None
        finally:
            await _discard(connection)
        if isinstance(answer, Failure):
            raise errors.from_code(answer.code, answer.message, answer.data)

    async def _connect(self, endpoint: Endpoint, limits: Limits) -> ClientConnection:
        options: dict[str, Any] = {
            "subprotocols": [Subprotocol(SUBPROTOCOL)],
            "compression": None,
            "max_size": limits.max_result_bytes + FRAME_OVERHEAD,
            "open_timeout": CONNECT_SECONDS,
            "close_timeout": 1.0,
            "ping_interval": None,
            "user_agent_header": None,
        }
        try:
            if isinstance(endpoint.address, tuple):
                host, port = endpoint.address
                return await connect(f"ws://{in_url(host)}:{port}{CALL_PATH}", proxy=None, **options)
            return await unix_connect(str(endpoint.address), f"ws://localhost{CALL_PATH}", **options)
        except (OSError, TimeoutError, InvalidHandshake, InvalidMessage, ConnectionClosed) as error:
            reason = str(error) or type(error).__name__
            raise UnreachableError(f"{endpoint.name} cannot be reached: {reason}") from None

    async def _send_call(
        self, connection: ClientConnection, hello: Hello, call: SkillCall, options: CallOptions
    ) -> None:
        skill = call.skill
        payload = CallPayload(
            nonce=hello.nonce,
            pod_uid=hello.pod_uid,
            expires_at=int(self._now()) + VALIDITY_SECONDS,
            call_id=call.call_id,
            agent=call.agent,
            session=call.session,
            skill=skill.name,
            version=skill.version,
            digest=skill.digest,
            runtime=skill.runtime,
            entrypoint=skill.entrypoint,
            command=skill.command,
            action=call.action,
            input=call.input,
            config=skill.config,
            secrets=skill.secrets,
            permissions=tuple(sorted(skill.permissions)),
            allowed_domains=skill.allowed_domains,
            proxy_url=options.proxy_url,
            limits=options.limits,
            mcp=_mcp(call),
        )
        try:
            text = payload.encode()
        except (TypeError, ValueError) as error:
            raise errors.ProtocolViolationError(f"input: not JSON: {error}") from None
        frame = encode(Request(CALL_ID, "call", {"payload": text, "signature": self._signer.sign(text)}))
        if len(frame) > MAX_FRAME_BYTES:
            raise errors.ProtocolViolationError(f"input: the call is {len(frame)} bytes; at most {MAX_FRAME_BYTES} fit")
        if skill.digest not in hello.packages:
            if len(options.package) > hello.max_package_bytes:
                size, most = len(options.package), hello.max_package_bytes
                raise errors.PackageRefusedError(f"package: {size} bytes; {hello.pod_name} takes at most {most}")
            await connection.send(options.package)
        await connection.send(frame)


def _mcp(call: SkillCall) -> Json:
    """What the pod needs of a skill that is an MCP server; the action's own name says which tool."""
    server, spec = call.skill.mcp, call.skill.action(call.action)
    if server is None:
        return {}
    return StdioServer(server.command, dict(server.env), spec.tool if spec else None).wire()


async def _hello(connection: ClientConnection, endpoint: Endpoint) -> Hello:
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            hello = _parse_hello(decode_frame(await connection.recv()))
    except TimeoutError:
        raise UnreachableError(f"no hello within {CONNECT_SECONDS:g} s") from None
    except ProtocolError as error:
        raise UnreachableError(f"not a sandbox: {error}") from None
    if hello.pod_uid != endpoint.uid:
        # An address may be given to another pod, and whoever answers there could pass our signature on.
        raise UnreachableError(f"{endpoint.name} says that it is another pod: {hello.pod_uid}")
    return hello


def _parse_hello(message: Message) -> Hello:
    if isinstance(message, Failure):
        raise errors.from_code(message.code, message.message, message.data)
    if not isinstance(message, Notification) or message.method != "hello":
        raise ProtocolError("frame: expected hello")
    return Hello.parse(message.params)


async def _discard(connection: ClientConnection) -> None:
    """Ends the connection without waiting for the other end: the pod exits anyway."""
    # asyncio of Python 3.11 trips over aborting a transport that was lost with bytes unsent.
    if not connection.transport.is_closing():
        connection.transport.abort()

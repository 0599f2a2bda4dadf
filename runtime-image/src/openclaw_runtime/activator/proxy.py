"""Takes requests for agents that sleep: holds each until a gateway is there, and hands it on as it is.

The bearer token tells whose request it is, so it works whatever name the agent is reached by; without a good one nobody
is woken. What is in a request is neither kept nor logged, and its body stays with the client until it can be handed on.
"""

import asyncio
import hashlib
import json
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from typing import Final

import httpx
from prometheus_client import CollectorRegistry, Counter, Gauge
from starlette.types import Message, Receive, Scope, Send

from openclaw_runtime.activator.board import Board
from openclaw_runtime.activator.settings import Sleeper, Sleepers

MOST_HELD: Final = 256
"""Requests held at once, of all agents; more are told to come back."""
RETRY_AFTER_SECONDS: Final = 10
REMIND_SECONDS: Final = 5.0
_CONNECT_SECONDS: Final = 3.0
# Probes and scrapes ask whether there is somebody, and are no reason to wake anybody.
_OPEN_PATHS: Final = frozenset({"/health", "/ready", "/metrics"})
# https://www.rfc-editor.org/rfc/rfc9110#section-7.6.1
_HOP_BY_HOP: Final = frozenset(
    {b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade"}
)

_log = logging.getLogger(__name__)


class Metrics:
    """What an activator counts."""

    def __init__(self, board: Board) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "openclaw_activator_requests",
            "Requests for agents that hibernate: forwarded, unauthorized, full, timeout or failed.",
            ["outcome"],
            registry=self.registry,
        )
        held = Gauge("openclaw_activator_held_requests", "Requests that wait for a gateway.", registry=self.registry)
        held.set_function(lambda: board.held)


class _FullError(Exception):
    """No more requests can be held."""


class _ClientLeftError(Exception):
    """Nobody waits for the answer any more."""


class _Client:
    """The body of a request, read once it is wanted, and whether its client is still there."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._first: Message | None = None
        self._whole = asyncio.Event()

    async def check(self) -> None:
        """Raises `_ClientLeftError` if the client has left."""
        if self._first is None:
            self._first = await self._receive()
        if self._first["type"] == "http.disconnect":
            raise _ClientLeftError

    async def body(self) -> AsyncIterator[bytes]:
        """Yields the body."""
        while not self._whole.is_set():
            await self.check()
            message, self._first = self._first or {}, None
            if not message.get("more_body", False):
                self._whole.set()
            yield message.get("body", b"")

    async def left(self) -> None:
        """Returns once the client has left after his body was read."""
        await self._whole.wait()
        while (await self._receive())["type"] != "http.disconnect":
            pass


class Proxy:
    """An ASGI application that stands in for gateways."""

    def __init__(self, board: Board, sleepers: Callable[[], Sleepers], metrics: Metrics) -> None:
        self._board = board
        self._sleepers = sleepers
        self._metrics = metrics
        # No limit on reading: a turn may take long, and its client has a timeout of his own.
        timeout = httpx.Timeout(None, connect=_CONNECT_SECONDS)
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        self._http = httpx.AsyncClient(timeout=timeout, limits=limits, trust_env=False)

    async def close(self) -> None:
        """Closes connections."""
        await self._http.aclose()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves a request."""
        if scope["path"] in _OPEN_PATHS:
            body = b"" if scope["path"] == "/metrics" else b'{"status":"hibernated"}'
            await _respond(send, 200, body, content_type=b"text/plain" if not body else b"application/json")
            return
        sleepers = self._sleepers()
        agent = sleepers.of_token(_token_digest(scope))
        if agent is None:
            await self._refuse(send, 401, "unauthorized", "no token, or one of no agent here", "invalid_api_key")
            return
        client = _Client(receive)
        work = asyncio.create_task(self._serve(agent, sleepers.agents[agent], scope, client, send))
        left = asyncio.create_task(client.left())
        try:
            await asyncio.wait({work, left}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            left.cancel()
            if not work.done():
                work.cancel()
            with suppress(asyncio.CancelledError, _ClientLeftError):
                await work

    async def _serve(self, agent: str, sleeper: Sleeper, scope: Scope, client: _Client, send: Send) -> None:
        try:
            answer = await self._hand_on(agent, sleeper, scope, client)
        except TimeoutError:
            _log.warning("agent %s did not wake within %g s", agent, sleeper.wake_timeout_seconds)
            message = f"agent {agent} did not wake within {sleeper.wake_timeout_seconds:g} s; try again"
            await self._refuse(send, 503, "timeout", message, "waking")
            return
        except _FullError:
            await self._refuse(send, 503, "full", f"{MOST_HELD} requests wait already; try again", "waking")
            return
        except httpx.HTTPError as error:
            _log.warning("the gateway of agent %s failed: %s", agent, error or type(error).__name__)
            await self._refuse(send, 502, "failed", "the gateway ended the connection; try again", "gateway_failed")
            return
        self._metrics.requests.labels("forwarded").inc()
        try:
            kept = [(name, value) for name, value in answer.headers.raw if name.lower() not in _HOP_BY_HOP]
            # So that the next request is sent to the gateway itself, once the Service leads there again.
            headers = [*kept, (b"connection", b"close")]
            await send({"type": "http.response.start", "status": answer.status_code, "headers": headers})
            async for chunk in answer.aiter_raw():
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        finally:
            await answer.aclose()

    async def _hand_on(self, agent: str, sleeper: Sleeper, scope: Scope, client: _Client) -> httpx.Response:
        """Returns the answer of a gateway, its body unread. Raises TimeoutError if none is there in time."""
        deadline = asyncio.get_running_loop().time() + sleeper.wake_timeout_seconds
        named = {name for name, _ in scope["headers"]}
        while True:
            async with asyncio.timeout_at(deadline):
                address = await self._address(agent)
            await client.check()
            request = self._http.build_request(
                scope["method"],
                address + _target(scope),
                headers=[(name, value) for name, value in scope["headers"] if name not in _HOP_BY_HOP],
                content=client.body() if named & {b"content-length", b"transfer-encoding"} else None,
            )
            try:
                return await self._http.send(request, stream=True)
            except (httpx.ConnectError, httpx.ConnectTimeout):
                self._board.forget(agent, address)

    async def _address(self, agent: str) -> str:
        """Returns where a gateway takes requests; wakes the agent and waits while there is none."""
        board = self._board
        if not board.asleep(agent):
            return await board.address(agent)
        if board.held >= MOST_HELD:
            raise _FullError
        with board.holding(agent):
            waiting = asyncio.ensure_future(board.address(agent))
            try:
                while not waiting.done():
                    board.want(agent)
                    await asyncio.wait([waiting], timeout=REMIND_SECONDS)
                return waiting.result()
            finally:
                waiting.cancel()

    async def _refuse(self, send: Send, status: int, outcome: str, message: str, code: str) -> None:
        self._metrics.requests.labels(outcome).inc()
        # As gateways, and OpenAI, shape errors.
        kind = "authentication_error" if status == 401 else "server_error"
        error = {"message": message, "type": kind, "param": None, "code": code}
        more = [(b"retry-after", str(RETRY_AFTER_SECONDS).encode())] if status == 503 else []
        more += [(b"www-authenticate", b"Bearer")] if status == 401 else []
        await _respond(send, status, json.dumps({"error": error}).encode(), more=more)


def _token_digest(scope: Scope) -> str:
    header = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
    scheme, _, token = header.partition(b" ")
    return hashlib.sha256(token.strip()).hexdigest() if scheme.lower() == b"bearer" and token.strip() else ""


def _target(scope: Scope) -> str:
    query = f"?{scope['query_string'].decode('latin-1')}" if scope["query_string"] else ""
    return f"{scope['raw_path'].decode('latin-1')}{query}"


async def _respond(
    send: Send,
    status: int,
    body: bytes,
    *,
    content_type: bytes = b"application/json",
    more: Sequence[tuple[bytes, bytes]] = (),
) -> None:
    length = (b"content-length", str(len(body)).encode())
    headers = [(b"content-type", content_type), length, (b"connection", b"close"), *more]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})

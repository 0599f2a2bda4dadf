"""A reverse proxy on loopback between the operator and the API server that can lose, refuse and cut what passes.

It never invents, reorders or changes an answer of the API server. Events of a watch may be held back, cut off, or (on
request) sent twice in a row.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import aiohttp
from aiohttp import web

from tests.faults.injection import Answer, Call, CloseAfter, CloseBefore, Hang, Injector, Pass, no_faults

# https://www.rfc-editor.org/rfc/rfc9110#section-7.6.1 and what the two HTTP stacks set themselves.
_HOP_BY_HOP = frozenset({"connection", "host", "keep-alive", "transfer-encoding", "content-length", "upgrade"})
LONGEST_EVENT_BYTES = 8 * 1024 * 1024
_REASONS = {
    409: "Conflict",
    410: "Expired",
    422: "Invalid",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
}


@dataclass(frozen=True)
class Write:
    """A write the API server has done."""

    number: int
    method: str
    path: str
    body: bytes

    def __str__(self) -> str:
        return f"write {self.number}: {self.method} {self.path}"


@dataclass(frozen=True, eq=False)
class Watch:
    """A watch under way: `ending` ends it, and its events wait while `flowing` is not set."""

    request: web.Request
    ending: asyncio.Event
    flowing: asyncio.Event


def every_watch(path: str) -> bool:
    """Whatever it watches."""
    return True


class Proxy:
    """Async context manager. `url` is where the operator shall connect, without TLS and without credentials."""

    def __init__(self, upstream: str, tls: ssl.SSLContext) -> None:
        self.injector: Injector = no_faults
        self.on_write: Callable[[Write], None] = lambda _: None
        self.duplicate_events = False
        self.end_watches_at_once = False
        self.calls: list[Call] = []
        self.writes: list[Write] = []
        self.injected = 0
        self.url = ""
        self._upstream = upstream
        self._tls = tls
        self._down = False
        # The watches whose events wait, by their paths.
        self._held: Callable[[str], bool] | None = None
        self._watches: set[Watch] = set()
        # Set once what hangs may go.
        self._over = asyncio.Event()
        self._session: aiohttp.ClientSession | None = None
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            self._upstream,
            connector=aiohttp.TCPConnector(ssl=self._tls, limit=0),
            timeout=aiohttp.ClientTimeout(total=None),
            auto_decompress=False,
            skip_auto_headers={"Accept-Encoding", "Content-Type", "User-Agent"},
            read_bufsize=LONGEST_EVENT_BYTES,
        )
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        address = self._runner.addresses[0]
        self.url = f"http://{address[0]}:{address[1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cut_watches()
        self.reset()
        if self._runner is not None:
            await self._runner.cleanup()
        await self._client.close()

    @property
    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise RuntimeError("use Proxy as an async context manager")
        return self._session

    def reset(self) -> None:
        """Forget what has passed, and inject nothing any more."""
        self.injector = no_faults
        self.on_write = lambda _: None
        self.duplicate_events = False
        self.end_watches_at_once = False
        self._down = False
        self.release_events()
        self._over.set()
        self._over = asyncio.Event()
        self.calls.clear()
        self.writes.clear()
        self.injected = 0

    def cut_watches(self) -> None:
        """Close the connection of each watch in the middle of its stream."""
        for watch in list(self._watches):
            _abort(watch.request)

    def end_watches(self) -> None:
        """End the stream of each watch as the API server does when its time is over."""
        for watch in list(self._watches):
            watch.ending.set()

    def stall_watches(self) -> None:
        """Let nothing more come of the watches under way, without a word: only a new one tells of anything."""
        for watch in self._watches:
            watch.flowing.clear()

    def hold_events(self, of: Callable[[str], bool] = every_watch) -> None:
        """Let the watches of some paths fall behind: their events wait, in order."""
        self._held = of
        for watch in self._watches:
            if of(watch.request.path):
                watch.flowing.clear()

    def release_events(self) -> None:
        """Let the events that waited pass."""
        self._held = None
        for watch in self._watches:
            watch.flowing.set()

    def go_down(self) -> None:
        """Be an API server that is gone: no connection is kept, no request is answered."""
        self._down = True
        self.cut_watches()

    def come_up(self) -> None:
        self._down = False

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        is_watch = request.query.get("watch", "").lower() in {"1", "true"}
        call = Call(
            len(self.calls) + 1,
            request.method,
            request.path,
            is_watch,
            body,
            is_later_page=bool(request.query.get("continue")),
            is_streamed_list=request.query.get("sendInitialEvents") == "true",
        )
        self.calls.append(call)
        fault = CloseBefore() if self._down else self.injector(call)
        if fault != Pass():
            self.injected += 1
        match fault:
            case CloseBefore():
                return _abort(request)
            case Answer(status):
                return _refusal(status)
            case Hang():
                await self._over.wait()
                return _abort(request)
            case Pass(delay):
                await asyncio.sleep(delay)
        try:
            return await self._forward(request, call, close=isinstance(fault, CloseAfter))
        except (aiohttp.ClientError, OSError):
            # The API server did not answer, so neither do we.
            return _abort(request)

    async def _forward(self, request: web.Request, call: Call, *, close: bool) -> web.StreamResponse:
        headers = {key: value for key, value in request.headers.items() if key.lower() not in _HOP_BY_HOP}
        async with self._client.request(
            call.method, request.rel_url, headers=headers, data=call.body or None
        ) as answer:
            if call.is_watch and answer.status == 200:
                return _abort(request) if close else await self._stream(request, answer)
            content = await answer.read()
            if call.is_write and answer.status < 400:
                write = Write(len(self.writes) + 1, call.method, call.path, call.body)
                self.writes.append(write)
                self.on_write(write)
            if close:
                return _abort(request)
            return web.Response(body=content, status=answer.status, headers=_headers(answer))

    async def _stream(self, request: web.Request, answer: aiohttp.ClientResponse) -> web.StreamResponse:
        response = web.StreamResponse(status=answer.status, headers=_headers(answer))
        response.enable_chunked_encoding()
        await response.prepare(request)
        watch = Watch(request, asyncio.Event(), asyncio.Event())
        if self.end_watches_at_once:
            watch.ending.set()
        if self._held is None or not self._held(request.path):
            watch.flowing.set()
        self._watches.add(watch)
        ended = asyncio.create_task(watch.ending.wait())
        try:
            while True:
                reading = asyncio.create_task(answer.content.readline())
                await asyncio.wait({reading, ended}, return_when=asyncio.FIRST_COMPLETED)
                if not reading.done():
                    reading.cancel()
                    break
                line = reading.result()
                if not line:
                    break
                await watch.flowing.wait()
                await response.write(line + line if self.duplicate_events and line.endswith(b"\n") else line)
            await response.write_eof()
        except ConnectionError:
            pass
        finally:
            ended.cancel()
            self._watches.discard(watch)
        return response


def _headers(answer: aiohttp.ClientResponse) -> dict[str, str]:
    return {key: value for key, value in answer.headers.items() if key.lower() not in _HOP_BY_HOP}


def _abort(request: web.Request) -> web.Response:
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


def _refusal(status: int) -> web.Response:
    """A refusal in the shape of the API server (a metav1.Status)."""
    details: dict[str, Any] = {"retryAfterSeconds": 1} if status in {429, 503} else {}
    body = {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "message": "injected fault",
        "reason": _REASONS[status],
        "details": details,
        "code": status,
    }
    headers = {"Retry-After": "1"} if status in {429, 503} else {}
    return web.Response(text=json.dumps(body), status=status, headers=headers, content_type="application/json")

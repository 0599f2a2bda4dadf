"""Calls of remote MCP servers, from the gateway: streamable HTTP, each call on a connection of its own.

The official SDK speaks the protocol; the limits are ours: size of all that is read, time, redirects within the server.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from pydantic import TypeAdapter

from openclaw_runtime.sandbox import errors
from openclaw_runtime.sandbox.jsonrpc import Json, canonical_sha256
from openclaw_runtime.sandbox.mcp import MAX_PAGES, MAX_TOOLS, ToolError, ToolResult, result_of
from openclaw_runtime.sandbox.protocol import MAX_RESULT_BYTES
from openclaw_runtime.skills.mcp.asked import Asked
from openclaw_runtime.skills.mcp.outward import Outward, require_permission
from openclaw_runtime.skills.types import CallContext, McpServer, SkillCall, SkillResult
from openclaw_runtime.timelimit import TimeLimit

if TYPE_CHECKING:
    import httpx2
    from mcp import Client

MAX_READ_BYTES: Final = 2 * MAX_RESULT_BYTES
"""Of all responses of one call."""
CONNECT_SECONDS: Final = 10.0
CLOSE_SECONDS: Final = 2.0
"""For the end of a session, all of it."""

Judge = Callable[[str, int], Awaitable[str]]
"""Returns the address to dial for a host and a port. Raises `SandboxError`."""


class _TooMuchError(Exception):
    """The server sent more than it may."""


async def call_remote(
    call: SkillCall, server: McpServer, context: CallContext, changed: Callable[[], None], outward: Outward | None
) -> SkillResult:
    """Makes one call: lists the tools (`call.action` is `tools/list`) or calls one. Raises `SandboxError`.

    `outward` judges what is connected to; None where skills may reach what their machine reaches. `changed` is called
    when the server says meanwhile that its tools are others now, or refuses the call itself.
    """
    require_permission(call)
    started = time.monotonic()
    spec = call.skill.action(call.action)
    limit = TimeLimit(server.timeout_seconds)
    asked = Asked(context, limit)

    async def progress(done: float, total: float | None, message: str | None) -> None:
        if total:
            await context.progress(min(1.0, max(0.0, done / total)), message or "")

    async def ask(client: "Client") -> ToolResult:
        if spec is None:
            return ToolResult(await _tools(client))
        return result_of(await _call_tool(client, spec.tool or spec.name, call.input, progress, asked))

    async def judge(host: str, port: int) -> str:
        return await outward.address(call, host, port) if outward is not None else host

    result = await _within(server, limit, _connected(server, changed, judge, asked), changed, ask)
    for problem in result.problems:
        await context.log("warning", problem, {})
    return SkillResult(
        output=result.output,
        duration_ms=round((time.monotonic() - started - limit.stood_still) * 1000, 3),
        result_sha256=canonical_sha256(result.output),
        sandbox=urlsplit(server.url or "").netloc,
        attachments=result.attachments,
    )


async def _within(
    server: McpServer,
    limit: TimeLimit,
    connected: "AbstractAsyncContextManager[Client]",
    changed: Callable[[], None],
    work: "Callable[[Client], Awaitable[ToolResult]]",
) -> ToolResult:
    """Connects, works and closes, and says in our words what failed."""
    host = urlsplit(server.url or "").netloc
    try:
        async with limit, connected as client:
            return await work(client)
    except TimeoutError:
        raise errors.CallTimeoutError(f"the MCP server {host} took longer than {server.timeout_seconds:g} s") from None
    except ToolError as error:
        raise errors.SkillFailedError(str(error)) from None
    except (Exception, BaseExceptionGroup) as error:  # noqa: BLE001 - whatever the SDK raises ends in our tree
        cause = _first(error)
        if type(cause).__name__ == "MCPError":
            changed()
        raise _explained(host, cause) from None


def _first(error: BaseException) -> BaseException:
    """The SDK runs a call's parts side by side: what failed arrives in a group."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _explained(host: str, error: BaseException) -> BaseException:
    from mcp import MCPError

    match error:
        case errors.SandboxError():
            return error
        case ToolError():
            return errors.SkillFailedError(str(error))
        case _TooMuchError():
            return errors.ResultTooLargeError(f"the MCP server {host} sent more than {MAX_READ_BYTES} bytes")
        case MCPError():
            return errors.SkillFailedError(f"the MCP server {host}: {str(error)[:1000]}")
        case asyncio.CancelledError() | KeyboardInterrupt() | SystemExit():
            return error
    name = type(error).__name__
    return errors.SandboxUnavailableError(f"the MCP server {host} cannot be used: {name}: {str(error)[:300]}")


async def _tools(client: "Client") -> list[Json]:
    found: list[Json] = []
    cursor: str | None = None
    for _ in range(MAX_PAGES):
        page = await client.list_tools(cursor=cursor)
        found += [tool.model_dump(mode="json", by_alias=True, exclude_none=True) for tool in page.tools]
        cursor = page.next_cursor
        if not cursor or len(found) >= MAX_TOOLS:
            break
    return found[:MAX_TOOLS]


async def _call_tool(client: "Client", tool: str, arguments: dict[str, Any], progress: Any, asked: Asked) -> Json:
    from mcp import types

    either: TypeAdapter[types.Result] = TypeAdapter(types.CallToolResult | types.InputRequiredResult)

    async def send(answers: "dict[str, types.InputResponse] | None", state: str | None) -> types.Result:
        # Not client.call_tool: it lists the tools again to check the result, and that is checked by `SkillService`.
        params = types.CallToolRequestParams(
            name=tool, arguments=arguments, input_responses=answers, request_state=state
        )
        return await client.session.send_request(
            types.CallToolRequest(params=params), either, progress_callback=progress
        )

    return (await asked.rounds(send)).model_dump(mode="json", by_alias=True, exclude_none=True)


async def _addressed(request: "httpx2.Request", judge: Judge) -> "httpx2.Request":
    """Returns the request at the address that was judged: nobody resolves the name again. TLS is for the name."""
    import httpx2

    url = request.url
    address = await judge(url.host, url.port or (443 if url.scheme == "https" else 80))
    return httpx2.Request(
        request.method,
        url.copy_with(host=address),
        headers=request.headers,
        stream=request.stream,
        extensions={**request.extensions, "sni_hostname": url.host},
    )


@asynccontextmanager
async def _connected(
    server: McpServer, changed: Callable[[], None], judge: Judge, asked: Asked
) -> AsyncIterator["Client"]:
    import httpx2
    from mcp import Client, types
    from mcp.client.streamable_http import streamable_http_client

    async def heard(message: object) -> None:
        if isinstance(message, types.ToolListChangedNotification):
            changed()

    assert server.url is not None
    # The call's own limit ends it. A server that waits for its user's answer is silent for longer. What comes after
    # that limit has one of its own: see `_transport`.
    timeout = httpx2.Timeout(None, connect=CONNECT_SECONDS)
    transport = _transport(judge)
    async with httpx2.AsyncClient(headers=dict(server.headers), timeout=timeout, transport=transport) as http:
        streams = streamable_http_client(server.url, http_client=http, max_sse_event_size=MAX_READ_BYTES)
        async with Client(streams, cache=None, message_handler=heard, elicitation_callback=asked.answer) as client:
            yield client


def _transport(judge: Judge) -> "httpx2.AsyncBaseTransport":
    """Returns a transport that dials what `judge` says and reads at most `MAX_READ_BYTES` over all its responses."""
    import httpx2

    left = MAX_READ_BYTES

    class Bounded(httpx2.AsyncByteStream):
        def __init__(self, stream: httpx2.AsyncByteStream) -> None:
            self._stream = stream

        async def __aiter__(self) -> AsyncIterator[bytes]:
            nonlocal left
            async for chunk in self._stream:
                left -= len(chunk)
                if left < 0:
                    raise _TooMuchError
                yield chunk

        async def aclose(self) -> None:
            await self._stream.aclose()

    class BoundedTransport(httpx2.AsyncHTTPTransport):
        async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
            # A small compressed answer may be a huge one.
            request.headers["Accept-Encoding"] = "identity"
            if request.method == "DELETE":
                return await self._end_session(request)
            response = await super().handle_async_request(await _addressed(request, judge))
            assert isinstance(response.stream, httpx2.AsyncByteStream)
            response.stream = Bounded(response.stream)
            return response

        async def _end_session(self, request: httpx2.Request) -> httpx2.Response:
            # The SDK does so after the call, also where its limit ended it, which does so once only: a server that does
            # not answer would hold the call for ever. Neither a redirect nor a body is waited for.
            async with asyncio.timeout(CLOSE_SECONDS):
                response = await super().handle_async_request(await _addressed(request, judge))
                await response.aclose()
            return httpx2.Response(response.status_code)

    return BoundedTransport()

"""A skill that is an MCP server: started inside the child, asked one thing over its stdio, and gone with the call.

Our own client, because the official one would more than double a warm pod: it brings 57 MiB of resident memory, 70 MB
of files and a second and a half of imports, for what is one JSON object per line here.
https://modelcontextprotocol.io/specification/2025-06-18/basic/transports#stdio
"""

import asyncio
import json
import os
import runpy
import sys
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from openclaw_runtime.sandbox.attachments import MAX_TOTAL_BYTES
from openclaw_runtime.sandbox.elicitation import elicit
from openclaw_runtime.sandbox.jsonrpc import Json, dumps
from openclaw_runtime.sandbox.mcp import MAX_PAGES, MAX_TOOLS, StdioServer, ToolError, result_of
from openclaw_runtime.sandbox.protocol import MAX_RESULT_BYTES, CallPayload
from openclaw_runtime.sandbox.runner.context import RemoteContext
from openclaw_skill import ContextError, SkillError

PROTOCOL: Final = "2025-06-18"
MAX_LINE_BYTES: Final = MAX_RESULT_BYTES + MAX_TOTAL_BYTES * 4 // 3
"""Of one message: a result, and its attachments as base64."""
_MAX_NOISE: Final = 20
"""Lines that are no JSON: a banner is forgiven, a program that is no MCP server is not."""
_PYTHON: Final = frozenset({"python", "python3"})
_LEVELS: Final = {"debug": 10, "info": 20, "notice": 20, "warning": 30}


class ServerError(SkillError):
    """The server does not do what MCP asks of it. `str()` says what it did."""


@dataclass(frozen=True, slots=True)
class Pipes:
    """The two ends of a server's stdio."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


async def call(payload: CallPayload, package: Path, context: RemoteContext) -> Any:
    """Makes one call: lists the tools (a list of objects) or calls one (its output).

    Raises `SkillError` for what the tool or its server did wrong.
    """
    server = StdioServer.parse(payload.mcp)
    os.chdir(package)
    os.environ.update(server.env)
    if context.workspace is not None:
        os.environ["OPENCLAW_WORKSPACE"] = str(context.workspace)
    own = "process:execute" not in payload.permissions
    pipes = await (_inside(server, package) if own else _beside(server))
    session = _Session(pipes, context)
    await session.initialize()
    if server.tool is None:
        return await session.tools()
    try:
        result = result_of(await session.request("tools/call", {"name": server.tool, "arguments": payload.input}))
    except ToolError as error:
        raise SkillError(str(error)) from None
    for problem in result.problems:
        context.logger.warning("%s", problem)
    for attachment in result.attachments:
        await context.attach(attachment.name, attachment.data, media_type=attachment.media_type)
    return result.output


async def _beside(server: StdioServer) -> Pipes:
    """Starts the server as a program. What it writes to stderr is the call's log."""
    program = sys.executable if server.command[0] in _PYTHON else server.command[0]
    try:
        process = await asyncio.create_subprocess_exec(
            program,
            *server.command[1:],
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=MAX_LINE_BYTES,
        )
    except FileNotFoundError:
        raise ServerError(f"mcp.command: {server.command[0]} is neither in the package nor in the image") from None
    assert process.stdin is not None
    assert process.stdout is not None
    return Pipes(process.stdout, process.stdin)


async def _inside(server: StdioServer, package: Path) -> Pipes:
    """Runs the server's Python code in a thread of this process, which may start no other: it gets the stdio."""
    command = server.command
    script = package / command[1] if len(command) > 1 else None
    if command[0] not in _PYTHON or script is None or not script.is_file():
        raise ServerError(
            "mcp.command: without the permission process:execute it must be python and a file of the package"
        )
    to_server, from_server = _take_stdio()
    sys.argv = [str(script), *command[2:]]
    sys.path[:0] = [str(script.parent)]
    threading.Thread(target=_serve, args=(str(script),), name="mcp-server", daemon=True).start()
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=MAX_LINE_BYTES)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(from_server, "rb"))
    transport, protocol = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, os.fdopen(to_server, "wb"))
    return Pipes(reader, asyncio.StreamWriter(transport, protocol, None, loop))


def _take_stdio() -> tuple[int, int]:
    """Makes this process's stdin and stdout two pipes; returns where to write and where to read."""
    stdin, to_server = os.pipe()
    from_server, stdout = os.pipe()
    for descriptor, standard in ((stdin, 0), (stdout, 1)):
        os.dup2(descriptor, standard)
        os.close(descriptor)
    sys.stdin, sys.stdout = os.fdopen(0, encoding="utf-8"), os.fdopen(1, "w", encoding="utf-8")
    return to_server, from_server


def _serve(script: str) -> None:
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit:
        pass
    except BaseException:  # noqa: BLE001 - whatever ends a server ends it; its traceback is the call's log
        traceback.print_exc()
    finally:
        # The client reads to the end of the pipe.
        os.close(1)


class _Session:
    """One conversation: requests one after the other, and whatever the server says in between."""

    def __init__(self, pipes: Pipes, context: RemoteContext) -> None:
        self._pipes = pipes
        self._context = context
        self._last = 0
        self._noise = 0
        self._handlers: dict[str, Callable[[Json], Any]] = {
            "notifications/message": self._log,
            "notifications/progress": self._progress,
        }

    async def initialize(self) -> None:
        client = {"name": "openclaw", "version": "1"}
        await self.request(
            "initialize", {"protocolVersion": PROTOCOL, "capabilities": {"elicitation": {}}, "clientInfo": client}
        )
        await self._send({"method": "notifications/initialized"})

    async def tools(self) -> list[Json]:
        """Returns the tools as the server describes them, at most `MAX_TOOLS`."""
        found: list[Json] = []
        cursor: Json = {}
        for _ in range(MAX_PAGES):
            page = await self.request("tools/list", cursor)
            tools = page.get("tools")
            if not isinstance(tools, list):
                raise ServerError("the MCP server answered tools/list without a list of tools")
            found += [tool for tool in tools if isinstance(tool, dict)]
            following = page.get("nextCursor")
            if not isinstance(following, str) or not following or len(found) >= MAX_TOOLS:
                break
            cursor = {"cursor": following}
        return found[:MAX_TOOLS]

    async def request(self, method: str, params: Json) -> Json:
        """Sends a request and returns its result. Raises `ServerError`."""
        self._last += 1
        await self._send({"id": self._last, "method": method, "params": params})
        while True:
            message = await self._receive(method)
            if "method" in message:
                await self._serve(message)
            elif message.get("id") == self._last:
                return _result(message, method)

    async def _send(self, body: Json) -> None:
        try:
            self._pipes.writer.write(dumps({"jsonrpc": "2.0"} | body).encode() + b"\n")
            await self._pipes.writer.drain()
        except ConnectionError:
            raise ServerError("the MCP server closed its input") from None

    async def _receive(self, method: str) -> Json:
        while True:
            try:
                line = await self._pipes.reader.readline()
            except ValueError:
                raise ServerError(f"the MCP server wrote a line of more than {MAX_LINE_BYTES} bytes") from None
            if not line:
                raise ServerError(f"the MCP server ended before it answered {method}; its log may say why")
            try:
                message = json.loads(line)
            except (ValueError, RecursionError):
                message = None
            if isinstance(message, dict):
                return message
            self._noise += bool(line.strip())
            if self._noise > _MAX_NOISE:
                shown = line[:80].decode(errors="replace").strip()
                raise ServerError(f"the MCP server writes to stdout what is not MCP: {shown!r}; logs belong on stderr")

    async def _serve(self, message: Json) -> None:
        """Takes a notification, or answers a request: a ping, or a question for the user. Nothing else is offered."""
        method, identity = message["method"], message.get("id")
        params = message.get("params")
        if identity is None:
            handler = self._handlers.get(method) if isinstance(method, str) else None
            if handler is not None and isinstance(params, dict):
                handler(params)
            return
        if method == "ping":
            await self._send({"id": identity, "result": {}})
        elif method == "elicitation/create" and isinstance(params, dict):
            await self._send({"id": identity, "result": await self._elicit(params)})
        else:
            await self._send({"id": identity, "error": {"code": -32601, "message": "not offered"}})

    async def _elicit(self, params: Json) -> Json:
        try:
            return await elicit(params, self._context.ask)
        except ContextError as error:
            # Nobody is there to ask, or has answered: the server may do without.
            self._context.logger.warning("%s", error)
            return {"action": "cancel"}

    def _log(self, params: Json) -> None:
        data = params.get("data")
        text = data if isinstance(data, str) else dumps(data)
        self._context.logger.log(_LEVELS.get(str(params.get("level")), 40), "%s", text)

    def _progress(self, params: Json) -> None:
        done, total, text = params.get("progress"), params.get("total"), params.get("message")
        if isinstance(done, int | float) and isinstance(total, int | float) and total > 0:
            self._context.report(done / total, text if isinstance(text, str) else "")


def _result(message: Json, method: str) -> Json:
    error = message.get("error")
    if isinstance(error, dict):
        raise ServerError(f"{method}: {str(error.get('message'))[:1000]}")
    result = message.get("result")
    if not isinstance(result, dict):
        raise ServerError(f"the MCP server answered {method} with what is not an object")
    return result

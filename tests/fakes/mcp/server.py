"""A real MCP server on the official SDK. `python server.py` speaks stdio; `create_app` is it over streamable HTTP."""

import asyncio
import base64
import json
import os
import sys
from typing import Annotated, Any

from mcp.server import MCPServer
from mcp.server.mcpserver import Context, Elicit, ElicitationResult, Image, Resolve
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import ToolListChangedNotification
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import JSONResponse

PIXEL = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+A8AAQUBAScY42YAAAAASUVORK5CYII=")


class Sum(BaseModel):
    """Structured content."""

    total: int


class Table(BaseModel):
    """What is asked for."""

    name: str


def which_table() -> Elicit[Table]:
    """What `reserve` asks."""
    return Elicit("A table for tonight?", Table)


def create_server() -> MCPServer:
    """Returns the server with its tools."""
    server = MCPServer("calculator")

    @server.tool(name="add-numbers")
    def add(a: int, b: int) -> Sum:
        """Adds two numbers."""
        return Sum(total=a + b)

    @server.tool(structured_output=False)
    def greet(name: str) -> str:
        """Greets somebody."""
        return f"Hello {name}"

    @server.tool(structured_output=False)
    def fail() -> str:
        """Always fails."""
        raise ToolError("the cupboard is bare")

    @server.tool(structured_output=False)
    def picture() -> Image:
        """Draws a pixel."""
        return Image(data=PIXEL, format="png")

    @server.tool(structured_output=False)
    def environment(name: str) -> str:
        """Reads an environment variable."""
        return os.environ.get(name, "")

    @server.tool(structured_output=False)
    async def work(ctx: Context[Any, Any]) -> str:
        """Reports progress."""
        await ctx.report_progress(1, 2, "half")
        return "done"

    @server.tool(structured_output=False)
    async def grow(ctx: Context[Any, Any]) -> str:
        """Says that the tools are others now."""
        await ctx.session.send_notification(ToolListChangedNotification(), related_request_id=ctx.request_id)
        return "grown"

    @server.tool(structured_output=False)
    async def hang() -> str:
        """Never answers."""
        await asyncio.Event().wait()
        return ""

    @server.tool(structured_output=False)
    async def book(ctx: Context[Any, Any]) -> str:
        """Asks the user for a table."""
        asked = await ctx.elicit("A table for tonight?", Table)
        return f"booked for {asked.data.name}" if asked.action == "accept" else f"not booked: {asked.action}"

    @server.tool(structured_output=False)
    def reserve(table: Annotated[ElicitationResult[Table], Resolve(which_table)]) -> str:
        """Needs a table of the user, however its client can be asked."""
        return f"booked for {table.data.name}" if table.action == "accept" else f"not booked: {table.action}"

    @server.tool(structured_output=False)
    def flood(size: int) -> str:
        """Answers too much."""
        return "x" * size

    return server


def create_app(host: str = "127.0.0.1") -> Any:
    """Returns the ASGI application; one of loopback refuses to be called by another name."""
    return create_server().streamable_http_app(host=host)


def of_before_2026(app: Any) -> Any:
    """Returns the application as a server that knows of no protocol after 2025-11-25: its own requests ask the user."""

    async def serve(scope: Any, receive: Any, send: Any) -> None:
        body = await Request(scope, receive).body() if scope["type"] == "http" else b""
        if b'"server/discover"' in body:
            error = {"code": -32601, "message": "Method not found"}
            answer = JSONResponse({"jsonrpc": "2.0", "id": json.loads(body)["id"], "error": error})
            await answer(scope, receive, send)
            return
        unread = [{"type": "http.request", "body": body, "more_body": False}] if scope["type"] == "http" else []

        async def again() -> Any:
            return unread.pop() if unread else await receive()

        await app(scope, again, send)

    return serve


if __name__ == "__main__":
    print("a server may talk on stderr", file=sys.stderr)
    create_server().run("stdio")

"""What an MCP server says, as the result of a skill. Used by the pod, for stdio, and by the gateway, for HTTP.

Model Context Protocol, https://modelcontextprotocol.io/specification/2025-06-18/server/tools. Only the standard library
is imported here, because the pod imports it too. Everything a server sent is anybody's: each shape is checked.
"""

import base64
from dataclasses import dataclass
from typing import Any, Final

from openclaw_runtime.sandbox.attachments import (
    MAX_ATTACHMENT_BYTES,
    Attachment,
    AttachmentError,
    Bounds,
    extension_of,
    media_type_of,
)
from openclaw_runtime.sandbox.jsonrpc import Fields, Json

MAX_TOOLS: Final = 256
MAX_PAGES: Final = 32
"""Of one tools/list. A server that has more, or whose pages never end, is cut off."""


class ToolError(Exception):
    """The tool says that it failed; its words are for the user."""


@dataclass(frozen=True, slots=True)
class StdioServer:
    """How to start a server in the sandbox, and which of its tools to call; without one its tools are listed."""

    command: tuple[str, ...]
    env: dict[str, str]
    tool: str | None

    def wire(self) -> Json:
        """Returns the JSON object of a call's payload."""
        return {"command": list(self.command), "env": dict(self.env), "tool": self.tool}

    @classmethod
    def parse(cls, value: object) -> "StdioServer":
        """Reads the JSON object. Raises `ProtocolError`."""
        fields = Fields(value, "payload.mcp")
        env = {str(name): text for name, text in fields.mapping("env").items() if isinstance(text, str)}
        tool = fields.text("tool", limit=1024) if isinstance(value, dict) and value.get("tool") is not None else None
        return cls(fields.strings("command", limit=128), env, tool)


@dataclass(frozen=True, slots=True)
class ToolResult:
    """The result of tools/call as an action's.

    Structured content is the output as it is; else it is the text, in which what is no text is named. `problems` says
    what could not be attached, a line each.
    """

    output: Any
    attachments: tuple[Attachment, ...] = ()
    problems: tuple[str, ...] = ()


def result_of(result: Json) -> ToolResult:
    """Reads the result of tools/call. Raises `ToolError` if the tool failed."""
    blocks = result.get("content")
    reader = _Reader()
    text = "\n\n".join(reader.text(block) for block in blocks) if isinstance(blocks, list) else ""
    if result.get("isError") is True:
        raise ToolError(text or "the tool failed without a message")
    structured = result.get("structuredContent")
    return ToolResult(text if structured is None else structured, tuple(reader.attachments), tuple(reader.problems))


class _Reader:
    """Reads blocks of content one after the other. What cannot be attached does not take the rest with it."""

    def __init__(self) -> None:
        self._bounds = Bounds()
        self.attachments: list[Attachment] = []
        self.problems: list[str] = []

    def text(self, block: object) -> str:
        """Returns what a block is in the text."""
        match block:
            case {"type": "text", "text": str() as text}:
                return text
            case {"type": "resource", "resource": {"text": str() as text}}:
                return text
            case {"type": "resource_link", "uri": str() as uri}:
                return uri
            case {"type": "image" | "audio" as kind, "data": str() as data, "mimeType": media_type}:
                return self._attach(kind, "", media_type, data)
            case {"type": "resource", "resource": {"blob": str() as data} as resource}:
                uri = resource.get("uri")
                name = uri.partition("?")[0].rpartition("/")[2] if isinstance(uri, str) else ""
                return self._attach("resource", name, resource.get("mimeType"), data)
            case {"type": str() as kind}:
                return f"[{kind[:64]}: not text]"
        return "[not MCP content]"

    def _attach(self, kind: str, name: str, media_type: object, data: str) -> str:
        """Attaches the bytes of a block and returns what stands for it. Its name is the server's where it has one."""
        given = media_type.partition(";")[0].strip().lower() if isinstance(media_type, str) else ""
        own = f"{kind}-{len(self.attachments) + 1}{extension_of(given)}"
        # What is sure to be too large is not decoded first.
        problem = f"{kind}: {len(data)} characters of base64; at most {MAX_ATTACHMENT_BYTES} bytes may be attached"
        for called in (name, own):
            if not called or len(data) > MAX_ATTACHMENT_BYTES * 2:
                continue
            try:
                content = base64.b64decode(data, validate=True)
                found = given or media_type_of(called)
                self._bounds.take(called, found, len(content))
            except ValueError as error:  # an AttachmentError, or not base64
                problem = str(error) if isinstance(error, AttachmentError) else f"{kind}: not base64"
                continue
            self.attachments.append(Attachment.of(called, found, content))
            return f"[{kind}: attached as {called}]"
        self.problems.append(problem)
        return f"[{kind}: left out: {problem}]"

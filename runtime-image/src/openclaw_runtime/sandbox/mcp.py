"""What an MCP server says, as the result of a skill. Used by the pod, for stdio, and by the gateway, for HTTP.

Model Context Protocol, https://modelcontextprotocol.io/specification/2025-06-18/server/tools. Only the standard library
is imported here, because the pod imports it too. Everything a server sent is anybody's: each shape is checked.
"""

from dataclasses import dataclass
from typing import Any, Final

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


def output_of(result: Json) -> Any:
    """Returns the result of tools/call as an action's output. Raises `ToolError` if the tool failed.

    Structured content is the output as it is; else it is the text. What is neither is named in the text.
    """
    blocks = result.get("content")
    text = "\n\n".join(_text(block) for block in blocks) if isinstance(blocks, list) else ""
    if result.get("isError") is True:
        raise ToolError(text or "the tool failed without a message")
    structured = result.get("structuredContent")
    return text if structured is None else structured


def _text(block: object) -> str:
    match block:
        case {"type": "text", "text": str() as text}:
            return text
        case {"type": "resource", "resource": {"text": str() as text}}:
            return text
        case {"type": "resource_link", "uri": str() as uri}:
            return uri
        case {"type": str() as kind}:
            return f"[{kind[:64]}: not text]"
    return "[not MCP content]"

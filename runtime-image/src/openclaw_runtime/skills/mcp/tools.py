"""What a server lists, as actions that keep our rules. Pure: the list is anybody's, so every part of it is checked."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from openclaw_runtime.sandbox.jsonrpc import Json, dumps
from openclaw_runtime.skills.schemas import check_schema
from openclaw_runtime.skills.types import ActionSpec, McpServer

MAX_ACTIONS: Final = 64
MAX_SCHEMA_BYTES: Final = 64 * 1024
_MAX_NAME: Final = 63
_MAX_DESCRIPTION: Final = 1024
_NOT_IN_A_NAME: Final = re.compile(r"[^A-Za-z0-9_]")


@dataclass(frozen=True, slots=True)
class Listing:
    """The actions of a server, and a line for each tool that is none of them."""

    actions: tuple[ActionSpec, ...] = ()
    problems: tuple[str, ...] = ()


def to_listing(server: McpServer, tools: Sequence[Json]) -> Listing:
    """Returns the tools as actions, those of `server.tools` only where it names some."""
    actions: dict[str, ActionSpec] = {}
    problems: list[str] = []
    names = {tool.get("name") for tool in tools if isinstance(tool.get("name"), str)}
    problems += [f"mcp.tools: the server has no tool {name}" for name in server.tools or () if name not in names]
    for tool in tools:
        if server.tools is not None and tool.get("name") not in server.tools:
            continue
        try:
            action = _action(server, tool)
        except ValueError as error:
            problems.append(str(error))
            continue
        if action.name in actions:
            problems.append(f"tool {action.tool}: its name becomes {action.name}, which another tool has already")
        elif len(actions) == MAX_ACTIONS:
            problems.append(f"tool {action.tool}: only the first {MAX_ACTIONS} are taken; choose some with mcp.tools")
        else:
            actions[action.name] = action
    return Listing(tuple(actions.values()), tuple(problems))


def _action(server: McpServer, tool: Json) -> ActionSpec:
    name = tool.get("name")
    if not isinstance(name, str) or not name or len(name) > 1024:
        raise ValueError("a tool without a name")
    where = f"tool {name[:_MAX_NAME]}"
    schema = _schema(tool.get("inputSchema"), f"{where}: inputSchema") or {"type": "object"}
    if schema.get("type", "object") != "object":
        raise ValueError(f"{where}: inputSchema.type: {schema['type']!r}; the input of an action is an object")
    description = tool.get("description") or tool.get("title")
    return ActionSpec(
        name=action_name(name),
        description=description[:_MAX_DESCRIPTION] if isinstance(description, str) else "",
        input_schema=schema,
        output_schema=_schema(tool.get("outputSchema"), f"{where}: outputSchema"),
        timeout_seconds=server.timeout_seconds,
        tool=name,
    )


def _schema(value: object, where: str) -> dict[str, Any] | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise ValueError(f"{where}: not an object")  # noqa: TRY004 - one kind of error for what is wrong with a tool
    if len(dumps(value)) > MAX_SCHEMA_BYTES:
        raise ValueError(f"{where}: more than {MAX_SCHEMA_BYTES} bytes")
    check_schema(value, where)
    return value


def action_name(tool: str) -> str:
    """Returns a tool's name in the alphabet of actions: letters, digits and _, a letter first, at most 63."""
    name = _NOT_IN_A_NAME.sub("_", tool)
    return (name if name[0].isalpha() else f"tool_{name.lstrip('_')}")[:_MAX_NAME]

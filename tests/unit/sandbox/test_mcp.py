"""MCP servers as skills, without a server: what they list becomes actions, and when they are asked."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from openclaw_runtime.sandbox.errors import (
    CallTimeoutError,
    SandboxError,
    SandboxUnavailableError,
    SkillCrashedError,
    SkillFailedError,
)
from openclaw_runtime.sandbox.mcp import ToolError, result_of
from openclaw_runtime.skills.errors import ManifestError
from openclaw_runtime.skills.mcp.discovery import Discovery
from openclaw_runtime.skills.mcp.tools import MAX_ACTIONS, to_listing
from openclaw_runtime.skills.registry import read_folder
from openclaw_runtime.skills.types import InstalledSkill, McpServer
from tests.integration.sandbox.helpers import make_skill
from tests.unit.sandbox.test_skills import write_skill

SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}


def tool(name: Any, **more: Any) -> dict[str, Any]:
    return {"name": name, "inputSchema": SCHEMA, **more}


def test_tools_become_actions_that_keep_our_rules() -> None:
    tools = [
        tool("create.issue", description="x" * 2000, title="t"),
        tool("create_issue"),
        tool("3d-render", title="Renders"),
        tool("écrire"),
        tool(7),
        tool("list", inputSchema={"type": "array"}),
        tool("broken", inputSchema={"type": "objekt"}),
        tool("bare", inputSchema=None, outputSchema=7),
        tool("huge", inputSchema={"description": "x" * 70_000}),
    ]
    listing = to_listing(McpServer(timeout_seconds=7), tools)
    assert [(action.name, action.tool) for action in listing.actions] == [
        ("create_issue", "create.issue"),
        ("tool_3d_render", "3d-render"),
        ("tool_crire", "écrire"),
    ]
    first = listing.actions[0]
    assert (len(first.description), first.input_schema, first.timeout_seconds) == (1024, SCHEMA, 7)
    assert listing.actions[1].description == "Renders"
    shown = "\n".join(listing.problems)
    for part in ("which another tool has already", "without a name", "list: inputSchema.type", "broken: inputSchema"):
        assert part in shown
    assert "huge: inputSchema: more than 65536 bytes" in shown
    assert "bare: outputSchema: not an object" in shown


def test_a_list_of_tools_limits_what_is_offered() -> None:
    listing = to_listing(McpServer(tools=("b", "gone")), [tool("a"), tool("b")])
    assert [action.name for action in listing.actions] == ["b"]
    assert listing.problems == ("mcp.tools: the server has no tool gone",)
    many = to_listing(McpServer(), [tool(f"t{number}") for number in range(MAX_ACTIONS + 1)])
    assert len(many.actions) == MAX_ACTIONS
    assert "choose some with mcp.tools" in many.problems[0]


@pytest.mark.parametrize(
    ("result", "output"),
    [
        ({"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}, "a\n\nb"),
        ({"content": [], "structuredContent": {"total": 5}}, {"total": 5}),
        ({"content": [{"type": "resource", "resource": {"uri": "x:y", "text": "t"}}]}, "t"),
        ({"content": [{"type": "resource_link", "uri": "x:y", "name": "n"}]}, "x:y"),
        ({"content": "x"}, ""),
        ({}, ""),
    ],
)
def test_a_result_is_an_output(result: dict[str, Any], output: Any) -> None:
    assert result_of(result).output == output


def test_a_failed_tool_is_an_error() -> None:
    with pytest.raises(ToolError, match="the cupboard is bare"):
        result_of({"isError": True, "content": [{"type": "text", "text": "the cupboard is bare"}]})
    with pytest.raises(ToolError, match="without a message"):
        result_of({"isError": True})


class Server:
    """Answers what it is told; `fails` times not at all."""

    def __init__(self, fails: int = 0) -> None:
        self.tools = [tool("one")]
        self.fails = fails
        self.asked = 0

    async def __call__(self, skill: InstalledSkill) -> list[dict[str, Any]]:
        del skill
        self.asked += 1
        if self.asked <= self.fails:
            raise SandboxUnavailableError("no pod is warm")
        return self.tools


async def test_a_server_is_asked_once_and_again_when_its_tools_changed() -> None:
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        assert discovery.with_actions(skill).problems == ("the tools are not known yet: no pod is warm",)

    server, changes = Server(fails=2), []
    discovery = Discovery(server, sleep=sleep)
    skill = make_skill(actions=(), mcp=McpServer(command=("python", "x")))
    discovery.watch(lambda: changes.append([action.name for action in discovery.with_actions(skill).actions]))
    discovery.update([skill])
    assert discovery.with_actions(skill).actions == ()
    await discovery.settled()
    assert (pauses, changes) == ([1.0, 2.0], [["one"]])
    discovery.update([skill])
    await discovery.settled()
    assert server.asked == 3
    server.tools = [tool("one"), tool("two")]
    discovery.refresh(skill)
    assert [action.name for action in discovery.with_actions(skill).actions] == ["one"]
    await discovery.settled()
    assert changes[1:] == [["one", "two"]]
    discovery.update([])
    assert discovery.with_actions(skill).actions == ()


@pytest.mark.parametrize(
    ("error", "server", "longest"),
    [
        (SkillCrashedError("it ended"), McpServer(command=("server",)), 3600.0),
        (CallTimeoutError("it says nothing"), McpServer(command=("server",)), 3600.0),
        # These cost no sandbox, and are over when somebody else has seen to it.
        (SandboxUnavailableError("no pod is warm"), McpServer(command=("server",)), 60.0),
        (SkillFailedError("connection refused"), McpServer(url="http://server"), 60.0),
    ],
)
async def test_a_program_that_cannot_start_is_tried_ever_more_rarely(
    error: SandboxError, server: McpServer, longest: float
) -> None:
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    async def ask(_skill: InstalledSkill) -> list[dict[str, Any]]:
        if len(pauses) < 15:
            raise error
        return []

    discovery = Discovery(ask, sleep=sleep)
    discovery.update([make_skill(actions=(), mcp=server)])
    await discovery.settled()
    assert pauses == [min(2.0**tries, longest) for tries in range(15)]


async def test_a_server_that_is_unloaded_is_not_asked_any_longer() -> None:
    asked = asyncio.Event()

    async def never(_skill: InstalledSkill) -> list[dict[str, Any]]:
        asked.set()
        await asyncio.Event().wait()
        return []

    discovery = Discovery(never)
    discovery.update([make_skill(actions=(), mcp=McpServer(url="http://x"))])
    await asked.wait()
    discovery.update([])
    await discovery.settled()
    await discovery.close()


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"mcp": {}}, "mcp: set exactly one of command and url"),
        ({"mcp": {"url": "ftp://x"}}, "mcp.url: 'ftp://x' is not allowed"),
        ({"mcp": {"url": "http://x"}}, "mcp.url: needs the permission network:external or network:internal"),
        ({"mcp": {"command": ["node", "x.js"]}}, "mcp.command: node needs the permission process:execute"),
        ({"mcp": {"command": ["python", "x"], "headers": {"A": "b"}}}, "mcp: headers is for url"),
        (
            {"mcp": {"command": ["python", "x"], "env": {"A": "${B}"}}},
            "mcp: A refers to B, which secrets does not name",
        ),
        ({"mcp": {"command": ["python", "x"]}, "actions": [{"name": "a"}]}, "actions: the tools of the MCP server are"),
        ({}, "actions: missing; name at least one action, or an MCP server in mcp"),
    ],
)
def test_a_mistake_in_the_manifest_is_one_clear_line(tmp_path: Path, changes: dict[str, Any], line: str) -> None:
    with pytest.raises(ManifestError) as caught:
        read_folder(write_skill(tmp_path / "demo", **({"actions": []} | changes)), {})
    assert line in str(caught.value)
    assert len(caught.value.problems) == 1


def test_secrets_are_filled_in_and_not_shown(tmp_path: Path) -> None:
    changes: dict[str, Any] = {
        "actions": [],
        "mcp": {"url": "https://x/mcp", "headers": {"Authorization": "Bearer ${TOKEN}"}},
        "permissions": ["network:external"],
        "secrets": [{"name": "TOKEN"}],
    }
    skill = read_folder(write_skill(tmp_path / "demo", **changes), {"TOKEN": "s3cret"})
    assert skill.mcp is not None
    assert skill.mcp.headers == {"Authorization": "Bearer s3cret"}
    assert "s3cret" not in repr(skill)

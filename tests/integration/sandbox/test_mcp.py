"""Skills that are MCP servers: real ones on the official SDK, in a sandbox and over HTTP, and ones that misbehave."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from openclaw_runtime.sandbox import errors
from openclaw_runtime.sandbox.archive import PackageFile
from openclaw_runtime.sandbox.local_executor import SubprocessExecutor
from openclaw_runtime.skills.mcp.discovery import LIST_TOOLS
from openclaw_runtime.skills.mcp.executor import McpExecutor
from openclaw_runtime.skills.mcp.remote import MAX_READ_BYTES
from openclaw_runtime.skills.mcp.tools import to_listing
from openclaw_runtime.skills.package import pack_files
from openclaw_runtime.skills.types import (
    ActionSpec,
    CallContext,
    InstalledSkill,
    McpServer,
    QueueObserver,
    SkillCall,
    SkillExecutor,
    SkillResult,
)
from tests.fakes import mcp
from tests.fakes.llm.serve import serving
from tests.fakes.mcp.server import create_app
from tests.integration.sandbox.helpers import RecordingContext, make_skill


class NoSandbox:
    """An executor that must not be used."""

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    async def execute(self, call: SkillCall, context: CallContext) -> SkillResult:
        del call, context
        raise AssertionError("not in a sandbox")

    def status(self) -> dict[str, Any]:
        return {}

    def observe(self, queue: QueueObserver) -> None: ...


async def nonsense(scope: Any, _receive: Any, send: Any) -> None:
    """An HTTP server that is no MCP server."""
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/html")]})
        await send({"type": "http.response.body", "body": b"<p>hello</p>"})


REAL = Path(mcp.__file__).with_name("server.py").read_bytes()


def server_skill(code: bytes, *permissions: str, seconds: float = 20, **more: Any) -> InstalledSkill:
    package = pack_files([PackageFile("server.py", code)])
    server = McpServer(command=("python", "server.py"), timeout_seconds=seconds, **more)
    return make_skill(package=package, permissions=permissions, actions=(), mcp=server)


async def ask(executor: SkillExecutor, skill: InstalledSkill, tool: str, context: Any = None, **given: Any) -> Any:
    call = SkillCall("call-1", "agent-1", "session-1", skill, tool, given, 60.0)
    return (await executor.execute(call, context or RecordingContext())).output


async def found(executor: SkillExecutor, skill: InstalledSkill) -> InstalledSkill:
    assert skill.mcp is not None
    return replace(skill, actions=to_listing(skill.mcp, await ask(executor, skill, LIST_TOOLS)).actions)


# --- real servers -----------------------------------------------------------------------------------------------------


async def test_a_real_server_is_a_program_in_the_sandbox(executor: SubprocessExecutor) -> None:
    skill = await found(executor, server_skill(REAL, "process:execute"))
    assert [action.name for action in skill.actions][:3] == ["add_numbers", "greet", "fail"]
    assert skill.actions[0].input_schema["required"] == ["a", "b"]
    assert await ask(executor, skill, "add_numbers", a=2, b=3) == {"total": 5}
    context = RecordingContext()
    with pytest.raises(errors.SkillFailedError, match="the cupboard is bare"):
        await ask(executor, skill, "fail", context)
    assert any("a server may talk on stderr" in message for _, message, _ in context.logs)


async def test_a_real_server_runs_inside_a_child_that_may_start_nothing(executor: SubprocessExecutor) -> None:
    skill = server_skill(REAL, env={"COLOUR": "green"})
    skill = replace(skill, actions=(ActionSpec("read", tool="environment"),))
    assert await ask(executor, skill, "read", name="COLOUR") == "green"


async def test_a_real_server_over_http() -> None:
    changed: list[str] = []
    async with serving(create_app()) as address:
        http = McpExecutor(NoSandbox())
        http.changed = lambda skill: changed.append(skill.name)
        server = McpServer(url=f"{address}/mcp", tools=("add-numbers", "fail", "work", "grow", "hang", "gone", "flood"))
        skill = await found(http, make_skill(actions=(), mcp=server))
        assert [action.name for action in skill.actions] == ["add_numbers", "fail", "work", "grow", "hang", "flood"]
        assert await ask(http, skill, "add_numbers", a=2, b=3) == {"total": 5}
        with pytest.raises(errors.SkillFailedError, match="the cupboard is bare"):
            await ask(http, skill, "fail")
        context = RecordingContext()
        assert await ask(http, skill, "work", context) == "done"
        assert context.reports == [(0.5, "half")]
        await ask(http, skill, "grow")
        assert changed == ["attacks"]
        with pytest.raises(errors.SandboxError, match=r"sent more than"):
            await ask(http, skill, "flood", size=MAX_READ_BYTES + 1)
        impatient = replace(skill, mcp=replace(server, timeout_seconds=1))
        with pytest.raises(errors.CallTimeoutError, match="took longer than 1 s"):
            await ask(http, impatient, "hang")
        await http.close()


async def test_a_server_that_is_not_there_or_is_none_is_told_apart_from_one_that_fails() -> None:
    http = McpExecutor(NoSandbox())
    async with serving(nonsense) as address:
        for url, secret in ((f"{address}/mcp", "s3cret"), ("http://127.0.0.1:9/mcp", "s3cret")):
            server = McpServer(url=url, headers={"Authorization": f"Bearer {secret}"}, timeout_seconds=10)
            with pytest.raises(errors.SandboxError) as caught:
                await ask(http, make_skill(actions=(), mcp=server), LIST_TOOLS)
            assert url.split("/")[2] in str(caught.value)
            assert secret not in str(caught.value)


# --- servers that misbehave -------------------------------------------------------------------------------------------

GREETING = b"""
import json, sys
def say(**body): print(json.dumps({"jsonrpc": "2.0", **body}), flush=True)
first = json.loads(sys.stdin.readline())
say(id=first["id"], result={"protocolVersion": "2025-06-18", "capabilities": {}, "serverInfo": {"name": "x"}})
sys.stdin.readline()
asked = json.loads(sys.stdin.readline())
"""


@pytest.mark.parametrize(
    ("code", "kind", "message", "permissions"),
    [
        (b"import time; time.sleep(60)", errors.CallTimeoutError, "longer than 1 s", ["process:execute"]),
        (b"1 / 0", errors.SkillFailedError, "ended before it answered initialize", ["process:execute"]),
        (b"print('x' * 9_000_000)", errors.SkillFailedError, "a line of more than 8388608 bytes", ["process:execute"]),
        (b"import time; time.sleep(60)", errors.CallTimeoutError, "longer than 1 s", []),
        (b"", errors.SkillFailedError, "ended before it answered initialize", []),
        (b"1 / 0", errors.SkillFailedError, "ended before it answered initialize", []),
        (b"while True: print('hello')", errors.SkillFailedError, "writes to stdout what is not MCP: 'hello'", []),
        (b"while True: print('{}')", errors.CallTimeoutError, "longer than 1 s", []),
        (b"print('x' * 9_000_000)", errors.SkillFailedError, "a line of more than 8388608 bytes", []),
        (b"print('[' * 100_000, flush=True)", errors.SkillFailedError, "ended before it answered initialize", []),
        (GREETING + b"say(id=asked['id'], result=[])", errors.SkillFailedError, "what is not an object", []),
        (
            GREETING + b"say(id=asked['id'], result={'tools': 1})",
            errors.SkillFailedError,
            "without a list of tools",
            [],
        ),
        (
            GREETING + b"say(id=asked['id'], error={'code': -1, 'message': 'no'})",
            errors.SkillFailedError,
            "list: no",
            [],
        ),
        (
            GREETING + b"while True: say(method='notifications/message', params={'data': 'x'})",
            errors.CallTimeoutError,
            "1 s",
            [],
        ),
    ],
)
async def test_a_server_that_misbehaves_is_a_clear_error(
    executor: SubprocessExecutor, code: bytes, kind: type[Exception], message: str, permissions: list[str]
) -> None:
    skill = server_skill(code, *permissions)
    skill = replace(skill, actions=(ActionSpec(LIST_TOOLS, timeout_seconds=1),))
    with pytest.raises(kind, match=message):
        await ask(executor, skill, LIST_TOOLS)


async def test_what_needs_a_permission_is_refused_without_it(executor: SubprocessExecutor) -> None:
    skill = server_skill(b"")
    skill = replace(skill, mcp=McpServer(command=("node", "server.js")))
    with pytest.raises(errors.SkillFailedError, match="without the permission process:execute it must be python"):
        await ask(executor, skill, LIST_TOOLS)
    spawning = server_skill(GREETING + b"import os; os.fork()")
    context = RecordingContext()
    with pytest.raises(errors.SkillFailedError, match="ended before it answered"):
        await ask(executor, spawning, LIST_TOOLS, context)
    assert any("PermissionError" in message for _, message, _ in context.logs)

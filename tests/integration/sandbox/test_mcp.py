"""Skills that are MCP servers: real ones on the official SDK, in a sandbox and over HTTP, and ones that misbehave."""

import asyncio
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import httpx2
import pytest

from openclaw_runtime.egress.policy import Rules
from openclaw_runtime.errors import NoAnswerError
from openclaw_runtime.sandbox import errors
from openclaw_runtime.sandbox.archive import PackageFile
from openclaw_runtime.sandbox.local_executor import SubprocessExecutor
from openclaw_runtime.skills.mcp import remote
from openclaw_runtime.skills.mcp.discovery import LIST_TOOLS
from openclaw_runtime.skills.mcp.executor import McpExecutor
from openclaw_runtime.skills.mcp.outward import Outward
from openclaw_runtime.skills.mcp.remote import MAX_READ_BYTES, _addressed
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
from openclaw_runtime.timelimit import TimeLimit
from tests.fakes import mcp
from tests.fakes.llm.serve import serving
from tests.fakes.mcp.server import create_app, of_before_2026
from tests.integration.egress.conftest import host_address, private
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


HOSTS = ("tracker.test", "half.test", "gone.test", "192.0.2.1")
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


async def test_what_a_server_elicits_is_asked_of_the_user(executor: SubprocessExecutor) -> None:
    class Nobody(RecordingContext):
        async def ask(self, question: str) -> str:
            raise NoAnswerError(f"nobody is there: {question}")

    skill = replace(server_skill(REAL), actions=(ActionSpec("book", tool="book"),))
    said = await ask(executor, skill, "book")
    assert said.startswith("booked for A table for tonight?")
    assert said.endswith("Name yes")
    assert await ask(executor, skill, "book", Nobody()) == "not booked: cancel"


async def test_a_real_server_over_http() -> None:
    changed: list[str] = []
    async with serving(create_app()) as address:
        http = McpExecutor(NoSandbox())
        http.changed = lambda skill: changed.append(skill.name)
        server = McpServer(url=f"{address}/mcp", tools=("add-numbers", "fail", "work", "grow", "hang", "gone", "flood"))
        skill = await found(http, make_skill(actions=(), mcp=server, permissions=("network:internal",)))
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


@pytest.mark.parametrize(
    ("tool", "old", "seconds"),
    [("reserve", False, 0.0), ("reserve", True, 0.0), ("book", True, 3.3)],
    ids=["round trips", "before 2026", "slow user"],
)
async def test_what_a_remote_server_elicits_is_asked_of_the_user_while_its_time_stands_still(
    monkeypatch: pytest.MonkeyPatch, tool: str, old: bool, seconds: float
) -> None:
    limits: list[TimeLimit] = []

    def watched(limit: float) -> TimeLimit:
        limits.append(TimeLimit(limit))
        return limits[-1]

    class User(RecordingContext):
        def __init__(self, *answers: str) -> None:
            super().__init__()
            self.answers = list(answers)
            self.asked: list[str] = []

        async def ask(self, question: str) -> str:
            self.asked.append(question)
            if not self.answers:
                raise NoAnswerError("nobody is there")
            left = limits[-1].remaining()
            await asyncio.sleep(seconds)
            assert limits[-1].remaining() == left
            return self.answers.pop(0)

    monkeypatch.setattr(remote, "TimeLimit", watched)
    app = create_app()
    async with serving(of_before_2026(app) if old else app) as address:
        http = McpExecutor(NoSandbox())
        server = McpServer(url=f"{address}/mcp", timeout_seconds=3 if seconds else 60)
        actions = (ActionSpec(tool, tool=tool),)
        skill = make_skill(actions=actions, mcp=server, permissions=("network:internal",))
        user = User("Ada")
        result = await http.execute(SkillCall("call-1", "agent-1", "session-1", skill, tool, {}, 60.0), user)
        assert result.output == "booked for Ada"
        assert result.duration_ms < server.timeout_seconds * 1000
        assert user.asked == ['A table for tonight?\n\n(Answer "cancel" to decline.)\n\nName']
        assert await ask(http, skill, tool, User("cancel")) == "not booked: decline"
        nobody = User()
        assert await ask(http, skill, tool, nobody) == "not booked: cancel"
        assert [(level, message) for level, message, _ in nobody.logs] == [("warning", "nobody is there")]
        await http.close()


@pytest.mark.parametrize("begun", [False, True], ids=["silent", "without end"])
async def test_a_remote_server_that_does_not_let_its_session_end_holds_no_call(
    monkeypatch: pytest.MonkeyPatch, begun: bool
) -> None:
    monkeypatch.setattr(remote, "CLOSE_SECONDS", 0.2)
    app, ends = of_before_2026(create_app()), 0

    async def serve(scope: Any, receive: Any, send: Any) -> None:
        nonlocal ends
        if scope.get("method") != "DELETE":
            await app(scope, receive, send)
            return
        ends += 1
        if begun:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        while (await receive())["type"] != "http.disconnect":
            pass

    async with serving(serve) as address, asyncio.timeout(60):
        http = McpExecutor(NoSandbox())
        server = McpServer(url=f"{address}/mcp", timeout_seconds=30)
        actions = (ActionSpec("add_numbers", tool="add-numbers"), ActionSpec("hang", tool="hang"))
        skill = make_skill(actions=actions, mcp=server, permissions=("network:internal",))
        # What it answered before is not lost.
        assert await ask(http, skill, "add_numbers", a=2, b=3) == {"total": 5}
        assert ends == 1
        with pytest.raises(errors.CallTimeoutError, match="took longer than 1 s"):
            await ask(http, replace(skill, mcp=replace(server, timeout_seconds=1)), "hang")
        await http.close()


async def test_a_server_that_is_not_there_or_is_none_is_told_apart_from_one_that_fails() -> None:
    http = McpExecutor(NoSandbox())
    async with serving(nonsense) as address:
        for url, secret in ((f"{address}/mcp", "s3cret"), ("http://127.0.0.1:9/mcp", "s3cret")):
            server = McpServer(url=url, headers={"Authorization": f"Bearer {secret}"}, timeout_seconds=10)
            with pytest.raises(errors.SandboxError) as caught:
                await ask(http, make_skill(actions=(), mcp=server, permissions=("network:internal",)), LIST_TOOLS)
            assert url.split("/")[2] in str(caught.value)
            assert secret not in str(caught.value)


async def test_a_remote_server_is_reached_by_the_rules_of_the_egress_proxy() -> None:
    here = host_address()
    inside = private(here)

    async def resolve(host: str) -> list[str]:
        return {"tracker.test": [here], "half.test": [here, "169.254.169.254"]}.get(host, [])

    async with serving(create_app(here), here) as address:
        port = int(address.rpartition(":")[2])
        http = McpExecutor(NoSandbox(), Outward(Rules(frozenset({ip_address("192.0.2.1")})), resolve))
        server = McpServer(url=f"http://tracker.test:{port}/mcp", timeout_seconds=10)
        good = make_skill(
            actions=(),
            mcp=server,
            permissions=("network:internal" if inside else "network:external",),
            allowed_domains=(f"tracker.test:{port}",),
        )
        call = SkillCall("c", "a", "s", good, LIST_TOOLS, {}, 60.0)
        assert (await http.execute(call, RecordingContext())).output
        assert [(item["host"], item["address"], item["verdict"]) for item in call.network] == [
            ("tracker.test", here, "allowed")
        ]
        other = "network:external" if inside else "network:internal"
        cases: list[tuple[dict[str, Any], str, str | None]] = [
            ({"permissions": frozenset()}, "mcp.url needs the permission network:external", None),
            ({"permissions": frozenset({other})}, "add the permission network:", None),
            ({"allowed_domains": ()}, f"not in allowedDomains: add 'tracker.test:{port}' there", "domain_not_allowed"),
            ({"allowed_domains": ("tracker.test",)}, f"add 'tracker.test:{port}' there", "port_not_allowed"),
            ({"mcp": replace(server, url=f"http://half.test:{port}/mcp")}, "is never reached", "address_forbidden"),
            ({"mcp": replace(server, url=f"http://192.0.2.1:{port}/mcp")}, "is never reached", "api_server"),
            ({"mcp": replace(server, url=f"http://gone.test:{port}/mcp")}, "has no address", "not_resolved"),
        ]
        for changes, message, reason in cases:
            skill = replace(good, **{"allowed_domains": tuple(f"{name}:{port}" for name in HOSTS), **changes})
            call = SkillCall("c", "a", "s", skill, LIST_TOOLS, {}, 60.0)
            with pytest.raises(errors.PermissionDeniedError, match=message):
                await http.execute(call, RecordingContext())
            if reason:
                assert [item["reason"] for item in call.network] == [reason]
        await http.close()


async def test_tls_with_a_remote_server_is_for_its_name_at_the_address_that_was_judged() -> None:
    async def judge(host: str, port: int) -> str:
        assert (host, port) == ("tracker.test", 443)
        return "fd00::9"

    asked = await _addressed(httpx2.Request("POST", "https://tracker.test/mcp", content=b"{}"), judge)
    assert str(asked.url) == "https://[fd00::9]/mcp"
    assert (asked.headers["host"], asked.extensions["sni_hostname"]) == ("tracker.test", "tracker.test")


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
        (b"print('x' * 31_000_000)", errors.SkillFailedError, "more than 30758229 bytes", ["process:execute"]),
        (b"import time; time.sleep(60)", errors.CallTimeoutError, "longer than 1 s", []),
        (b"", errors.SkillFailedError, "ended before it answered initialize", []),
        (b"1 / 0", errors.SkillFailedError, "ended before it answered initialize", []),
        (b"while True: print('hello')", errors.SkillFailedError, "writes to stdout what is not MCP: 'hello'", []),
        (b"while True: print('{}')", errors.CallTimeoutError, "longer than 1 s", []),
        (b"print('x' * 31_000_000)", errors.SkillFailedError, "more than 30758229 bytes", []),
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
    # Only where the limit is what ends it may the machine's speed matter.
    limit = 1 if kind is errors.CallTimeoutError else 60
    skill = replace(skill, actions=(ActionSpec(LIST_TOOLS, timeout_seconds=limit),))
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

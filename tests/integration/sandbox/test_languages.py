"""Calls in bash and Node.js: what a skill gets and may ask for, how calls end, and what attacks come to."""

import asyncio
import contextlib
import re
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest

from openclaw_runtime.sandbox import errors
from openclaw_runtime.sandbox.archive import PackageFile
from openclaw_runtime.sandbox.client import CallOptions, SandboxClient
from openclaw_runtime.sandbox.local import Lane
from openclaw_runtime.sandbox.local_executor import SubprocessExecutor
from openclaw_runtime.sandbox.protocol import ErrorCode, Limits
from openclaw_runtime.sandbox.signing import Signer
from openclaw_runtime.skills.package import pack_files
from openclaw_runtime.skills.types import SkillResult
from tests.integration.sandbox.conftest import Start
from tests.integration.sandbox.helpers import RecordingContext, make_call, make_skill

HERE = Path(__file__).parent
BASH = pack_files([PackageFile("scripts/main.sh", (HERE / "attacks.sh").read_bytes())])
NODE = pack_files([PackageFile("scripts/main.mjs", (HERE / "attacks.mjs").read_bytes())])
EXECUTE = ("process:execute",)
FILES = ("filesystem:read", "filesystem:write")


async def bash(
    executor: SubprocessExecutor, context: RecordingContext, action: str, given: Any = None, **more: Any
) -> SkillResult:
    more.setdefault("permissions", EXECUTE)
    skill = make_skill(action, BASH, runtime="bash", entrypoint="scripts/main.sh", **more)
    return await executor.execute(make_call(skill, given), context)


async def node(
    executor: SubprocessExecutor, context: RecordingContext, action: str, given: Any = None, **more: Any
) -> SkillResult:
    skill = make_skill(action, NODE, runtime="node", entrypoint="scripts/main.mjs", **more)
    return await executor.execute(make_call(skill, given), context)


async def until_cleaned(path: Path) -> None:
    async with asyncio.timeout(10):
        while not path.exists():  # noqa: ASYNC110, ASYNC240 - another process's file has no event here
            await asyncio.sleep(0.01)


CALLBACKS = {
    "id": "record-1",
    "found": [{"query": "q", "limit": 2}],
    "text": "prompt {'temperature': 0.5}",
    "answer": "really? yes",
}


async def test_bash_gets_its_call_and_answers_in_json(executor: SubprocessExecutor, context: RecordingContext) -> None:
    options = {"permissions": (*EXECUTE, *FILES), "config": {"a": [1]}, "secrets": {"TOKEN": "s3cret"}}
    output = (await bash(executor, context, "echo", {"user": {"name": "Ada ä"}}, **options)).output
    assert output.pop("workspace") == output.pop("cwd")
    assert output == {"name": "Ada ä", "call": "call-1", "token": "s3cret", "config": {"a": [1]}}
    assert (await bash(executor, context, "plain")).output == {"text": "hello, world"}


async def test_bash_reaches_memory_model_and_user(executor: SubprocessExecutor, context: RecordingContext) -> None:
    assert (await bash(executor, context, "callbacks")).output == CALLBACKS
    assert context.records == [{"type": "note"}]
    assert context.reports == [(0.5, "half")]
    assert ("warning", "careful", {}) in context.logs
    assert ("info", "to the log", {"stream": "stderr"}) in context.logs


async def test_bash_fails_for_the_user_or_crashes(executor: SubprocessExecutor, context: RecordingContext) -> None:
    with pytest.raises(errors.SkillFailedError, match="no such branch: main"):
        await bash(executor, context, "fail")
    with pytest.raises(errors.SkillCrashedError, match="exit code 3") as crashed:
        await bash(executor, context, "crash")
    assert crashed.value.data["detail"] == "it broke\n"


async def test_bash_finds_no_environment_but_its_own(
    executor: SubprocessExecutor, context: RecordingContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-leak")
    text = (await bash(executor, context, "environment")).output["text"]
    names = {line.partition("=")[0] for line in text.splitlines()}
    allowed = {"PATH", "HOME", "TMPDIR", "LANG", "PYTHONDONTWRITEBYTECODE", "PWD", "SHLVL", "_"}
    assert {name for name in names - allowed if not name.startswith("OPENCLAW_")} == set()
    assert "sk-leak" not in text


@pytest.mark.parametrize(
    ("action", "options", "error", "message"),
    [
        ("bomb", {}, errors.SkillCrashedError, "more than 64 processes"),
        ("endless", {}, errors.ResultTooLargeError, "more than 1048576 bytes"),
        ("stubborn", {"timeout": 1.0}, errors.CallTimeoutError, "longer than 1 s"),
        ("network", {}, errors.SkillCrashedError, "exit code"),
        ("nothing", {"entrypoint": "scripts/other.sh"}, errors.PackageRefusedError, "scripts/other.sh"),
    ],
)
async def test_attacks_of_bash_end_in_a_clean_error(
    executor: SubprocessExecutor,
    context: RecordingContext,
    action: str,
    options: dict[str, Any],
    error: type[errors.SandboxError],
    message: str,
) -> None:
    if "entrypoint" in options:
        skill = make_skill(action, BASH, runtime="bash", permissions=EXECUTE, **options)
        running = executor.execute(make_call(skill), context)
    else:
        running = bash(executor, context, action, **options)
    with pytest.raises(error, match=message):
        await running


async def test_bash_cannot_harm_the_runner(executor: SubprocessExecutor, context: RecordingContext) -> None:
    """Its parent is the process that answers for it, which it may end: that is the end of its own call."""
    with pytest.raises(errors.SkillCrashedError):
        await bash(executor, context, "runner")
    assert (await bash(executor, context, "plain")).output == {"text": "hello, world"}


async def test_what_bash_leaves_behind_is_ended(executor: SubprocessExecutor, context: RecordingContext) -> None:
    output = (await bash(executor, context, "orphan")).output
    left = int(re.fullmatch(r"left (\d+)", output["text"])[1])  # type: ignore[index]
    assert not Path(f"/proc/{left}").exists()  # noqa: ASYNC240


async def test_nonsense_on_the_context_socket_is_answered(
    executor: SubprocessExecutor, context: RecordingContext
) -> None:
    text = str((await bash(executor, context, "garbage")).output)
    assert "not valid JSON" in text
    assert "there is no nothing" in text


async def test_node_gets_its_call_and_answers(
    executor: SubprocessExecutor, context: RecordingContext, tmp_path: Path
) -> None:
    given = {"text": "ä\u2028\U0001f40d", "n": [1, None, True]}
    options = {"config": {"a": 1}, "secrets": {"TOKEN": "s3cret"}, "allowed_domains": ("example.org",)}
    output = (await node(executor, context, "echo", given, permissions=FILES, **options)).output
    assert output["input"] == given
    assert output["config"] == {"a": 1}
    assert output["secrets"] == {"TOKEN": "s3cret"}
    assert output["allowedDomains"] == ["example.org"]
    assert output["call"]["action"] == "echo"
    assert output["workspace"] == output["cwd"] == str(tmp_path / "workspace")


async def test_node_reaches_memory_model_and_user(executor: SubprocessExecutor, context: RecordingContext) -> None:
    assert (await node(executor, context, "callbacks")).output == CALLBACKS
    assert context.reports == [(0.5, "half")]
    assert ("info", "one", {"n": 1}) in context.logs
    assert ("info", "two", {"stream": "stdout"}) in context.logs
    assert (await node(executor, context, "many")).output == [f"{number} {{}}" for number in range(20)]


@pytest.mark.parametrize(
    ("action", "options", "error", "message"),
    [
        ("fail", {}, errors.SkillFailedError, "^no such branch: main$"),
        ("crash", {}, errors.SkillCrashedError, "TypeError"),
        ("later", {}, errors.SkillCrashedError, "out of nowhere"),
        ("leave", {}, errors.SkillCrashedError, "exit code 3"),
        ("notJson", {}, errors.SkillCrashedError, "not JSON"),
        ("huge", {}, errors.ResultTooLargeError, "at most 1048576"),
        ("memory", {}, errors.SkillCrashedError, "memory"),
        ("execute", {}, errors.PermissionDeniedError, "process:execute"),
        ("connect", {}, errors.PermissionDeniedError, "network:external"),
        ("lookup", {}, errors.PermissionDeniedError, "network:external"),
        ("stubborn", {"timeout": 1.0}, errors.CallTimeoutError, "longer than 1 s"),
        ("bomb", {"permissions": EXECUTE}, errors.SkillCrashedError, "more than 64 processes"),
    ],
)
async def test_calls_of_node_end_in_a_clean_error(
    executor: SubprocessExecutor,
    context: RecordingContext,
    action: str,
    options: dict[str, Any],
    error: type[errors.SandboxError],
    message: str,
) -> None:
    with pytest.raises(error, match=message):
        await node(executor, context, action, **options)


async def test_node_may_do_what_it_declares(executor: SubprocessExecutor, context: RecordingContext) -> None:
    assert (await node(executor, context, "execute", permissions=EXECUTE)).output == "ran\n"
    assert (await node(executor, context, "thread")).output == "ran"
    assert (await node(executor, context, "flood")).output == "done"
    assert any("dropped" in message for _, message, _ in context.logs)


async def test_node_cannot_harm_the_runner_or_read_its_environment(
    executor: SubprocessExecutor, context: RecordingContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-leak")
    tried = (await node(executor, context, "runner")).output
    assert {name: outcome[0] for name, outcome in tried.items()} == dict.fromkeys(tried, "refused")
    seen = (await node(executor, context, "environment")).output
    assert set(seen["environ"]) == {"PATH", "HOME", "TMPDIR", "LANG", "PYTHONDONTWRITEBYTECODE"}
    assert "sk-leak" not in seen["proc"]


async def test_node_is_told_of_the_end_and_may_clean_up(
    executor: SubprocessExecutor, context: RecordingContext, tmp_path: Path
) -> None:
    call = asyncio.ensure_future(node(executor, context, "sleep", permissions=FILES))
    await context.logged.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await until_cleaned(tmp_path / "workspace" / "cleaned")


async def test_a_call_of_another_runtime_is_refused(executor: SubprocessExecutor, context: RecordingContext) -> None:
    with pytest.raises(errors.SandboxError, match="ruby is not known to this sandbox; known: python, bash") as refused:
        await executor.execute(make_call(make_skill(runtime="ruby")), context)
    assert refused.value.code == ErrorCode.INVALID_PARAMS or "runtime" in str(refused.value)


async def test_an_image_cannot_run_without_a_cluster(executor: SubprocessExecutor, context: RecordingContext) -> None:
    skill = make_skill(runtime="image", command=("/bin/tool",), permissions=EXECUTE)
    with pytest.raises(errors.SandboxUnavailableError, match="runtime image needs a cluster"):
        await executor.execute(make_call(skill), context)


@pytest.mark.parametrize("runtime", ["bash", "node"])
async def test_the_way_out_is_the_proxy_of_the_call(
    start: Start, signer: Signer, context: RecordingContext, runtime: str
) -> None:
    """Node.js is warm before anybody knows the proxy."""
    asked: asyncio.Queue[str] = asyncio.Queue()

    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.put_nowait((await reader.readuntil(b"\r\n\r\n")).decode())
        writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()

    permissions = ("network:external", *(EXECUTE if runtime == "bash" else ()))
    package, file = (BASH, "scripts/main.sh") if runtime == "bash" else (NODE, "scripts/main.mjs")
    lane = Lane(runtime="node", network=True) if runtime == "node" else Lane()
    async with await asyncio.start_server(proxy, "127.0.0.1", 0) as server:
        url = f"http://call:grant@127.0.0.1:{server.sockets[0].getsockname()[1]}"
        options = CallOptions(package.data, Limits(), frozenset(), proxy_url=url)
        skill = make_skill("lookup", package, runtime=runtime, entrypoint=file, permissions=permissions)
        with contextlib.suppress(errors.SkillCrashedError):  # whether a 403 is an error is the client's to say
            await SandboxClient(signer).call((await start(lane=lane)).endpoint, make_call(skill), options, context)
        head = await asyncio.wait_for(asked.get(), 10)
    assert "example.org" in head.splitlines()[0]
    assert f"proxy-authorization: basic {b64encode(b'call:grant').decode()}".lower() in head.lower()

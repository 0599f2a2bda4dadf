"""Calls through the executor: what a skill gets, what it may ask for, how calls end, and what attacks come to."""

import asyncio
import errno
import json
import os
import platform
import signal
from pathlib import Path
from typing import Any

import pytest

from openclaw_runtime.sandbox import errors
from openclaw_runtime.sandbox.archive import PackageFile
from openclaw_runtime.sandbox.jsonrpc import canonical_sha256
from openclaw_runtime.sandbox.local_executor import SubprocessExecutor
from openclaw_runtime.sandbox.protocol import ErrorCode
from openclaw_runtime.sandbox.runner import linux, output
from openclaw_runtime.skills.package import pack_files
from openclaw_runtime.skills.types import SkillResult
from openclaw_runtime.telemetry import Metrics
from tests.integration.sandbox.helpers import RecordingContext, make_call, make_skill

EXECUTE = ("process:execute",)
FILES = ("filesystem:read", "filesystem:write")


async def run(
    executor: SubprocessExecutor,
    context: RecordingContext,
    action: str,
    given: dict[str, Any] | None = None,
    **options: Any,
) -> SkillResult:
    return await executor.execute(make_call(make_skill(action, **options), given), context)


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


async def until_gone(pid: int) -> None:
    async with asyncio.timeout(30):
        while not gone(pid):  # noqa: ASYNC110 - another process's end has no event here
            await asyncio.sleep(0.01)


def gone(pid: int) -> bool:
    """Whether a process is over; a zombie that nobody has collected yet is over, too."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return True
    return stat.rpartition(")")[2].split()[0] == "Z"


async def test_a_result_comes_with_its_hash_time_and_usage(
    executor: SubprocessExecutor, context: RecordingContext
) -> None:
    result = await run(executor, context, "noop")
    assert result.output == {"ok": True}
    assert result.result_sha256 == canonical_sha256({"ok": True})
    assert result.duration_ms > 0
    assert result.usage["max_rss_bytes"] > 1_000_000
    assert set(result.timings) == {"queue_ms", "connect_ms", "send_ms", "run_ms"}


async def test_a_skill_gets_its_call_config_and_secrets(
    executor: SubprocessExecutor, context: RecordingContext, tmp_path: Path
) -> None:
    given = {"text": "ä\u2028\U0001f40d", "n": [1, None, True]}
    options = {"config": {"a": 1}, "secrets": {"TOKEN": "s3cret"}, "allowed_domains": ("example.org",)}
    result = await run(executor, context, "echo", given, permissions=FILES, **options)
    assert result.output["input"] == given
    assert result.output["config"] == {"a": 1}
    assert result.output["secrets"] == {"TOKEN": "s3cret"}
    assert result.output["domains"] == ["example.org"]
    assert result.output["call"] == ["call-1", "agent-1", "session-1", "attacks", "echo"]
    assert result.output["workspace"] == result.output["cwd"] == str(tmp_path / "workspace")


async def test_without_a_filesystem_permission_there_is_no_workspace(
    executor: SubprocessExecutor, context: RecordingContext
) -> None:
    result = await run(executor, context, "echo")
    assert result.output["workspace"] is None
    assert result.output["cwd"] == result.output["scratch"]


async def test_nothing_of_one_call_is_there_in_the_next(
    executor: SubprocessExecutor, context: RecordingContext
) -> None:
    first = await run(executor, context, "echo")
    second = await run(executor, context, "echo")
    assert first.sandbox != second.sandbox
    assert first.output["scratch"] != second.output["scratch"]
    await executor.close()
    assert not Path(first.output["scratch"]).exists()  # noqa: ASYNC240


async def test_files_of_the_package_are_beside_the_code(
    executor: SubprocessExecutor, context: RecordingContext
) -> None:
    assert (await run(executor, context, "data_file")).output == "data"


async def test_logs_output_and_progress_arrive_in_order(
    executor: SubprocessExecutor, context: RecordingContext
) -> None:
    await run(executor, context, "talk")
    assert ("info", "one 1", {"n": 1}) in context.logs
    assert ("info", "two", {"stream": "stdout"}) in context.logs
    assert ("warning", "three", {"stream": "stderr"}) in context.logs
    assert context.reports == [(0.5, "half")]


async def test_a_skill_reaches_memory_model_and_user(executor: SubprocessExecutor, context: RecordingContext) -> None:
    result = await run(executor, context, "callbacks")
    assert result.output == {
        "id": "record-1",
        "found": [{"query": "q", "limit": 2}],
        "text": "prompt {'temperature': 0.1}",
        "answer": "really? yes",
    }
    assert context.records == [{"type": "note"}]


async def test_a_plain_function_may_use_its_context_too(
    executor: SubprocessExecutor, context: RecordingContext
) -> None:
    assert (await run(executor, context, "blocking")).output == ["record-1", "sync? yes"]
    assert context.reports == [(0.1, "sync")]


async def test_requests_may_overlap(executor: SubprocessExecutor, context: RecordingContext) -> None:
    result = await run(executor, context, "many")
    assert result.output == [f"{number} {{}}" for number in range(20)]


async def test_what_the_context_raises_reaches_the_skill(executor: SubprocessExecutor) -> None:
    class Broken(RecordingContext):
        async def memory_search(self, query: str, limit: int) -> list[dict[str, Any]]:  # noqa: ARG002
            raise ValueError("the store is down")

    result = await run(executor, Broken(), "search")
    assert result.output == [ErrorCode.INTERNAL, "memory.search failed: the store is down"]


async def test_strict_keeps_memory_from_skills_that_reach_the_internet(context: RecordingContext) -> None:
    """What they read could leave. At level moderate the platform engineer has decided otherwise."""
    found = {}
    for level in ("strict", "moderate"):
        executor = SubprocessExecutor(warm=1, security=level, walled=False)
        await executor.start()
        try:
            found[level] = (await run(executor, context, "search", permissions=("network:external",))).output
        finally:
            await executor.close()
    code, message = found["strict"]
    assert code == ErrorCode.PERMISSION_DENIED
    assert message.startswith("memory.search: at security level strict a skill with network:external may not use it")
    assert found["moderate"] == [{"query": "secret", "limit": 5}]


@pytest.mark.parametrize(
    ("action", "kind", "text"),
    [
        ("fail", errors.SkillFailedError, "no such branch: main"),
        ("crash", errors.SkillCrashedError, "ZeroDivisionError"),
        ("die", errors.SkillCrashedError, "exit code 3"),
        ("segfault", errors.SkillCrashedError, "signal 11"),
        ("leave", errors.SkillCrashedError, "SystemExit: bye"),
        ("not_json", errors.SkillCrashedError, "not JSON"),
        ("nan", errors.SkillCrashedError, "not JSON"),
        ("missing", errors.SandboxError, "defines no function missing"),
    ],
)
async def test_how_calls_fail(
    executor: SubprocessExecutor, context: RecordingContext, action: str, kind: type[Exception], text: str
) -> None:
    with pytest.raises(kind, match=text):
        await run(executor, context, action)
    assert (await run(executor, context, "noop")).output == {"ok": True}


async def test_a_crash_says_where(executor: SubprocessExecutor, context: RecordingContext) -> None:
    with pytest.raises(errors.SkillCrashedError) as caught:
        await run(executor, context, "crash")
    assert "return 1 // 0" in caught.value.data["detail"]


async def test_strings_that_are_no_unicode_survive(executor: SubprocessExecutor, context: RecordingContext) -> None:
    assert (await run(executor, context, "surrogate")).output == "\ud800"


async def test_a_result_over_the_limit_is_an_error(executor: SubprocessExecutor, context: RecordingContext) -> None:
    assert len((await run(executor, context, "huge", {"size": 1_000_000})).output) == 1_000_000
    with pytest.raises(errors.ResultTooLargeError, match="at most 1048576"):
        await run(executor, context, "huge", {"size": 1_048_576})


async def test_a_timeout_lets_the_skill_clean_up(
    executor: SubprocessExecutor, context: RecordingContext, tmp_path: Path
) -> None:
    with pytest.raises(errors.CallTimeoutError, match=r"longer than 0\.3 s"):
        await run(executor, context, "sleep", timeout=0.3, permissions=FILES)
    assert (tmp_path / "workspace" / "cleaned").read_text() == "yes"


async def test_a_timeout_ends_a_skill_that_ignores_sigterm(
    executor: SubprocessExecutor, context: RecordingContext
) -> None:
    with pytest.raises(errors.CallTimeoutError):
        await run(executor, context, "stubborn", timeout=0.3)
    pid = int(context.logs[0][1].removeprefix("ignoring "))
    assert gone(pid)


async def test_cancelling_the_task_ends_the_skill(
    executor: SubprocessExecutor, context: RecordingContext, tmp_path: Path
) -> None:
    task = asyncio.ensure_future(run(executor, context, "sleep", permissions=FILES))
    await context.logged.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await executor.close()
    assert (tmp_path / "workspace" / "cleaned").read_text() == "yes"


async def test_closing_the_executor_ends_calls_in_flight(
    executor: SubprocessExecutor, context: RecordingContext
) -> None:
    task = asyncio.ensure_future(run(executor, context, "stubborn"))
    await context.logged.wait()
    await executor.close()
    with pytest.raises(errors.SandboxError):
        await task
    assert gone(int(context.logs[0][1].removeprefix("ignoring ")))


async def test_a_call_waits_for_a_sandbox_until_its_deadline(context: RecordingContext) -> None:
    executor = SubprocessExecutor(warm=0, limit=0, walled=False)
    await executor.start()
    try:
        with pytest.raises(errors.SandboxUnavailableError, match="no sandbox of pool local"):
            await executor.execute(make_call(make_skill(), deadline=0.05), context)
    finally:
        await executor.close()


async def test_more_calls_than_sandboxes_all_get_their_turn(context: RecordingContext) -> None:
    executor = SubprocessExecutor(warm=3, limit=4, walled=False)
    metrics = Metrics(version="1", agent="a", start_time=0)
    executor.observe(metrics)
    await executor.start()
    try:
        results = await asyncio.gather(*(run(executor, context, "noop") for _ in range(16)))
    finally:
        await executor.close()
    assert len({result.sandbox for result in results}) == 16
    told = metrics.registry.get_sample_value
    labels = {"pool": "local", "outcome": "served"}
    assert told("openclaw_sandbox_queue_seconds_count", labels) == 16
    assert told("openclaw_sandbox_waiting_calls", {"pool": "local"}) == 0


# --- attacks ----------------------------------------------------------------------------------------------------------


async def test_no_environment_leaks(
    executor: SubprocessExecutor, context: RecordingContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-leak")
    await executor.close()
    await executor.start()
    result = await run(executor, context, "environment")
    assert set(result.output["environ"]) == {"PATH", "HOME", "TMPDIR", "LANG", "PYTHONDONTWRITEBYTECODE"}
    assert result.output["proc"] == ""


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the attack uses numbers of x86_64")
@pytest.mark.parametrize("permissions", [(), EXECUTE, (*EXECUTE, *FILES, "network:external")])
async def test_the_runner_is_out_of_reach(
    executor: SubprocessExecutor, context: RecordingContext, permissions: tuple[str, ...]
) -> None:
    tried = (await run(executor, context, "runner", permissions=permissions)).output
    assert tried.pop("self")[0] == "did"
    assert {name: outcome[0] for name, outcome in tried.items()} == dict.fromkeys(tried, "refused")
    assert {tried[name][1] for name in ("environ", "mem", "fd")} == {errno.EACCES}


async def test_a_skill_ends_what_it_started(executor: SubprocessExecutor, context: RecordingContext) -> None:
    result = await run(executor, context, "children", permissions=EXECUTE)
    assert result.output == [-signal.SIGTERM, -signal.SIGKILL, 128 + signal.SIGTERM]


async def test_starting_programs_needs_its_permission(executor: SubprocessExecutor, context: RecordingContext) -> None:
    for action in ("execute", "fork"):
        with pytest.raises(errors.PermissionDeniedError, match="process:execute"):
            await run(executor, context, action)
    assert (await run(executor, context, "execute", permissions=EXECUTE)).output == "ran\n"
    assert (await run(executor, context, "thread")).output == [1]


async def test_sockets_need_a_network_permission(executor: SubprocessExecutor, context: RecordingContext) -> None:
    with pytest.raises(errors.PermissionDeniedError, match="network:external"):
        await run(executor, context, "connect", permissions=EXECUTE)
    for permission in ("network:internal", "network:external"):
        assert (await run(executor, context, "connect", permissions=(permission,))).output == "socket"


async def test_a_process_left_behind_is_killed(executor: SubprocessExecutor, context: RecordingContext) -> None:
    pid = (await run(executor, context, "orphan", permissions=EXECUTE)).output
    assert gone(pid)


async def test_a_fork_bomb_is_ended(executor: SubprocessExecutor, context: RecordingContext) -> None:
    with pytest.raises(errors.SandboxError, match="processes"):
        await run(executor, context, "bomb", permissions=EXECUTE)
    assert (await run(executor, context, "noop")).output == {"ok": True}


async def test_a_flood_of_output_is_drained_and_cut(executor: SubprocessExecutor, context: RecordingContext) -> None:
    assert (await run(executor, context, "flood", {"lines": 20_000})).output == "done"
    assert sum(len(message) for _, message, _ in context.logs) <= output.MAX_TOTAL_BYTES + 1000
    assert "log lines were dropped" in context.logs[-1][1]


async def test_a_flood_of_log_lines_is_cut(executor: SubprocessExecutor, context: RecordingContext) -> None:
    assert (await run(executor, context, "log_flood")).output == "done"
    assert len(context.logs) < 5000
    assert "log lines were dropped" in context.logs[-1][1]


async def test_an_endless_line_is_cut(executor: SubprocessExecutor, context: RecordingContext) -> None:
    await run(executor, context, "one_line", {"size": 5_000_000})
    (line,) = [message for _, message, fields in context.logs if fields.get("stream") == "stdout"]
    assert len(line) == output.MAX_LINE_BYTES + 2


async def test_memory_is_limited(executor: SubprocessExecutor, context: RecordingContext) -> None:
    assert (await run(executor, context, "memory", {"bytes": 64 << 20})).output == 64 << 20
    for options, text in (({}, "512 MiB"), ({"memory_bytes": 128 << 20}, "128 MiB")):
        with pytest.raises(errors.SkillCrashedError, match=rf"out of memory: .* {text}; raise resources.limits.memory"):
            await run(executor, context, "memory", {"bytes": 600 << 20}, **options)
    assert (await run(executor, context, "memory", {"bytes": 600 << 20}, memory_bytes=1 << 30)).output == 600 << 20


async def test_a_file_cannot_grow_without_end(executor: SubprocessExecutor, context: RecordingContext) -> None:
    with pytest.raises(errors.SandboxError, match=r"signal SIGXFSZ|File too large"):
        await run(executor, context, "big_file", {"bytes": linux.MAX_FILE_BYTES})


async def test_no_core_dumps_and_few_files(executor: SubprocessExecutor, context: RecordingContext) -> None:
    limits = (await run(executor, context, "limits")).output
    assert limits["RLIMIT_CORE"] == [0, 0]
    assert limits["RLIMIT_NOFILE"][1] <= linux.MAX_OPEN_FILES
    assert limits["RLIMIT_DATA"][1] == 512 << 20


@pytest.mark.parametrize(
    "frame",
    [
        "ff" * 64,
        "0000000201" + b"{}".hex(),
        "0000000202" + b"{}".hex(),
        "7fffffff01",
        "0000000501" + b"[[[[[".hex(),
    ],
)
async def test_a_skill_that_writes_nonsense_to_the_runner_ends_its_call(
    executor: SubprocessExecutor, context: RecordingContext, frame: str
) -> None:
    with pytest.raises(errors.SandboxError):
        await run(executor, context, "channel", {"hex": frame})
    assert (await run(executor, context, "noop")).output == {"ok": True}


@pytest.mark.parametrize("code", [ErrorCode.BUSY, ErrorCode.UNAUTHORIZED, ErrorCode.TIMEOUT, 7])
async def test_a_skill_cannot_speak_for_the_runner(
    executor: SubprocessExecutor, context: RecordingContext, code: int
) -> None:
    """A forged busy would have the gateway run the call again and again."""
    with pytest.raises(errors.SkillCrashedError, match="broke the protocol"):
        await run(executor, context, "forge", {"code": int(code)})


async def test_a_skill_that_never_ends_is_over_when_the_runner_is_killed(
    executor: SubprocessExecutor, context: RecordingContext
) -> None:
    task = asyncio.ensure_future(run(executor, context, "stubborn"))
    await context.logged.wait()
    child = int(context.logs[0][1].removeprefix("ignoring "))
    runner = parent_of(child)
    assert b"openclaw_runtime.sandbox.runner" in Path(f"/proc/{runner}/cmdline").read_bytes()  # noqa: ASYNC240
    os.kill(runner, signal.SIGKILL)
    with pytest.raises(errors.SkillCrashedError, match="went away"):
        await task
    await until_gone(child)


@pytest.mark.parametrize("entrypoint", ["../../etc/passwd", "/etc/passwd", "scripts/none.py", "scripts/data.txt", "."])
async def test_an_entrypoint_outside_the_package_is_refused(
    executor: SubprocessExecutor, context: RecordingContext, entrypoint: str
) -> None:
    with pytest.raises(errors.PackageRefusedError, match="entrypoint"):
        await run(executor, context, "noop", entrypoint=entrypoint)


async def test_a_package_that_is_not_its_digest_is_refused(
    executor: SubprocessExecutor, context: RecordingContext
) -> None:
    other = pack_files([PackageFile("scripts/main.py", b"async def noop(ctx, given): return 'evil'\n")])

    async def load() -> bytes:
        return other.data

    with pytest.raises(errors.PackageRefusedError, match="digest"):
        await run(executor, context, "noop", load_package=load)


async def test_an_input_over_the_limit_never_leaves(executor: SubprocessExecutor, context: RecordingContext) -> None:
    with pytest.raises(errors.ProtocolViolationError, match="at most"):
        await run(executor, context, "echo", {"text": "x" * 5_000_000})
    assert json.dumps(context.logs) == "[]"

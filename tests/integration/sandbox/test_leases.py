"""Level restricted: a sandbox that stays with one session's skill, against the real process."""

import asyncio
import ctypes
import errno
import os
import platform
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from openclaw_runtime.sandbox import errors
from openclaw_runtime.sandbox.jsonrpc import Failure, Message, Request, Success, decode, encode
from openclaw_runtime.sandbox.local import LocalRunner
from openclaw_runtime.sandbox.local_executor import SubprocessExecutor
from openclaw_runtime.sandbox.protocol import (
    RELEASE_CONTEXT,
    SIGNING_CONTEXT,
    ErrorCode,
    Holder,
    ReleasePayload,
)
from openclaw_runtime.sandbox.runner import linux
from openclaw_runtime.sandbox.signing import Signer
from openclaw_runtime.skills.types import SkillCall
from tests.integration.sandbox.conftest import Start
from tests.integration.sandbox.helpers import PACKAGE, RecordingContext, connected, dial, make_skill, payload
from tests.integration.sandbox.test_calls import gone
from tests.integration.sandbox.test_handshake import answer, probe, signed

HOLDER = Holder("agent-1", "session-1", "attacks")
EXECUTE = ("process:execute",)


async def call(runner: LocalRunner, signer: Signer, action: str = "noop", **changes: Any) -> Message:
    """One call on a connection of its own; the package goes along where the sandbox does not have it."""
    async with connected(runner) as (connection, hello):
        if PACKAGE.digest not in hello.packages:
            await connection.send(PACKAGE.data)
        await connection.send(signed(signer, payload(hello, time.time(), action=action, **changes)))
        return await answer(connection)


async def output(runner: LocalRunner, signer: Signer, action: str = "noop", **changes: Any) -> Any:
    message = await call(runner, signer, action, **changes)
    assert isinstance(message, Success), message
    return message.result["output"]


async def release(
    runner: LocalRunner, signer: Signer, holder: Holder = HOLDER, context: bytes = RELEASE_CONTEXT
) -> Message:
    async with connected(runner) as (connection, hello):
        text = ReleasePayload(hello.nonce, hello.pod_uid, int(time.time()) + 30, holder).encode()
        params = {"payload": text, "signature": signer.sign(text, context)}
        await connection.send(encode(Request(1, "release", params)))
        return await answer(connection)


def code(message: Message) -> int:
    assert isinstance(message, Failure), message
    return message.code


async def test_calls_of_a_lease_share_the_sandbox_and_nothing_else(start: Start, signer: Signer) -> None:
    runner = await start(leased=True)
    first = await output(runner, signer, "litter", secrets={"TOKEN": "first"})
    assert first["module"]
    assert first["files"] == ["link", "other", "work", "work/file"]
    second = await output(runner, signer, "seen")
    assert second.pop("pid") != first["pid"]
    assert gone(first["pid"])
    # Its only relative is the zygote.
    clean = {"module": False, "environ": False, "umask": os.umask(0o22), "files": ["work"], "siblings": 1}
    assert second == clean | {"secrets": {}}
    assert await probe(runner, "/ready") == 503


@pytest.mark.parametrize("changes", [{"session": "session-2"}, {"agent": "agent-2"}, {"skill": "other"}])
async def test_nobody_else_gets_a_leased_sandbox(start: Start, signer: Signer, changes: dict[str, str]) -> None:
    runner = await start(leased=True)
    await output(runner, signer)
    assert code(await call(runner, signer, **changes)) == ErrorCode.BUSY
    assert await output(runner, signer) == {"ok": True}


async def test_a_second_call_of_the_holder_at_the_same_time_is_told_to_try_another(
    start: Start, signer: Signer
) -> None:
    runner = await start(leased=True)
    async with connected(runner) as (first, hello), connected(runner) as (second, early):
        await first.send(PACKAGE.data)
        await first.send(signed(signer, payload(hello, time.time(), action="stubborn")))
        await first.recv()
        await second.send(PACKAGE.data)
        await second.send(signed(signer, payload(early, time.time())))
        assert code(await answer(second)) == ErrorCode.BUSY


async def test_a_recorded_call_is_worthless_on_the_same_lease(start: Start, signer: Signer) -> None:
    runner = await start(leased=True)
    async with connected(runner) as (connection, hello):
        await connection.send(PACKAGE.data)
        recorded = signed(signer, payload(hello, time.time()))
        await connection.send(recorded)
        assert isinstance(await answer(connection), Success)
    async with connected(runner) as (connection, _):
        await connection.send(recorded)
        assert code(await answer(connection)) == ErrorCode.UNAUTHORIZED
    assert await output(runner, signer) == {"ok": True}


async def test_a_forged_call_does_not_touch_a_lease(start: Start, signer: Signer) -> None:
    runner = await start(leased=True)
    await output(runner, signer)
    assert code(await call(runner, Signer.generate())) == ErrorCode.UNAUTHORIZED
    assert code(await release(runner, Signer.generate())) == ErrorCode.UNAUTHORIZED
    # A call's signature is none for a release.
    assert code(await release(runner, signer, context=SIGNING_CONTEXT)) == ErrorCode.UNAUTHORIZED
    assert await output(runner, signer) == {"ok": True}


async def test_a_lease_ends_when_its_holder_gives_it_back(start: Start, signer: Signer) -> None:
    runner = await start(leased=True)
    assert code(await release(runner, signer)) == ErrorCode.BUSY  # nobody holds it yet
    await output(runner, signer)
    assert code(await release(runner, signer, replace(HOLDER, session="session-2"))) == ErrorCode.BUSY
    assert isinstance(await release(runner, signer), Success)
    assert await runner.process.wait() == 0


@pytest.mark.parametrize("setting", ["OPENCLAW_SANDBOX_LEASE_IDLE_SECONDS", "OPENCLAW_SANDBOX_LEASE_MAX_SECONDS"])
async def test_a_lease_ends_by_itself(start: Start, signer: Signer, setting: str) -> None:
    """So does that of a gateway that died between two calls."""
    runner = await start(leased=True, **{setting: "1"})
    await output(runner, signer)
    assert await runner.process.wait() == 0


async def test_a_gateway_that_breaks_off_loses_its_lease(start: Start, signer: Signer) -> None:
    runner = await start(leased=True)
    async with connected(runner) as (connection, hello):
        await connection.send(PACKAGE.data)
        await connection.send(signed(signer, payload(hello, time.time(), action="stubborn")))
        await connection.recv()
    assert await runner.process.wait() == 0


async def test_sigterm_ends_a_leased_sandbox(start: Start, signer: Signer) -> None:
    runner = await start(leased=True)
    await output(runner, signer)
    runner.process.terminate()
    assert await runner.process.wait() == 0


@pytest.mark.parametrize("leased", [False, True])
async def test_a_call_that_runs_is_finished_after_sigterm_and_no_other_is_taken(
    start: Start, signer: Signer, leased: bool
) -> None:
    runner = await start(leased=leased)
    async with connected(runner) as (connection, hello):
        await connection.send(PACKAGE.data)
        await connection.send(signed(signer, payload(hello, time.time(), action="pause")))
        question = decode(await connection.recv())
        assert isinstance(question, Request)
        runner.process.terminate()
        for _ in range(2):
            other = await dial(runner)
            assert code(await answer(other)) == ErrorCode.BUSY
            await other.close()
        await connection.send(encode(Success(question.id, "go on")))
        done = await answer(connection)
        assert isinstance(done, Success)
        assert done.result["output"] == "go on"
    assert await runner.process.wait() == 0


async def test_a_call_ends_with_whoever_started_the_runner(start: Start, signer: Signer) -> None:
    runner = await start()
    async with connected(runner) as (connection, hello):
        await connection.send(PACKAGE.data)
        await connection.send(signed(signer, payload(hello, time.time(), action="pause")))
        assert isinstance(decode(await connection.recv()), Request)
        runner.lifeline.close()
        assert code(await answer(connection)) == ErrorCode.CANCELLED
    assert await runner.process.wait() == 0


async def test_a_failed_call_leaves_the_lease(start: Start, signer: Signer) -> None:
    runner = await start(leased=True)
    for action in ("crash", "die", "segfault", "fail"):
        assert isinstance(await call(runner, signer, action), Failure)
    assert await output(runner, signer) == {"ok": True}


async def test_what_a_call_left_running_is_gone_before_the_next(start: Start, signer: Signer) -> None:
    runner = await start(leased=True)
    pid = await output(runner, signer, "orphan", permissions=EXECUTE)
    assert (await output(runner, signer, "seen"))["siblings"] == 1
    assert gone(pid)
    assert code(await call(runner, signer, "bomb", permissions=EXECUTE)) == ErrorCode.SKILL_CRASHED
    assert (await output(runner, signer, "seen"))["siblings"] == 1


@pytest.fixture
def as_in_a_pod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runners have no right to pass over the permissions of files, not even those of root."""
    if os.geteuid() == 0:
        wrapper = tmp_path / "python"
        dropped = "-dac_override,-dac_read_search,-fowner"
        wrapper.write_text(f'#!/bin/sh\nexec setpriv --bounding-set={dropped} -- {sys.executable} "$@"\n')
        wrapper.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(wrapper))


@pytest.mark.usefixtures("as_in_a_pod")
async def test_what_cannot_be_cleared_away_ends_the_lease(start: Start, signer: Signer) -> None:
    runner = await start(leased=True)
    await output(runner, signer, "locked")
    assert await runner.process.wait() == 0


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the attack uses numbers of x86_64")
@pytest.mark.parametrize("permissions", [(), (*EXECUTE, "network:external")])
async def test_the_zygote_is_out_of_reach(start: Start, signer: Signer, permissions: tuple[str, ...]) -> None:
    runner = await start(leased=True)
    tried = await output(runner, signer, "zygote", permissions=permissions)
    assert tried.pop("self")[0] == "did"
    assert {name: outcome[0] for name, outcome in tried.items()} == dict.fromkeys(tried, "refused")
    assert {tried[name][1] for name in ("environ", "mem", "fd")} == {errno.EACCES}
    assert await output(runner, signer, "lasting") == ["refused", errno.EPERM]


SECLUDES = ctypes.CDLL(None).syscall(444, None, ctypes.c_size_t(0), 1) >= 6
"""Whether this kernel keeps a process from others whose ids nobody knew: Landlock since Linux 6.12."""


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the attack uses numbers of x86_64")
@pytest.mark.parametrize(
    "permissions", [(), pytest.param(EXECUTE, marks=pytest.mark.skipif(not SECLUDES, reason="needs Linux 6.12"))]
)
async def test_other_sandboxes_of_the_machine_are_out_of_reach(
    start: Start, signer: Signer, permissions: tuple[str, ...]
) -> None:
    other = await start()
    for target in (other.process.pid, linux.descendants(other.process.pid)[0]):
        runner = await start()
        tried = await output(runner, signer, "neighbour", permissions=permissions, input={"pid": target})
        assert tried.pop("self")[0] == "did"
        del tried["pidfd"]  # of no use: what may be done with it is refused
        if not SECLUDES:
            for name in ("environ", "mem", "fd"):
                del tried[name]
        assert {name: outcome[0] for name, outcome in tried.items()} == dict.fromkeys(tried, "refused")
    assert await output(other, signer) == {"ok": True}


async def test_garbage_does_not_touch_a_lease(start: Start, signer: Signer) -> None:
    runner = await start(leased=True)
    await output(runner, signer)
    for frame in (
        "",
        "{}",
        '{"jsonrpc":"2.0","id":1,"method":"release","params":{}}',
        '{"jsonrpc":"2.0","id":1,"method":"release","params":{"payload":1,"signature":""}}',
        '{"jsonrpc":"2.0","id":1,"method":"release","params":{"payload":"{}","signature":"AA=="}}',
        '{"jsonrpc":"2.0","id":1,"result":{}}',
        "[" * 100_000,
    ):
        async with connected(runner) as (connection, _):
            await connection.send(frame)
            assert code(await answer(connection)) in {ErrorCode.INVALID_REQUEST, ErrorCode.UNAUTHORIZED}
            with pytest.raises(ConnectionClosed):
                await connection.recv()
    assert await output(runner, signer) == {"ok": True}


async def test_an_isolated_sandbox_knows_no_release(start: Start, signer: Signer) -> None:
    runner = await start()
    assert code(await release(runner, signer)) == ErrorCode.INVALID_REQUEST
    assert await output(runner, signer) == {"ok": True}


# --- the gateway's side -----------------------------------------------------------------------------------------------


@pytest.fixture
async def executor() -> AsyncIterator[SubprocessExecutor]:
    subprocesses = SubprocessExecutor(warm=1, limit=4, keep_leases=2, walled=False)
    await subprocesses.start()
    yield subprocesses
    await subprocesses.close()


async def run(executor: SubprocessExecutor, session: str, action: str = "seen", **options: Any) -> tuple[str, Any]:
    """Name of the sandbox, and what the action returned."""
    skill = make_skill(action, level="restricted", **options)
    result = await executor.execute(
        SkillCall("call-1", "agent-1", session, skill, action, {}, 60.0), RecordingContext()
    )
    return result.sandbox, result.output


async def test_a_session_keeps_its_sandbox_and_others_get_their_own(executor: SubprocessExecutor) -> None:
    one, first = await run(executor, "one")
    two, _ = await run(executor, "two")
    again, second = await run(executor, "one")
    assert one == again != two
    assert first["pid"] != second["pid"]
    assert executor.status()["pools"]["local-restricted"]["leased"] == 2


async def test_isolated_skills_are_never_leased(executor: SubprocessExecutor) -> None:
    names = [(await run(executor, "one", name="attacks"))[0]]
    skill = make_skill("seen")
    for _ in range(2):
        call = SkillCall("call-1", "agent-1", "one", skill, "seen", {}, 60.0)
        names.append((await executor.execute(call, RecordingContext())).sandbox)
    assert len(set(names)) == 3


async def test_the_configured_level_holds_for_skills_that_ask_for_less() -> None:
    executor = SubprocessExecutor(warm=1, level="isolated", walled=False)
    await executor.start()
    try:
        assert (await run(executor, "one"))[0] != (await run(executor, "one"))[0]
    finally:
        await executor.close()


async def test_calls_at_the_same_time_get_a_sandbox_each(executor: SubprocessExecutor) -> None:
    found = await asyncio.gather(run(executor, "one"), run(executor, "one"))
    assert len({name for name, _ in found}) == 2


async def test_a_lease_that_is_gone_is_replaced(executor: SubprocessExecutor) -> None:
    name, _ = await run(executor, "one")
    with pytest.raises(errors.SkillFailedError):
        await run(executor, "one", "fail")
    assert (await run(executor, "one"))[0] == name
    (endpoint,) = [lease.endpoint for lease in executor._runner.leases._idle]
    await executor._runner._client.release(endpoint, Holder("agent-1", "one", "attacks"))
    replaced, _ = await run(executor, "one")
    assert replaced != name


async def test_the_lease_that_was_idle_longest_makes_room(executor: SubprocessExecutor) -> None:
    """Two may be idle, and four processes may live: a fifth session must not wait for anybody's idle time."""
    names = [(await run(executor, str(number)))[0] for number in range(5)]
    assert len(set(names)) == 5
    assert executor.status()["pools"]["local-restricted"]["leased"] == 2
    assert (await run(executor, "4"))[0] == names[4]

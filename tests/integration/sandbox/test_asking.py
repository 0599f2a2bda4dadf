"""A skill in a real sandbox asks its user: its time stands still, and a gateway that is gone ends it all the same."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from openclaw_runtime.errors import NoAnswerError
from openclaw_runtime.sandbox import errors
from openclaw_runtime.sandbox.archive import PackageFile
from openclaw_runtime.sandbox.jsonrpc import Request, decode, encode
from openclaw_runtime.sandbox.local_executor import SubprocessExecutor
from openclaw_runtime.sandbox.protocol import CALL_ID
from openclaw_runtime.sandbox.signing import Signer
from openclaw_runtime.skills.package import pack_files
from openclaw_runtime.skills.types import SkillResult
from tests.integration.sandbox.conftest import Start
from tests.integration.sandbox.helpers import PACKAGE, RecordingContext, connected, make_call, make_skill, payload

PYTHON = b"""
import asyncio
from openclaw_skill import ContextError

async def two(ctx, given):
    return [await ctx.ask("first?"), await ctx.ask("second?")]

async def hang(ctx, given):
    await ctx.ask("first?")
    await asyncio.Event().wait()

async def code(ctx, given):
    try:
        return await ctx.ask(given["question"])
    except ContextError as error:
        return [error.code, str(error)]
"""
NODE = b'export const two = async (ctx) => [await ctx.ask("first?"), await ctx.ask("second?")];'
BASH = b"""
first=$(openclaw-ctx ask 'first?')
second=$(openclaw-ctx ask 'second?')
printf '["%s", "%s"]' "$first" "$second"
"""
SKILLS: dict[str, dict[str, Any]] = {
    "python": {"package": pack_files([PackageFile("scripts/main.py", PYTHON)])},
    "node": {"package": pack_files([PackageFile("scripts/main.mjs", NODE)]), "entrypoint": "scripts/main.mjs"},
    "bash": {
        "package": pack_files([PackageFile("scripts/main.sh", BASH)]),
        "entrypoint": "scripts/main.sh",
        "permissions": ("process:execute",),
    },
}


class Thinking(RecordingContext):
    """A user who takes longer than all limits of the call together."""

    def __init__(self, answer: Callable[[str], Awaitable[str]]) -> None:
        super().__init__()
        self._answer = answer

    async def ask(self, question: str) -> str:
        return await self._answer(question)


async def run(executor: SubprocessExecutor, context: RecordingContext, runtime: str, action: str, **more: Any) -> Any:
    given = more.pop("given", None)
    skill = make_skill(action, runtime=runtime, **SKILLS[runtime], **more)
    result: SkillResult = await executor.execute(make_call(skill, given), context)
    return result


async def test_the_limits_of_a_call_stand_still_while_it_asks(executor: SubprocessExecutor) -> None:
    async def slowly(question: str) -> str:
        await asyncio.sleep(5)
        return f"to {question}"

    async with asyncio.timeout(120):
        results = await asyncio.gather(
            *(run(executor, Thinking(slowly), runtime, "two", timeout=4.0) for runtime in SKILLS)
        )
    for result in results:
        assert result.output == ["to first?", "to second?"]
        assert result.duration_ms < 4_000


async def test_a_call_that_has_its_answer_has_its_limit_again(executor: SubprocessExecutor) -> None:
    with pytest.raises(errors.CallTimeoutError, match=r"took longer than 0\.5 s"):
        await run(executor, RecordingContext(), "python", "hang", timeout=0.5)


async def test_a_skill_can_tell_that_nobody_answered(executor: SubprocessExecutor) -> None:
    async def nobody(question: str) -> str:
        raise NoAnswerError("nobody answered within 600 s")

    given = {"question": "may I?"}
    assert (await run(executor, Thinking(nobody), "python", "code", given=given)).output == [
        -32010,
        "nobody answered within 600 s",
    ]
    empty = await run(executor, Thinking(nobody), "python", "code", given={"question": " "})
    assert empty.output == [-32602, "ask.question: is empty; ask something"]
    long = await run(executor, Thinking(nobody), "python", "code", given={"question": "x" * 8_001})
    assert long.output == [-32602, "ask.question: longer than 8000 characters"]


async def test_a_gateway_that_is_gone_without_a_word_ends_a_call_that_asks(start: Start, signer: Signer) -> None:
    runner = await start()
    async with connected(runner) as (connection, hello):
        await connection.send(PACKAGE.data)
        text = payload(hello, time.time(), action="pause").encode()
        params = {"payload": text, "signature": signer.sign(text)}
        await connection.send(encode(Request(CALL_ID, "call", params)))
        while not isinstance(message := decode(await connection.recv()), Request):
            pass
        assert message.method == "ask"
        connection.transport.abort()
    async with asyncio.timeout(60):
        await runner.process.wait()

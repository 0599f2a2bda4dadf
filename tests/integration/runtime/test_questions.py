"""A skill asks its user through whole gateways: one, two that share Redis, and an agent that works for another one."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import APIStatusError, AsyncOpenAI

from openclaw_runtime.config import RuntimeConfig
from openclaw_runtime.errors import NoAnswerError
from openclaw_runtime.gateway.assembly import Gateway
from openclaw_runtime.gateway.skills import RuntimeSkills
from openclaw_runtime.memory.types import Filters
from openclaw_runtime.skills.types import CallContext, InstalledSkill, SkillResult
from tests.fakes.llm.gateways import FakeSkills, House, Model
from tests.fakes.llm.serve import serving
from tests.fakes.mcp.server import create_app

ASK = "Please commit my work"
SECONDS = 60


class Asking(FakeSkills):
    """Asks `questions`, all at once if `together`, and answers with what came back."""

    def __init__(self, *questions: str, together: bool = False) -> None:
        super().__init__("git-ai-helper")
        self.questions = questions
        self.together = together
        self.answers: list[str] = []
        self.ended = asyncio.Event()
        self.contexts: list[Any] = []

    async def call(
        self, skill: InstalledSkill, action: str, arguments: dict[str, Any], *, session: str, context: CallContext
    ) -> SkillResult:
        self.calls.append((skill.name, action, arguments, session))
        self.contexts.append(context)
        self.called.set()
        try:
            answers = self.answers = []
            if self.together:
                answers += await asyncio.gather(*map(self.one(context), self.questions))
            for question in () if self.together else self.questions:
                answers.append(await self.one(context)(question))
            return SkillResult({"summary": f"Committed {' and '.join(answers)}"}, 1, "0" * 64, "fake")
        finally:
            self.ended.set()

    def one(self, context: CallContext) -> Any:
        async def ask(question: str) -> str:
            try:
                return await context.ask(question)
            except NoAnswerError as error:
                return f"[{error}]"

        return ask


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with serving(Model()) as address, asyncio.timeout(SECONDS):
        yield House(tmp_path, f"{address}/v1")


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as gateways:
        yield gateways


async def say(client: AsyncOpenAI, text: str, session: str = "s") -> tuple[str, str]:
    """What a streamed turn says, and how it ends."""
    said, ended = "", ""
    async for chunk in await client.chat.completions.create(
        model="stand-in",
        messages=[{"role": "user", "content": text}],
        stream=True,
        extra_headers={"X-OpenClaw-Session": session},
    ):
        said += chunk.choices[0].delta.content or ""
        ended = chunk.choices[0].finish_reason or ended
    return said, ended


async def history(client: AsyncOpenAI, session: str = "s") -> list[tuple[str, str, bool]]:
    address = str(client.base_url).replace("/v1/", f"/api/v1/sessions/{session}")
    async with httpx.AsyncClient(headers={"Authorization": f"Bearer {client.api_key}"}) as http:
        messages = (await http.get(address)).json()["messages"]
    return [(each["role"], each["content"], each["metadata"].get("question", False)) for each in messages]


async def metric(client: AsyncOpenAI, name: str) -> float:
    async with httpx.AsyncClient() as http:
        text = (await http.get(str(client.base_url).replace("/v1/", "/metrics"))).text
    return next(float(line.split()[1]) for line in text.splitlines() if line.startswith(f"{name} "))


def pair(house: House, redis_url: str, **execution: Any) -> RuntimeConfig:
    house.bus = {"provider": "redis", "url": redis_url}
    house.memory = {"type": "file", "records": {"url": f"sqlite+aiosqlite:///{house.folder}/shared.db"}}
    return house.config("expert", execution=execution)


# --- one gateway -----------------------------------------------------------------------------------------------------


async def test_a_question_is_the_answer_and_the_next_message_goes_on(house: House, stack: AsyncExitStack) -> None:
    """The slot for skill calls is free for other sessions meanwhile."""
    skills = Asking("Which files?", "Sure?")
    config = house.config("expert", execution={"max_concurrent": 1})
    gateway, client = await stack.enter_async_context(house.gateway(config, skills))
    assert await say(client, ASK) == ("Which files?", "stop")
    assert await metric(client, "openclaw_open_questions") == 1
    assert await metric(client, "openclaw_turns_in_flight") == 0
    other = await say(client, ASK, session="another")
    assert other[0] == "Which files?"
    assert await say(client, "1 and 2") == ("Sure?", "stop")
    assert await say(client, "yes") == ("Done. Committed 1 and 2 and yes", "stop")
    assert await say(client, "none", session="another") == ("Sure?", "stop")
    assert await history(client) == [
        ("user", ASK, False),
        ("assistant", "Which files?", True),
        ("user", "1 and 2", False),
        ("assistant", "Sure?", True),
        ("user", "yes", False),
        ("assistant", "Done. Committed 1 and 2 and yes", False),
    ]
    assert skills.calls[0][3] == "s"
    recalled = await gateway.state.memory.recent(only=Filters(kinds=("exchange",)))
    assert recalled[0].text.startswith(f"User: {ASK}\nAnswer: Which files?\nUser: 1 and 2")
    assert await metric(client, "openclaw_open_questions") == 1


async def test_what_a_remote_mcp_server_elicits_is_a_question_of_the_turn(house: House, stack: AsyncExitStack) -> None:
    address = await stack.enter_async_context(serving(create_app()))
    folder = house.folder / "waiter"
    folder.mkdir()
    (folder / "SKILL.md").write_text("---\nname: waiter\ndescription: books tables\n---\n")
    (folder / "skill.yaml").write_text(
        f"version: 1.0.0\npermissions: [network:internal]\nmcp: {{url: '{address}/mcp'}}\n"
        "triggers: [{type: command, pattern: reserve, action: reserve}]\n"
    )
    config = house.config("a", skills={"directories": [str(folder)]})
    skills = RuntimeSkills(config, environ={}, environment={}, data_dir=house.folder, workspace=None)
    _, client = await stack.enter_async_context(house.gateway(config, skills))  # type: ignore[arg-type]
    await skills._service.discovery.settled()
    question, ended = await say(client, "reserve")
    assert (question.startswith("A table for tonight?"), ended) == (True, "stop")
    assert await say(client, "Ada") == ("booked for Ada", "stop")
    assert [role for role, *_ in await history(client)] == ["user", "assistant"] * 2


async def test_the_time_of_a_turn_stands_still_while_it_waits(house: House, stack: AsyncExitStack) -> None:
    skills = Asking("Which files?")
    gateway, client = await stack.enter_async_context(house.gateway(house.config("expert"), skills))
    await say(client, ASK)
    limit = skills.contexts[0].turn.limit
    left = limit.remaining()
    await asyncio.sleep(0.01)
    assert limit.remaining() == left > 0
    assert (await say(client, "all"))[0] == "Done. Committed all"
    assert limit.remaining() < left
    assert gateway.state.conversations.open() == 0


async def test_two_questions_at_once_are_asked_one_after_the_other(house: House, stack: AsyncExitStack) -> None:
    skills = Asking("First?", "Second?", together=True)
    _, client = await stack.enter_async_context(house.gateway(house.config("expert"), skills))
    assert (await say(client, ASK))[0] == "First?"
    assert (await say(client, "one"))[0] == "Second?"
    assert (await say(client, "two"))[0] == "Done. Committed one and two"


async def test_no_answer_in_time_is_an_error_for_the_skill_and_the_session_keeps_the_end(
    house: House, stack: AsyncExitStack
) -> None:
    skills = Asking("Which files?", "And now?")
    config = house.config("expert", execution={"ask_timeout": 300})
    gateway, client = await stack.enter_async_context(house.gateway(config, skills))
    assert (await say(client, ASK))[0] == "Which files?"
    await skills.ended.wait()
    await gateway.state.conversations.ended()
    assert skills.answers[0] == "[nobody answered within 0.3 s]"
    assert "did not answer the question before" in skills.answers[1]
    assert (await history(client))[-1][1].startswith("Done. Committed [nobody answered")
    assert await metric(client, "openclaw_open_questions") == 0
    # What the user says now is a new turn.
    await say(client, "Hello")
    assert [text for role, text, _ in await history(client) if role == "user"] == [ASK, "Hello"]


async def test_more_questions_than_sandboxes_can_wait_for_are_refused(house: House, stack: AsyncExitStack) -> None:
    skills = Asking("Which files?")
    config = house.config("expert", execution={"max_concurrent": 1})
    _, client = await stack.enter_async_context(house.gateway(config, skills))
    for number in range(config.execution.max_questions):
        assert (await say(client, ASK, session=f"s{number}"))[0] == "Which files?"
    assert "wait for their users already" in (await say(client, ASK, session="over"))[0]
    assert (await say(client, "all", session="s0"))[0] == "Done. Committed all"
    assert (await say(client, ASK, session="over"))[0] == "Which files?"


async def test_a_gateway_that_ends_tells_the_skill_and_keeps_what_came_of_it(
    house: House, stack: AsyncExitStack, redis_url: str
) -> None:
    config = pair(house, redis_url)
    skills = Asking("Which files?")
    first, client = await stack.enter_async_context(house.gateway(config, skills))
    _, other = await stack.enter_async_context(house.gateway(config, Asking()))
    assert (await say(client, ASK))[0] == "Which files?"
    assert await first.close(SECONDS)
    assert "the gateway is shutting down" in skills.answers[0]
    assert (await history(other))[-1][1].startswith("Done. Committed [the gateway is shutting down")
    await say(other, "all")
    assert (await history(other))[-2][:2] == ("user", "all")


async def test_a_client_that_leaves_before_it_saw_the_question_cancels_the_turn(
    house: House, stack: AsyncExitStack
) -> None:
    skills = Asking("Which files?")
    skills.gate = asyncio.Event()
    gateway, client = await stack.enter_async_context(house.gateway(house.config("expert"), skills))
    asking = asyncio.create_task(say(client, ASK))
    await skills.called.wait()
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    await skills.ended.wait()
    assert await gateway.state.drain(SECONDS)
    assert gateway.state.conversations.open() == 0
    assert gateway._questions.open == 0


# --- two replicas ----------------------------------------------------------------------------------------------------


async def test_the_answer_may_come_to_another_replica(house: House, stack: AsyncExitStack, redis_url: str) -> None:
    config = pair(house, redis_url)
    skills, idle = Asking("Which files?", "Sure?"), Asking()
    first, one = await stack.enter_async_context(house.gateway(config, skills))
    second, two = await stack.enter_async_context(house.gateway(config, idle))
    assert await say(one, ASK) == ("Which files?", "stop")
    assert await say(two, "1 and 2") == ("Sure?", "stop")
    assert await say(two, "yes") == ("Done. Committed 1 and 2 and yes", "stop")
    assert idle.calls == []
    assert [text for _, text, _ in await history(two)][1::2] == [
        "Which files?",
        "Sure?",
        "Done. Committed 1 and 2 and yes",
    ]
    # It is over: the next message begins a turn where it arrives.
    await say(two, ASK)
    assert len(idle.calls) == 1
    await first.state.conversations.ended()
    await second.state.conversations.ended()


async def test_a_replica_that_died_is_told_plainly(house: House, stack: AsyncExitStack, redis_url: str) -> None:
    config = pair(house, redis_url)
    first, one = await stack.enter_async_context(house.gateway(config, Asking("Which files?")))
    second, two = await stack.enter_async_context(house.gateway(config, Asking()))
    await say(one, ASK)
    dead(first)
    second._bus.talks._beat = 0.2
    with pytest.raises(APIStatusError, match="has ended, and the work with it") as caught:
        await say(two, "1 and 2")
    assert (caught.value.status_code, caught.value.code) == (409, "question_lost")
    assert (await say(two, ASK))[0].startswith("Done.")


def dead(gateway: Gateway) -> None:
    """From now on it hears nothing, as if its process were gone."""
    gateway._bus._transport._loops[2].cancel()  # type: ignore[attr-defined]


# --- agents that work for others -------------------------------------------------------------------------------------


@pytest.mark.parametrize("redis", [False, True], ids=["one process", "redis"])
async def test_what_an_expert_asks_goes_to_the_coordinators_user(
    house: House, stack: AsyncExitStack, request: pytest.FixtureRequest, redis: bool
) -> None:
    if redis:
        house.bus = {"provider": "redis", "url": request.getfixturevalue("redis_url")}
    skills = Asking("Which files?")
    expert, _ = await stack.enter_async_context(house.gateway(house.config("code-expert"), skills))
    coordinator = house.config("coordinator", team=("code-expert",))
    _, client = await stack.enter_async_context(house.gateway(coordinator, FakeSkills()))
    assert await say(client, ASK) == ("Which files?", "stop")
    said, _ = await say(client, "1 and 2")
    assert "Committed 1 and 2" in said
    assert skills.calls[0][3] == "coordinator/s"
    assert await history(client, "s") == [
        ("user", ASK, False),
        ("assistant", "Which files?", True),
        ("user", "1 and 2", False),
        ("assistant", said, False),
    ]
    assert expert.state.conversations.open() == 0


async def test_an_expert_learns_that_nobody_answers(house: House, stack: AsyncExitStack) -> None:
    skills = Asking("Which files?")
    await stack.enter_async_context(house.gateway(house.config("code-expert"), skills))
    coordinator = house.config("coordinator", team=("code-expert",), execution={"ask_timeout": 300})
    gateway, client = await stack.enter_async_context(house.gateway(coordinator, FakeSkills()))
    assert (await say(client, ASK))[0] == "Which files?"
    await skills.ended.wait()
    await gateway.state.conversations.ended()
    assert skills.answers == ["[nobody answered within 0.3 s]"]
    assert "nobody answered" in (await history(client))[-1][1]


async def test_a_turn_that_nobody_follows_asks_nobody(house: House, stack: AsyncExitStack) -> None:
    skills = Asking("Which files?")
    gateway, _ = await stack.enter_async_context(house.gateway(house.config("code-expert"), skills))
    asker, _ = await stack.enter_async_context(house.gateway(house.config("other"), FakeSkills()))
    answers = await asker._bus.broadcast({"task": ASK, "session": "all"}, to=["code-expert"], timeout_ms=60_000)
    assert answers[0].payload is not None
    assert "nobody to ask" in skills.answers[0]
    assert gateway.state.conversations.open() == 0

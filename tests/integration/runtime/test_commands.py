"""A message that a skill's pattern matches runs the action at once, in every other way a call and a turn like any."""

from pathlib import Path

import pytest

from openclaw_runtime.skills.types import ActionSpec, Trigger
from tests.fakes.llm.gateways import ANSWER, FakeSkills, House, Model
from tests.integration.runtime.test_gateway import house, http, model, say, stream

__all__ = ["house", "model"]

COMMIT = Trigger("command", "smartCommit", r"git commit(?: (?P<hint>.+))?")


def skills(*triggers: Trigger) -> FakeSkills:
    made = FakeSkills("git-ai-helper")
    made.triggers = triggers or (COMMIT,)
    return made


async def test_a_command_runs_its_action_without_a_model_to_choose_it(house: House, model: Model) -> None:
    fake = skills()
    async with house.gateway(house.config("a"), fake) as (gateway, client), http(client) as raw:
        text, chunks = await stream(client, "git commit the payments")
        assert fake.calls == [("git-ai-helper", "smartCommit", {"hint": "the payments"}, "s1")]
        assert text.startswith('```json\n{\n  "summary": "Committed abc1234: ')
        assert chunks[-1].usage.total_tokens == 0
        # The one request is the skill's own, for a commit message.
        assert ["Write a commit message" in str(request["messages"]) for request in model.requests] == [True]
        said, answer = (await raw.get("/api/v1/sessions/s1")).json()["messages"]
        assert (said["content"], answer["content"]) == ("git commit the payments", text)
        assert answer["metadata"]["skills"][0]["outcome"] == "ok"
        kinds = [record.kind for record in await gateway.state.memory.recent()]
        assert kinds == ["exchange", "commit"]
        counted = gateway.state.metrics.registry.get_sample_value(
            "openclaw_skill_executions_total", {"skill": "git-ai-helper", "action": "smartCommit"}
        )
        assert counted == 1


async def test_a_call_that_fails_is_answered_with_the_reason(house: House) -> None:
    fake = skills()
    fake.fails = "the disk is full"
    async with house.gateway(house.config("a"), fake) as (_, client):
        assert "git-ai-helper smartCommit failed" in await say(client, "git commit")
        assert "the disk is full" in await say(client, "git commit")


async def test_any_other_message_is_the_models(house: House) -> None:
    fake = skills()
    async with house.gateway(house.config("a"), fake) as (_, client):
        assert await say(client, "Please commit my work, as git commit does") == ANSWER
        assert fake.calls == [("git-ai-helper", "smartCommit", {}, "s1")]


async def test_a_command_without_an_action_offers_the_model_only_its_skill(house: House, model: Model) -> None:
    fake = skills(Trigger("command", None, "git.*"))
    fake.names = ("git-ai-helper", "other")
    fake.actions = (*fake.actions, ActionSpec("pull", "Pulls."))
    async with house.gateway(house.config("a"), fake) as (_, client):
        for text, others in (("git what is new?", False), ("what is new?", True)):
            await say(client, text, session=text)
            tools = {tool["function"]["name"] for tool in model.requests[-1]["tools"]}
            assert tools >= {"git-ai-helper__smartCommit", "git-ai-helper__pull", "memory_search"}
            assert ("other__pull" in tools) == others


async def test_only_a_users_message_is_a_command(house: House, tmp_path: Path) -> None:
    """An agent that hands over a task writes what a model said."""
    del tmp_path
    fake = skills(Trigger("command", "smartCommit", ".*"))
    async with (
        house.gateway(house.config("code-expert"), fake),
        house.gateway(house.config("coordinator", team=("code-expert",)), FakeSkills()) as (_, client),
    ):
        assert await say(client, "Please commit my work") == ANSWER


@pytest.mark.parametrize("text", ["git commit " + "x" * 5000, "git\ncommit"])
async def test_what_is_too_long_or_of_several_lines_is_no_command(house: House, model: Model, text: str) -> None:
    async with house.gateway(house.config("a"), skills()) as (_, client):
        await say(client, text)
        assert model.requests[0]["tools"]

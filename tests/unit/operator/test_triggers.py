"""What starts actions besides the model: what cannot work is said by field, value and fix."""

from __future__ import annotations

import json
from typing import Any

import pytest

from openclaw_operator.api.agent import AgentSpec
from openclaw_operator.errors import SpecError
from openclaw_operator.reconcile.agent import AgentReconciler
from openclaw_operator.reconcile.skill import check_actions
from openclaw_operator.reconcile.status import ready_condition
from openclaw_operator.resources import schedules
from tests.unit.operator.builders import agent_inputs, skill_spec
from tests.unit.operator.fake_api import Bench

STRICT = {
    "type": "object",
    "properties": {"path": {"type": "string"}, "hint": {"type": "string"}},
    "required": ["path"],
    "additionalProperties": False,
}


def action(schema: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"name": "pull", "description": "pulls", "inputSchema": schema or {"type": "object"}}


@pytest.mark.parametrize(
    ("trigger", "schema", "reason", "message"),
    [
        ({"type": "command", "pattern": "git("}, None, "InvalidPattern", "spec.triggers[0].pattern: 'git('"),
        ({"type": "command", "pattern": "(?=a)b"}, None, "InvalidPattern", "RE2 has no lookaround"),
        ({"type": "cron", "schedule": "0 25 * * *", "action": "pull"}, None, "InvalidSchedule", "'0 25 * * *'"),
        ({"type": "cron", "schedule": "0 0 30 2 *", "action": "pull"}, None, "InvalidSchedule", "bad day-of-month"),
        ({"type": "cron", "schedule": "@daily", "action": "pull"}, STRICT, "InvalidTrigger", "needs path"),
        ({"type": "command", "pattern": "pull"}, STRICT, "InvalidTrigger", "needs path: name groups of the pattern"),
        (
            {"type": "command", "pattern": "pull (?P<path>.+) (?P<what>.+)"},
            STRICT,
            "InvalidTrigger",
            "takes no what (it takes hint, path)",
        ),
    ],
)
def test_a_trigger_that_can_start_nothing_is_refused(
    trigger: dict[str, Any], schema: Any, reason: str, message: str
) -> None:
    with pytest.raises(SpecError) as refusal:
        check_actions(skill_spec(actions=[action(schema)], triggers=[trigger]))
    assert refusal.value.reason == reason
    assert message in refusal.value.message


def test_triggers_that_work_are_taken_and_no_pattern_takes_long() -> None:
    triggers = [
        {"type": "command", "pattern": "pull (?P<path>.+)"},
        {"type": "command", "pattern": "(a+)+(?P<path>b)$", "action": "pull"},
    ]
    check_actions(skill_spec(actions=[action(STRICT)], triggers=triggers))
    # With several actions and none named, the model chooses: there is no input to check.
    check_actions(skill_spec(actions=[action(STRICT), action() | {"name": "push"}], triggers=[triggers[0]]))
    server = {"command": ["python", "server.py"]}
    check_actions(skill_spec(actions=[], mcp=server, triggers=[{"type": "cron", "schedule": "@daily", "action": "x"}]))


CALL = {"name": "git-ai-helper", "action": "smartCommit"}


@pytest.mark.parametrize(
    ("wrong", "reason", "message"),
    [
        ({"schedule": "0 25 * * *", "prompt": "x"}, "InvalidSchedule", "spec.schedules[1].schedule: '0 25 * * *'"),
        ({"timeZone": "Mars/Olympus", "prompt": "x"}, "InvalidTimeZone", "spec.schedules[1].timeZone: 'Mars/Olympus'"),
        ({"skill": CALL | {"name": "other"}}, "SkillNotReady", "spec.schedules[1].skill.name"),
        ({"skill": CALL | {"action": "nope"}}, "UnknownAction", "use one of those it has (smartCommit)"),
    ],
)
def test_a_schedule_that_cannot_run_is_left_out_and_named(wrong: dict[str, Any], reason: str, message: str) -> None:
    spec = {
        "schedules": [{"name": "a", "schedule": "@daily", "skill": CALL}, {"name": "b", "schedule": "@daily"} | wrong]
    }
    given = agent_inputs("ada", spec, skills=True)
    assert [item["name"] for item in schedules.render(given.spec, given.skills)] == ["a"]
    problem = schedules.first_problem(given.spec, given.skills)
    assert problem is not None
    assert problem.reason == reason
    assert message in problem.message


def test_the_input_of_a_schedule_is_what_the_action_takes() -> None:
    given = agent_inputs("ada", {}, skills=True)
    (skill,) = given.skills
    spec = skill.spec.model_copy(update={"actions": skill_spec(actions=[action(STRICT)]).actions})
    skills = [type(skill)(**{**skill.__dict__, "spec": spec})]

    def problem(**call: Any) -> SpecError | None:
        timed = {"name": "a", "schedule": "@daily", "skill": {"name": skill.name, "action": "pull", **call}}
        model = given.spec.model.model_dump(by_alias=True, exclude_none=True)
        return schedules.first_problem(AgentSpec.model_validate({"model": model, "schedules": [timed]}), skills)

    assert problem(input={"path": "."}) is None
    for call, message in (({}, "needs path"), ({"input": {"path": ".", "x": 1}}, "takes no x")):
        found = problem(**call)
        assert found is not None
        assert (found.reason, message in found.message) == ("InvalidInput", True)


async def test_a_bad_schedule_is_a_condition_and_the_others_run() -> None:
    bench = Bench()
    timed = [
        {"name": "good", "schedule": "@daily", "prompt": "x"},
        {"name": "bad", "schedule": "@daily", "prompt": "x", "timeZone": "Mars/Olympus"},
    ]
    spec = {"model": {"provider": "openai-compatible", "name": "m", "baseURL": "http://llm:8000/v1"}}
    await AgentReconciler(bench.context, {}).reconcile(bench.primary("Agent", "ada", spec | {"schedules": timed}))
    status = bench.api.items["Agent", "ada"]["status"]
    found = {item["type"]: item for item in status["conditions"]}["SchedulesValid"]
    assert (found["status"], found["reason"]) == ("False", "InvalidTimeZone")
    assert "spec.schedules[1].timeZone: 'Mars/Olympus'" in found["message"]
    ready = ready_condition(status)
    assert ready is not None
    assert ready["status"] == "False"
    config = json.loads(bench.api.items["ConfigMap", "ada-gateway"]["data"]["config.yaml"])
    assert [item["name"] for item in config["schedules"]] == ["good"]


async def test_an_agent_may_leave_the_triggers_of_a_skill_off() -> None:
    for wanted, expected in (({}, 1), ({"triggers": False}, 0)):
        bench = Bench()
        status = {"digest": "sha256:" + "ab" * 32, "packageConfigMap": "echo-package-ab", "observedGeneration": 1}
        skill = skill_spec(secrets=[]).model_dump(by_alias=True, exclude_none=True, mode="json")
        bench.primary("Skill", "echo", skill, status=status)
        model = {"provider": "openai-compatible", "name": "m", "baseURL": "http://llm:8000/v1"}
        spec = {"model": model, "skills": [{"name": "echo", **wanted}]}
        await AgentReconciler(bench.context, {}).reconcile(bench.primary("Agent", "ada", spec))
        config = json.loads(bench.api.items["ConfigMap", "ada-gateway"]["data"]["config.yaml"])
        assert len(config["skills"]["installed"][0]["triggers"]) == expected

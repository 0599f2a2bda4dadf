"""The schedules of an Agent as its gateway is given them: those that can run. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from openclaw_operator.api.agent import AgentSpec
from openclaw_operator.api.schedule import Schedule, ScheduledCall
from openclaw_operator.errors import SpecError
from openclaw_operator.resources import triggers
from openclaw_operator.resources.inputs import ResolvedSkill
from openclaw_operator.resources.meta import Object


def render(spec: AgentSpec, skills: Sequence[ResolvedSkill]) -> list[Object]:
    """The schedules in the gateway's configuration, without those that cannot run."""
    return [_rendered(item) for index, item in enumerate(spec.schedules) if problem(index, item, skills) is None]


def first_problem(spec: AgentSpec, skills: Sequence[ResolvedSkill]) -> SpecError | None:
    """Why the first of those that cannot run cannot."""
    found = (problem(index, item, skills) for index, item in enumerate(spec.schedules))
    return next((error for error in found if error), None)


def problem(index: int, schedule: Schedule, skills: Sequence[ResolvedSkill]) -> SpecError | None:
    """What keeps a schedule from running: field, value and fix."""
    path = f"spec.schedules[{index}]"
    if wrong := triggers.cron_problem(schedule.schedule):
        return SpecError(
            "InvalidSchedule",
            f"{path}.schedule: {schedule.schedule!r} is no cron schedule ({wrong}): correct it, like '0 9 * * *'",
        )
    if not triggers.is_time_zone(schedule.time_zone):
        return SpecError(
            "InvalidTimeZone",
            f"{path}.timeZone: {schedule.time_zone!r} is no IANA time zone: use one like Europe/Riga or Etc/UTC",
        )
    return _call_problem(f"{path}.skill", schedule.skill, skills) if schedule.skill else None


def _call_problem(path: str, call: ScheduledCall, skills: Sequence[ResolvedSkill]) -> SpecError | None:
    skill = next((skill for skill in skills if skill.name == call.name), None)
    if skill is None:
        return SpecError(
            "SkillNotReady",
            f"{path}.name: the agent has no Skill {call.name!r} now: add it to spec.skills, or mend what the condition "
            "ReferencesResolved says of it",
        )
    if skill.spec.mcp is not None:
        # Which tools the server has, only the gateway finds out.
        return None
    action = next((action for action in skill.spec.actions if action.name == call.action), None)
    if action is None:
        known = ", ".join(action.name for action in skill.spec.actions) or "none"
        return SpecError(
            "UnknownAction",
            f"{path}.action: Skill {call.name!r} has no action {call.action!r}: use one of those it has ({known})",
        )
    if wrong := triggers.input_problem(action.input_schema or {}, set(call.input or {})):
        return SpecError("InvalidInput", f"{path}.input: action {action.name!r} {wrong}: correct the input")
    return None


def _rendered(schedule: Schedule) -> Object:
    what: dict[str, Any] = {"prompt": schedule.prompt}
    if schedule.skill:
        call = schedule.skill
        what = {"skill": {"name": call.name, "action": call.action, "input": call.input or {}}}
    return {
        "name": schedule.name,
        "schedule": schedule.schedule,
        "time_zone": schedule.time_zone,
        **what,
        "suspend": schedule.suspend,
        "starting_deadline_seconds": schedule.starting_deadline_seconds,
        "concurrency_policy": schedule.concurrency_policy,
    }

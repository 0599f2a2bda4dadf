"""What is to run when: the agent's own schedules and the cron triggers of its skills. Pure."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from openclaw_runtime.agent.events import Invocation, TurnRequest
from openclaw_runtime.errors import ConfigError, ConfigProblem
from openclaw_runtime.schedules.sections import Schedule
from openclaw_runtime.skills.types import InstalledSkill

TRIGGER_TIME_ZONE = "Etc/UTC"
_NOTE = (
    "The schedule {name} started this turn. Nobody follows it: ask nothing, do what can be done, and say what you did."
)


@dataclass(frozen=True, slots=True)
class Planned:
    """One schedule. `skill` names the skill whose trigger it is; `deadline` is how late a run may start, in seconds."""

    name: str
    cron: str
    time_zone: str
    prompt: str | None = None
    call: Invocation | None = None
    skill: str | None = None
    suspend: bool = False
    deadline: float | None = None
    forbid: bool = False

    @property
    def definition(self) -> str:
        """What its times depend on: with another definition it begins anew, and nothing is made up."""
        return f"{self.cron} {self.time_zone}{' suspended' if self.suspend else ''}"

    @property
    def session(self) -> str:
        """The conversation its runs are recorded in."""
        return f"schedule/{self.name}"

    def request(self) -> TurnRequest:
        """Returns the turn of one run. What earlier runs said is not part of it, so that runs cost alike."""
        text = self.prompt
        if self.call is not None:
            text = f"{self.call.skill} {self.call.action} {json.dumps(self.call.input, ensure_ascii=False)}"
        note = _NOTE.format(name=self.name)
        return TurnRequest(
            session=self.session, text=text or "", history=(), client_instructions=(note,), call=self.call
        )


def plan(schedules: Sequence[Schedule], skills: Sequence[InstalledSkill]) -> tuple[Planned, ...]:
    """Returns everything that runs at set times. A trigger's name is `<skill>/<action>`, which no schedule can have."""
    found = [
        Planned(
            name=item.name,
            cron=item.schedule,
            time_zone=item.time_zone,
            prompt=item.prompt,
            call=Invocation(item.skill.name, item.skill.action, item.skill.input) if item.skill else None,
            suspend=item.suspend,
            deadline=item.starting_deadline_seconds,
            forbid=item.concurrency_policy == "Forbid",
        )
        for item in schedules
    ]
    for skill in skills:
        seen: dict[str, int] = {}
        for trigger in skill.triggers:
            if trigger.type != "cron" or not trigger.schedule or not trigger.action:
                continue
            number = seen[trigger.action] = seen.get(trigger.action, 0) + 1
            found.append(
                Planned(
                    name=f"{skill.name}/{trigger.action}" + (f"/{number}" if number > 1 else ""),
                    cron=trigger.schedule,
                    time_zone=TRIGGER_TIME_ZONE,
                    call=Invocation(skill.name, trigger.action, {}),
                    skill=skill.name,
                    forbid=True,
                )
            )
    return tuple(found)


def check(schedules: Sequence[Schedule], skills: Sequence[InstalledSkill]) -> None:
    """Raises `ConfigError` for a schedule of a skill or an action that there is not."""
    installed = {skill.name: skill for skill in skills}
    problems = []
    for number, item in enumerate(schedules):
        if item.skill is None:
            continue
        path, skill = f"schedules.{number}.skill", installed.get(item.skill.name)
        if skill is None:
            known = ", ".join(sorted(installed)) or "none"
            problems.append(ConfigProblem(f"{path}.name", f"there is no skill {item.skill.name!r}; installed: {known}"))
        # What tools an MCP server has is found out later.
        elif skill.mcp is None and skill.action(item.skill.action) is None:
            known = ", ".join(action.name for action in skill.actions) or "none"
            problem = f"{skill.name} has no action {item.skill.action!r}; it has: {known}"
            problems.append(ConfigProblem(f"{path}.action", problem))
    if problems:
        raise ConfigError("schedules", problems)

"""Commands: a user's message that a skill's pattern matches starts an action, with no model to choose it. Pure."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from openclaw_runtime.agent.events import Invocation
from openclaw_runtime.skills.patterns import compiled
from openclaw_runtime.skills.types import InstalledSkill

LONGEST_COMMAND: Final = 4_096
"""Characters; longer messages are for the model."""


@dataclass(frozen=True, slots=True)
class Command:
    """A skill whose pattern matched; `call` is None where the model chooses among the skill's actions."""

    skill: str
    call: Invocation | None


class Commands:
    """The command triggers of all skills: skills by name, their triggers as listed; the first that matches counts."""

    def __init__(self, skills: Sequence[InstalledSkill]) -> None:
        self._triggers = [
            (compiled(trigger.pattern), skill, trigger.action)
            for skill in sorted(skills, key=lambda skill: skill.name)
            for trigger in skill.triggers
            if trigger.type == "command" and trigger.pattern
        ]

    def find(self, text: str) -> Command | None:
        """Returns what a message starts, or None. A pattern has to match all of it, without the white space around."""
        text = text.strip()
        if len(text) > LONGEST_COMMAND:
            return None
        for pattern, skill, action in self._triggers:
            if (match := pattern.fullmatch(text)) is not None:
                return _command(skill, action, match.groupdict())
        return None


def _command(skill: InstalledSkill, action: str | None, groups: Mapping[str, str | None]) -> Command:
    if action is None and len(skill.actions) == 1:
        action = skill.actions[0].name
    if action is None:
        return Command(skill.name, None)
    spec = skill.action(action)
    properties = (spec.input_schema.get("properties") if spec else None) or {}
    given = {name: _value(text, properties.get(name)) for name, text in groups.items() if text is not None}
    return Command(skill.name, Invocation(skill.name, action, given))


def _value(text: str, schema: Any) -> Any:
    """Returns a group's text as what the schema asks for; what it cannot be stays text, and the check refuses it."""
    kind = schema.get("type") if isinstance(schema, dict) else None
    try:
        if kind == "integer":
            return int(text)
        if kind == "number":
            number = float(text)
            # JSON has neither nan nor inf.
            return number if math.isfinite(number) else text
    except ValueError:
        return text
    if kind == "boolean":
        return {"true": True, "false": False}.get(text.lower(), text)
    return text

"""What starts actions besides the model: patterns, cron schedules, and the input they give. Gateways read them alike.

A pattern or a cron schedule that the API server takes may still mean nothing; what is wrong is said by field, value and
fix.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache, lru_cache
from typing import Any, Final
from zoneinfo import ZoneInfo

import re2
from cronsim import CronSim, CronSimError

from openclaw_operator.api.skill import Action, SkillSpec, Trigger
from openclaw_operator.errors import SpecError

MACROS: Final = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_ANY_DAY = datetime(2000, 1, 1, tzinfo=UTC)


@lru_cache(maxsize=1024)
def cron_problem(schedule: str) -> str | None:
    """Returns what is wrong with a cron schedule, or None."""
    fields = MACROS.get(schedule, schedule)
    if len(fields.split()) != 5:
        return "it has not five fields"
    try:
        next(CronSim(fields, _ANY_DAY))
    except CronSimError as error:
        return str(error)[:1].lower() + str(error)[1:]
    except StopIteration:
        return "it has no time in fifty years"
    return None


@lru_cache(maxsize=1024)
def is_time_zone(name: str) -> bool:
    """Whether a name is one of the IANA time zone database."""
    try:
        return ZoneInfo(name).key == name
    except (OSError, ValueError, KeyError):
        return False


def pattern_problem(pattern: str) -> str | None:
    """Returns what keeps a pattern from being an RE2 expression, or None."""
    try:
        _expression(pattern)
    except re2.error as error:
        text = error.args[0]
        return text.decode(errors="replace") if isinstance(text, bytes) else str(error)
    return None


def input_problem(schema: Mapping[str, Any], names: set[str]) -> str | None:
    """Returns which input an action needs and does not get, or gets and does not take. Gateways check the values."""
    properties = schema.get("properties") or {}
    missing = sorted(name for name in schema.get("required") or () if name not in names)
    if missing:
        return f"needs {', '.join(missing)}"
    open_ended = schema.get("additionalProperties", True) is not False or schema.get("patternProperties")
    unknown = sorted(name for name in names if name not in properties)
    if unknown and not open_ended:
        return f"takes no {', '.join(unknown)} (it takes {', '.join(sorted(properties)) or 'nothing'})"
    return None


def check(spec: SkillSpec) -> None:
    """Raise SpecError for a trigger that could never start its action."""
    for index, trigger in enumerate(spec.triggers):
        _check_trigger(spec, trigger, f"spec.triggers[{index}]")


def _check_trigger(spec: SkillSpec, trigger: Trigger, path: str) -> None:
    names: set[str] = set()
    if trigger.type == "command" and trigger.pattern is not None:
        if problem := pattern_problem(trigger.pattern):
            raise SpecError(
                "InvalidPattern",
                f"{path}.pattern: {trigger.pattern!r} is no RE2 expression ({problem}): correct it; RE2 has no "
                "lookaround",
            )
        names = set(_expression(trigger.pattern).groupindex)
    elif trigger.schedule is not None and (problem := cron_problem(trigger.schedule)):
        raise SpecError(
            "InvalidSchedule",
            f"{path}.schedule: {trigger.schedule!r} is no cron schedule ({problem}): correct it, like '0 9 * * *'",
        )
    action = _started(spec, trigger)
    if action is None:
        return
    if problem := input_problem(action.input_schema or {}, names):
        fix = (
            "name groups of the pattern after its input, like (?P<name>.+)"
            if trigger.type == "command"
            else "a cron trigger gives no input; make it optional, or use spec.schedules of the Agent, which gives one"
        )
        raise SpecError("InvalidTrigger", f"{path}: action {action.name!r} {problem}: {fix}")


def _started(spec: SkillSpec, trigger: Trigger) -> Action | None:
    """The action a trigger starts, where that is known: the tools of an MCP server are not."""
    if trigger.action is None:
        return spec.actions[0] if len(spec.actions) == 1 else None
    return next((action for action in spec.actions if action.name == trigger.action), None)


@lru_cache(maxsize=1024)
def _expression(pattern: str) -> Any:
    return re2.compile(pattern, _quiet())


@cache
def _quiet() -> Any:
    """A mistake is told to its author, not to the log of this process."""
    options = re2.Options()
    options.log_errors = False
    return options

"""Which action a message starts."""

from typing import Any

import pytest

from openclaw_runtime.agent.commands import LONGEST_COMMAND, Command, Commands
from openclaw_runtime.agent.events import Invocation
from openclaw_runtime.skills.types import ActionSpec, InstalledSkill, Trigger

SCHEMA = {
    "type": "object",
    "properties": {"n": {"type": "integer"}, "x": {"type": "number"}, "now": {"type": "boolean"}, "s": {}},
}


async def no_package() -> bytes:
    return b""


def skill(name: str, *patterns: tuple[str, str | None], actions: tuple[str, ...] = ("act",)) -> InstalledSkill:
    specs = tuple(ActionSpec(action, input_schema=SCHEMA) for action in actions)
    triggers = tuple(Trigger("command", action, pattern) for pattern, action in patterns)
    return InstalledSkill(name, "1", "", "", "python", "", specs, no_package, triggers=triggers)


def found(skills: list[InstalledSkill], text: str) -> Command | None:
    return Commands(skills).find(text)


def test_the_first_trigger_of_the_first_skill_by_name_counts() -> None:
    several = [skill("b", ("go", "act")), skill("a", ("go .*", "act"), ("g.*", "other"), ("go", "third"))]
    assert found(several, "go") == Command("a", Invocation("a", "other", {}))
    assert found(several, "go on") == Command("a", Invocation("a", "act", {}))


def test_a_pattern_matches_the_whole_message() -> None:
    one = [skill("git", ("git.*", None))]
    assert found(one, "  git status\n") == Command("git", Invocation("git", "act", {}))
    for text in ("a digital git", "git\nmore", "GIT status", "g", ""):
        assert found(one, text) is None, text


def test_of_several_actions_a_pattern_without_one_leaves_the_choice_to_the_model() -> None:
    assert found([skill("git", ("git.*", None), actions=("pull", "push"))], "git it") == Command("git", None)


@pytest.mark.parametrize(
    ("text", "given"),
    [
        ("set n=7", {"n": 7}),
        ("set n=7 x=1.5 now=TRUE s=7", {"n": 7, "x": 1.5, "now": True, "s": "7"}),
        ("set n=seven now=maybe", {"n": "seven", "now": "maybe"}),
        ("set n=7 x=nan", {"n": 7, "x": "nan"}),
        ("set n=7 x=1e999", {"n": 7, "x": "1e999"}),
    ],
)
def test_named_groups_are_the_input_as_the_schema_has_it(text: str, given: dict[str, Any]) -> None:
    pattern = r"set n=(?P<n>\w+)( x=(?P<x>\S+))?( now=(?P<now>\w+))?( s=(?P<s>\w+))?"
    assert found([skill("set", (pattern, "act"))], text) == Command("set", Invocation("set", "act", given))


def test_no_message_takes_long() -> None:
    """Python's own expressions would look at 2 to the power of 4095 ways to split these."""
    greedy = [skill("a", ("(a+)+b", "act"))]
    assert found(greedy, "a" * LONGEST_COMMAND) is None
    assert found(greedy, "a" * (LONGEST_COMMAND - 1) + "b") is not None
    assert found(greedy, "a" * LONGEST_COMMAND + "b") is None

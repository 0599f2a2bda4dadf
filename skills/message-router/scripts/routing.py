"""The platform's routing table: targets and rules from the configuration."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from openclaw_skill import SkillError

TYPES = ("slack", "teams", "discord", "webhook")
_CONDITIONS = ("contains", "matches", "from", "tags")


@dataclass(frozen=True)
class Message:
    """What is to be routed."""

    text: str
    sender: str
    tags: frozenset[str]


@dataclass(frozen=True)
class Target:
    """Where messages may go; the description is what a model chooses by."""

    type: str
    description: str


@dataclass(frozen=True)
class Rule:
    """Conditions that all have to hold; an empty one always does."""

    name: str
    to: tuple[str, ...]
    words: re.Pattern[str] | None
    pattern: re.Pattern[str] | None
    senders: frozenset[str]
    tags: frozenset[str]
    stop: bool

    def matches(self, message: Message) -> bool:
        """Returns whether a message is for the targets of this rule."""
        return (
            (self.words is None or self.words.search(message.text) is not None)
            and (self.pattern is None or self.pattern.search(message.text) is not None)
            and (not self.senders or message.sender in self.senders)
            and (not self.tags or not self.tags.isdisjoint(message.tags))
        )


@dataclass(frozen=True)
class Table:
    """All of it."""

    targets: Mapping[str, Target]
    rules: tuple[Rule, ...]
    default: tuple[str, ...]

    def match(self, message: Message) -> list[Rule]:
        """Returns the rules that match, in their order, up to the first that stops the search."""
        found = []
        for rule in self.rules:
            if rule.matches(message):
                found.append(rule)
                if rule.stop:
                    break
        return found

    def target(self, name: str) -> Target:
        """Returns a target. Raises SkillError where there is none of that name."""
        if name not in self.targets:
            known = ", ".join(self.targets)
            raise SkillError(f"to: {name!r} is none of config.targets ({known}); use one of them or add it")
        return self.targets[name]


def table_of(config: Mapping[str, Any]) -> Table:
    """Reads the configuration. Raises SkillError that names the field, its value and the fix."""
    targets = {}
    for name, value in _object(config.get("targets", {}), "targets").items():
        kind = _object(value, f"targets.{name}").get("type", "webhook")
        if kind not in TYPES:
            raise SkillError(f"config.targets.{name}.type: {kind!r} is none of {', '.join(TYPES)}")
        targets[name] = Target(kind, str(value.get("description", "")))
    if not targets:
        raise SkillError("config.targets: it is empty; add the targets that messages may go to")
    rules = config.get("rules", [])
    if not isinstance(rules, list):
        raise SkillError("config.rules: it must be a list of rules")
    default = _names(config.get("default", []), "default", targets)
    return Table(targets, tuple(_rule(rule, at, targets) for at, rule in enumerate(rules)), default)


def _rule(value: Any, at: int, targets: Mapping[str, Target]) -> Rule:
    where = f"rules[{at}]"
    given = _object(value, where)
    if unknown := given.keys() - {"name", "to", "stop", *_CONDITIONS}:
        raise SkillError(f"config.{where}: {min(unknown)!r} is none of name, to, stop, {', '.join(_CONDITIONS)}")
    to = _names(given.get("to"), f"{where}.to", targets)
    if not to:
        raise SkillError(f"config.{where}.to: it is empty; name at least one target")
    words = _texts(given.get("contains", []), f"{where}.contains")
    # As whole words: `pay` is not in `repay`.
    anyone = rf"(?<!\w)(?:{'|'.join(map(re.escape, words))})(?!\w)" if words else None
    matches = given.get("matches")
    return Rule(
        str(given.get("name", f"rule {at + 1}")),
        to,
        re.compile(anyone, re.IGNORECASE) if anyone else None,
        None if matches is None else _pattern(matches, f"{where}.matches"),
        frozenset(_texts(given.get("from", []), f"{where}.from")),
        frozenset(_texts(given.get("tags", []), f"{where}.tags")),
        bool(given.get("stop", False)),
    )


def _pattern(value: Any, where: str) -> re.Pattern[str]:
    try:
        return re.compile(value)
    except (re.error, TypeError) as error:
        raise SkillError(f"config.{where}: {value!r} does not compile: {error}") from None


def _object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise SkillError(f"config.{where}: {value!r} must be an object")
    return value


def _texts(value: Any, where: str) -> tuple[str, ...]:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) and text for text in texts):
        raise SkillError(f"config.{where}: {value!r} must be a text or a list of texts")
    return tuple(texts)


def _names(value: Any, where: str, targets: Mapping[str, Target]) -> tuple[str, ...]:
    names = _texts([] if value is None else value, where)
    for name in names:
        if name not in targets:
            raise SkillError(f"config.{where}: {name!r} is none of config.targets ({', '.join(targets)})")
    return names

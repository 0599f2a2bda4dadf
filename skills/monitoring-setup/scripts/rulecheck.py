"""Structural mistakes in a Prometheus rules file.

https://prometheus.io/docs/prometheus/latest/configuration/recording_rules/ and alerting_rules/. Expressions are
checked for balance only: whether they mean something is for promtool and the server.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

_DURATION = re.compile(r"^(?:0|(?=\d)(?:\d+y)?(?:\d+w)?(?:\d+d)?(?:\d+h)?(?:\d+m)?(?:\d+s)?(?:\d+ms)?)$")
_METRIC = re.compile(r"^[a-zA-Z_:][a-zA-Z0-9_:]*$")
_LABEL = re.compile(r"^[a-zA-Z_][a-zA-Z0-9_]*$")
_GROUP_KEYS = frozenset({"name", "interval", "query_offset", "limit", "labels", "rules"})
_RULE_KEYS = frozenset({"record", "alert", "expr", "for", "keep_firing_for", "labels", "annotations"})
_PAIRS = {")": "(", "]": "[", "}": "{"}


@dataclass(frozen=True)
class Problem:
    """A mistake, where it is (groups[0].rules[1].for), and what to do. `level` is error or warning."""

    where: str
    message: str
    fix: str
    level: str = "error"


def check(document: Any) -> list[dict[str, str]]:
    """Returns the problems of a parsed rules file, in the order of the file."""
    return [asdict(problem) for problem in _document(document)]


def count(document: Any) -> tuple[int, int]:
    """Returns how many groups and rules there are."""
    groups = document.get("groups") if isinstance(document, dict) else None
    groups = [group for group in groups if isinstance(group, dict)] if isinstance(groups, list) else []
    return len(groups), sum(len(group["rules"]) for group in groups if isinstance(group.get("rules"), list))


def _document(document: Any) -> Iterator[Problem]:
    if not isinstance(document, dict) or not isinstance(document.get("groups"), list):
        yield Problem("groups", "there is no list of groups", "Begin the file with `groups:` and a list below it.")
        return
    for key in document.keys() - {"groups"}:
        yield Problem(str(key), "this key is unknown beside groups", "Remove it or correct its spelling.")
    seen: set[str] = set()
    for number, group in enumerate(document["groups"]):
        where = f"groups[{number}]"
        if not isinstance(group, dict):
            yield Problem(where, "a group is a mapping", "Write name and rules below it.")
            continue
        yield from _group(where, group)
        name = group.get("name")
        if isinstance(name, str) and name in seen:
            yield Problem(f"{where}.name", f"the group {name!r} is there twice", "Rename one of them.")
        seen.add(str(name))
    yield from _repeated(document["groups"])


def _group(where: str, group: dict[str, Any]) -> Iterator[Problem]:
    yield from _unknown(where, group, _GROUP_KEYS)
    if not isinstance(group.get("name"), str) or not group["name"]:
        yield Problem(f"{where}.name", "a group needs a name", "Add `name:` with a text.")
    for key in ("interval", "query_offset"):
        if key in group:
            yield from _duration(f"{where}.{key}", group[key])
    rules = group.get("rules")
    if not isinstance(rules, list) or not rules:
        yield Problem(f"{where}.rules", "a group needs rules", "Add a list of rules, or remove the group.")
        return
    for number, rule in enumerate(rules):
        place = f"{where}.rules[{number}]"
        if isinstance(rule, dict):
            yield from _rule(place, rule)
        else:
            yield Problem(place, "a rule is a mapping", "Write alert (or record) and expr below it.")


def _rule(where: str, rule: dict[str, Any]) -> Iterator[Problem]:
    yield from _unknown(where, rule, _RULE_KEYS)
    if ("alert" in rule) == ("record" in rule):
        yield Problem(where, "a rule is either an alert or a record", "Keep exactly one of `alert` and `record`.")
    if "record" in rule:
        if not (isinstance(rule["record"], str) and _METRIC.match(rule["record"])):
            message = f"{rule['record']!r} is no metric name"
            yield Problem(f"{where}.record", message, "Use letters, digits, _ and :, for example job:errors:rate5m.")
        for key in rule.keys() & {"for", "keep_firing_for", "annotations"}:
            yield Problem(f"{where}.{key}", f"a recording rule has no {key}", "Remove it.")
    if "alert" in rule and not (isinstance(rule["alert"], str) and rule["alert"]):
        yield Problem(f"{where}.alert", "an alert needs a name", "Give it a text such as HighErrorRate.")
    for key in ("for", "keep_firing_for"):
        if key in rule:
            yield from _duration(f"{where}.{key}", rule[key])
    yield from _expression(f"{where}.expr", rule.get("expr"))
    for key in ("labels", "annotations"):
        if key in rule:
            yield from _texts(f"{where}.{key}", rule[key])
    labels = rule.get("labels", {})
    if "alert" in rule and isinstance(labels, dict) and "severity" not in labels:
        yield Problem(f"{where}.labels", "no severity is set", "Add `severity: warning` or critical.", "warning")


def _unknown(where: str, value: dict[str, Any], known: frozenset[str]) -> Iterator[Problem]:
    for key in value:
        if key not in known:
            fix = f"Remove it or correct it; known are {', '.join(sorted(known))}."
            yield Problem(f"{where}.{key}", "this key is unknown", fix)


def _duration(where: str, value: Any) -> Iterator[Problem]:
    if not _DURATION.match(str(value)) or value == "":
        yield Problem(where, f"{value!r} is no duration", "Write it as 30s, 5m or 1h30m.")


def _expression(where: str, value: Any) -> Iterator[Problem]:
    if isinstance(value, bool) or not isinstance(value, str | int | float) or not str(value).strip():
        yield Problem(where, "a rule needs an expression", "Add `expr:` with a PromQL expression.")
    elif fault := _unbalanced(str(value)):
        yield Problem(where, fault, "Close what is open, in the right order.")


def _unbalanced(text: str) -> str | None:
    """Returns what is wrong with the brackets and quotes of an expression, or None."""
    waiting: list[str] = []
    quote = ""
    skip = False
    for char in re.sub(r"(?m)^\s*#.*$", "", text):
        if skip:
            skip = False
        elif quote:
            skip = char == "\\" and quote != "`"
            quote = "" if char == quote else quote
        elif char in "\"'`":
            quote = char
        elif char in "([{":
            waiting.append(char)
        elif char in _PAIRS and (not waiting or waiting.pop() != _PAIRS[char]):
            return f"a {char!r} has no matching {_PAIRS[char]!r}"
    if quote:
        return f"a quote {quote} is not closed"
    return f"a {waiting[-1]!r} is not closed" if waiting else None


def _texts(where: str, value: Any) -> Iterator[Problem]:
    if not isinstance(value, dict):
        yield Problem(where, "this is a mapping of names to texts", "Write `name: text` lines below it.")
        return
    for key, text in value.items():
        if not _LABEL.match(str(key)):
            yield Problem(f"{where}.{key}", f"{key!r} is no label name", "Use letters, digits and _.")
        if not isinstance(text, str):
            yield Problem(f"{where}.{key}", f"{text!r} is not a text", f'Quote it: "{text}".')
        elif text.count("{{") != text.count("}}"):
            yield Problem(f"{where}.{key}", "a template bracket is not closed", "Pair every {{ with }}.")


def _repeated(groups: list[Any]) -> Iterator[Problem]:
    seen: dict[tuple[Any, ...], str] = {}
    for number, group in enumerate(groups):
        rules = group.get("rules") if isinstance(group, dict) else None
        for at, rule in enumerate(rules if isinstance(rules, list) else []):
            if not isinstance(rule, dict):
                continue
            where = f"groups[{number}].rules[{at}]"
            key = (rule.get("alert"), rule.get("record"), str(rule.get("expr")), str(rule.get("labels")))
            if key in seen:
                yield Problem(where, f"this rule repeats {seen[key]}", "Remove one of them.", "warning")
            seen.setdefault(key, where)

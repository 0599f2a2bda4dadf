"""Each CEL rule of the CRDs has a test against a real API server that it refuses, and one that it accepts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from openclaw_operator.api.crds import KINDS, structural
from tests.integration.operator import test_bad_input as against_a_server

# Rules about a change have tests of their own, each accepting first: a stored object is needed.
OF_CHANGES = {
    "make a new MemoryStore": (
        against_a_server.test_embedding_of_a_store_stays,
        against_a_server.test_volumes_of_a_store_stay,
        against_a_server.test_a_server_that_is_not_named_has_a_volume_that_stays,
    ),
    "make a new MemoryRestore": (against_a_server.test_a_restore_is_not_changed,),
}


def rules(node: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], dict[str, str]]]:
    """(path of the object, rule) of every rule; list items are `*`."""
    for rule in node.get("x-kubernetes-validations", ()):
        yield path, rule
    for name, child in node.get("properties", {}).items():
        yield from rules(child, (*path, name))
    for inner in (node.get("items"), node.get("additionalProperties")):
        if isinstance(inner, dict):
            yield from rules(inner, (*path, "*"))


def has(value: Any, path: tuple[str, ...]) -> bool:
    """Whether a manifest has an object at `path`; there the rule is asked."""
    if not path:
        return value is not None
    if path[0] == "*":
        inner = value.values() if isinstance(value, dict) else value or ()
        return any(has(each, path[1:]) for each in inner)
    return isinstance(value, dict) and path[0] in value and has(value[path[0]], path[1:])


def changes(changed: str, path: tuple[str, ...]) -> bool:
    """Whether a test that sets a dotted field sets something of the object at `path`, or what it is a part of."""
    return all(part in ("*", other) for part, other in zip(path, changed.split("."), strict=False))


def every_rule() -> list[Any]:
    return [
        pytest.param(entry["kind"], path, rule, id=f"{entry['kind']}-{'.'.join(path)}-{number}")
        for entry in KINDS
        for number, (path, rule) in enumerate(rules(structural(entry["model"])))
    ]


@pytest.mark.parametrize(("kind", "path", "rule"), every_rule())
def test_a_rule_refuses_and_accepts(kind: str, path: tuple[str, ...], rule: dict[str, str]) -> None:
    message = rule["message"]
    if any(part in message for part in OF_CHANGES):
        return
    refusing = [
        name
        for name, (manifest, field, value, expected) in against_a_server.REFUSED.items()
        if yaml.safe_load(manifest)["kind"] == kind and expected in message and changes(field, path)
        # What is refused at one place says nothing of another with the same message.
        if has(yaml.safe_load(against_a_server.changed(manifest, field, value)), path)
    ]
    assert refusing, f"nothing in REFUSED expects {message!r} of {'.'.join(path)}"
    accepting = [
        name
        for name, manifest in against_a_server.ACCEPTED.items()
        if yaml.safe_load(manifest)["kind"] == kind and has(yaml.safe_load(manifest), path)
    ]
    assert accepting, f"nothing in ACCEPTED has {'.'.join(path)}, where {message!r} is asked"

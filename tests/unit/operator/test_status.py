from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from openclaw_operator.patches import merged
from openclaw_operator.reconcile.status import Condition, conditions, patch

THEN, NOW = "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"
STATUS = st.dictionaries(
    st.sampled_from("abc"),
    st.integers() | st.lists(st.integers(), max_size=2) | st.dictionaries(st.sampled_from("xy"), st.integers()),
)


def test_time_moves_only_when_the_status_flips() -> None:
    old = conditions([], [Condition("Ready", False, "Progressing", "wait")], 1, THEN)
    same = conditions(old, [Condition("Ready", False, "SkillNotFound", "other")], 2, NOW)
    assert same[0]["lastTransitionTime"] == THEN
    assert same[0]["observedGeneration"] == 2
    flipped = conditions(same, [Condition("Ready", True, "Ready", "fine")], 2, NOW)
    assert flipped[0]["lastTransitionTime"] == NOW


def test_a_message_that_quotes_without_end_keeps_its_field_and_its_fix() -> None:
    message = conditions([], [Condition("Ready", False, "A", f"spec.a: {'x' * 40000} is wrong: correct it")], 1, NOW)[
        0
    ]["message"]
    assert len(message) <= 2048
    assert message.startswith("spec.a: xxx")
    assert message.endswith("is wrong: correct it")


def test_order_is_that_of_the_new_ones_and_others_go() -> None:
    old = conditions([], [Condition("Gone", True, "A", ""), Condition("Ready", None, "A", "")], 1, THEN)
    new = conditions(old, [Condition("First", True, "A", ""), Condition("Ready", None, "A", "")], 1, NOW)
    assert [item["type"] for item in new] == ["First", "Ready"]
    assert [item["status"] for item in new] == ["True", "Unknown"]


def test_patch_holds_only_what_differs() -> None:
    assert patch({"a": 1, "b": [1]}, {"a": 1, "b": [1]}) == {}
    assert patch({"a": 1, "b": 2}, {"a": 1, "b": 3}) == {"b": 3}
    assert patch({"a": 1}, {"a": None}) == {"a": None}
    assert patch({}, {"a": None}) == {}
    assert patch({"e": {"x": 1, "y": 2}}, {"e": {"x": 1}}) == {"e": {"y": None}}


@given(STATUS, STATUS)
def test_patched_status_is_the_new_one(old: dict[str, Any], new: dict[str, Any]) -> None:
    assert {**old, **new} == merged(old, patch(old, new))
    assert patch(merged(old, patch(old, new)), new) == {}

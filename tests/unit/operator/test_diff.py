from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openclaw_operator.reconcile.diff import contains, quantity

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=12,
)


@pytest.mark.parametrize(
    ("live", "desired", "expected"),
    [
        ({"a": 1, "b": 2}, {"a": 1}, True),
        ({"a": 1}, {"a": 1, "b": 2}, False),
        ({"a": 2}, {"a": 1}, False),
        # What the API server leaves out.
        ({}, {"a": None, "b": [], "c": {}, "d": False, "e": "", "f": 0}, True),
        ({"a": True}, {"a": False}, False),
        ({"a": None}, {"a": {"b": 1}}, False),
        ({}, {"a": {"b": None}}, True),
        # Lists keyed as the API server merges them: injected entries and order do not matter.
        ({"c": [{"name": "x", "v": 1}, {"name": "sidecar"}]}, {"c": [{"name": "x"}]}, True),
        ({"c": [{"name": "b"}, {"name": "a"}]}, {"c": [{"name": "a"}, {"name": "b"}]}, True),
        ({"c": [{"name": "y"}]}, {"c": [{"name": "x"}]}, False),
        ({"m": [{"mountPath": "/a", "name": "n"}]}, {"m": [{"mountPath": "/a", "name": "n"}]}, True),
        # One subject more is another right given away.
        ({"subjects": [{"name": "x"}, {"name": "y"}]}, {"subjects": [{"name": "x"}]}, False),
        ({"subjects": [{"name": "x", "apiGroup": ""}]}, {"subjects": [{"name": "x"}]}, True),
        # One label more selects other pods.
        ({"selector": {"a": "x", "b": "y"}}, {"selector": {"a": "x"}}, False),
        ({"podSelector": {"matchLabels": {"a": "x", "b": "y"}}}, {"podSelector": {"matchLabels": {"a": "x"}}}, False),
        ({"podSelector": {"matchLabels": {"a": "x"}}}, {"podSelector": {}}, False),
        ({"podSelector": {}}, {"podSelector": None}, True),
        # Other lists are as they are.
        ({"l": [1, 2, 3]}, {"l": [1, 2]}, False),
        ({"l": [2, 1]}, {"l": [1, 2]}, False),
        ({"l": [{"port": 1, "protocol": "TCP"}]}, {"l": [{"port": 1}]}, True),
        ({"l": []}, {"l": [{}]}, False),
        ({"l": None}, {"l": ["a"]}, False),
        ({"l": "a"}, {"l": ["a"]}, False),
        # Quantities are equal by value.
        ({"cpu": "1"}, {"cpu": "1000m"}, True),
        ({"cpu": "500m"}, {"cpu": "0.5"}, True),
        ({"memory": "1Gi"}, {"memory": "1024Mi"}, True),
        ({"memory": "1G"}, {"memory": "1Gi"}, False),
        ({"cpu": "1"}, {"cpu": 1}, True),
    ],
)
def test_contains(live: Any, desired: Any, expected: bool) -> None:
    assert contains(live, desired) is expected


@given(JSON)
def test_everything_contains_itself(value: Any) -> None:
    assert contains(value, value)


@given(st.dictionaries(st.text(max_size=3), JSON, max_size=4), st.dictionaries(st.text(max_size=3), JSON, max_size=4))
def test_what_others_add_does_not_matter(desired: dict[str, Any], more: dict[str, Any]) -> None:
    assert contains({**more, **desired}, desired)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", "1"),
        ("+1", "1"),
        ("1.5Gi", "1610612736"),
        ("100m", "0.1"),
        ("1e3", "1000"),
        ("12E", "12000000000000000000"),
        (7, "7"),
    ],
)
def test_quantity(text: object, value: str) -> None:
    assert quantity(text) == Decimal(value)


@pytest.mark.parametrize("text", ["", "x", "1 Gi", "1Zi", True, None, [1]])
def test_no_quantity(text: object) -> None:
    assert quantity(text) is None

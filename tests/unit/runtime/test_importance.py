"""What makes a memory important, and what users teach about it."""

import math
from dataclasses import asdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openclaw_runtime.memory.importance import (
    HALF_LIFE_SECONDS,
    LEAST_WEIGHT,
    OFTEN,
    Signals,
    Use,
    Weights,
    adapted,
    normalized,
    score,
    signals,
    weighed,
)
from openclaw_runtime.memory.types import Found, MemoryRecord

NOW = 1_790_000_000.0
PARTS = st.floats(0, 1)


def record(*, importance: float = 0.5, age: float = 0.0) -> MemoryRecord:
    return MemoryRecord("1", "n", "a", "text", "note", "private", "", importance, {}, NOW - age)


def test_the_weights_are_the_documented_ones() -> None:
    assert asdict(Weights()) == {"access_count": 0.3, "recency": 0.25, "relevance": 0.25, "user_feedback": 0.2}
    assert score(Signals(1, 0, 0, 0), Weights()) == pytest.approx(0.3)
    assert score(Signals(1, 1, 1, 1), Weights()) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("use", "expected"),
    [
        (Use(), Signals(0, 1, 0.4, 0.5)),
        (Use(OFTEN, NOW, OFTEN * 0.9, 0, 0), Signals(1, 1, (0.4 + OFTEN * 0.9) / (OFTEN + 1), 0.5)),
        (Use(9, NOW, 0.0, 3, 1), Signals(math.log(10) / math.log(OFTEN + 1), 1, 0.04, 4 / 6)),
    ],
)
def test_signals_say_how_a_record_was_used(use: Use, expected: Signals) -> None:
    assert asdict(signals(record(importance=0.4), use, NOW)) == pytest.approx(asdict(expected))


def test_a_recall_makes_an_old_record_young_again() -> None:
    old = record(age=2 * HALF_LIFE_SECONDS)
    assert signals(old, Use(), NOW).recency == pytest.approx(0.25)
    assert signals(old, Use(1, NOW - HALF_LIFE_SECONDS), NOW).recency == pytest.approx(0.5)
    assert signals(record(age=-60), Use(), NOW).recency == 1


def test_feedback_moves_the_weights_to_what_was_right_and_back() -> None:
    often_recalled = Signals(1, 0.2, 0.2, 0.2)
    up = adapted(Weights(), often_recalled, useful=True, rate=0.1)
    assert up.access_count == pytest.approx(0.36)
    assert up.recency == pytest.approx(0.23)
    assert asdict(adapted(up, often_recalled, useful=False, rate=0.1)) == pytest.approx(asdict(Weights()))
    assert adapted(Weights(), often_recalled, useful=True, rate=0) == normalized(Weights())


@settings(deadline=None)
@given(st.lists(st.tuples(PARTS, PARTS, PARTS, PARTS, st.booleans()), max_size=30), PARTS)
def test_whatever_users_say_weights_add_up_and_none_vanishes(
    said: list[tuple[float, float, float, float, bool]], rate: float
) -> None:
    weights = Weights()
    for *known, useful in said:
        weights = adapted(weights, Signals(*known), useful=useful, rate=rate)
    assert sum(asdict(weights).values()) == pytest.approx(1)
    assert min(asdict(weights).values()) >= LEAST_WEIGHT / 2


@settings(deadline=None)
@given(PARTS, PARTS)
def test_importance_orders_matches_and_makes_none(similarity: float, importance: float) -> None:
    match = weighed(Found(record(), similarity), importance)
    assert 0.75 * similarity <= match.score <= 1.25 * similarity
    assert weighed(Found(record(), -similarity), importance).score == -similarity

"""How important a record is: four signals, weighed by weights that learn from the agent's users. Pure."""

import math
from dataclasses import asdict, dataclass, fields, replace
from typing import Final

from openclaw_runtime.memory.types import Found, MemoryRecord

OFTEN: Final = 100
"""Recalled so many times, a record has the full signal of access."""
HALF_LIFE_SECONDS: Final = 7 * 86_400.0
LEAST_WEIGHT: Final = 0.05
"""No signal is ever learned away: the next users may go by it."""


@dataclass(frozen=True, slots=True)
class Weights:
    """What each signal counts for; they add up to 1."""

    access_count: float = 0.3
    recency: float = 0.25
    relevance: float = 0.25
    user_feedback: float = 0.2


@dataclass(frozen=True, slots=True)
class Signals:
    """What is known of a record, each from 0 to 1."""

    access_count: float
    recency: float
    relevance: float
    user_feedback: float


@dataclass(frozen=True, slots=True)
class Use:
    """How a record was used. `relevance` is the sum of how well it matched, each 0 to 1; times are Unix seconds."""

    accesses: int = 0
    last_access: float = 0.0
    relevance: float = 0.0
    useful: int = 0
    useless: int = 0


def signals(record: MemoryRecord, use: Use, now: float) -> Signals:
    """Returns the signals of a record at a time.

    Relevance is how well it matched the searches that found it; what its author thought of it counts like one of them.
    Feedback is the share of those who found it useful, and one half while nobody has said.
    """
    age = max(0.0, now - max(record.created_at, use.last_access))
    votes = use.useful + use.useless
    return Signals(
        access_count=min(1.0, math.log1p(use.accesses) / math.log1p(OFTEN)),
        recency=0.5 ** (age / HALF_LIFE_SECONDS),
        relevance=(_within(record.importance) + use.relevance) / (1 + use.accesses),
        user_feedback=(use.useful + 1) / (votes + 2),
    )


def score(known: Signals, weights: Weights) -> float:
    """Returns the importance, 0 to 1."""
    return float(sum(getattr(known, each.name) * getattr(weights, each.name) for each in fields(Weights)))


def normalized(weights: Weights) -> Weights:
    """Returns weights in the same proportions that add up to 1."""
    total = sum(asdict(weights).values())
    return Weights(**{name: value / total for name, value in asdict(weights).items()})


def adapted(weights: Weights, known: Signals, *, useful: bool, rate: float) -> Weights:
    """Returns the weights after one user's word on a record with these signals (before that word).

    Signals that spoke for a useful record gain what the others lose, and the other way round.
    """
    values = {each.name: float(getattr(known, each.name)) for each in fields(Weights)}
    mean = sum(values.values()) / len(values)
    step = rate if useful else -rate
    moved = {
        name: max(LEAST_WEIGHT, getattr(weights, name) + step * (value - mean)) if rate else getattr(weights, name)
        for name, value in values.items()
    }
    return normalized(Weights(**moved))


def weighed(found: Found, importance: float, preference: float = 1.0) -> Found:
    """Returns a match whose score importance has moved by up to a quarter: it orders matches and makes none."""
    factor = (0.75 + 0.5 * importance) * preference
    return replace(found, score=found.score * factor if found.score > 0 else found.score)


def _within(value: float) -> float:
    return min(1.0, max(0.0, value))

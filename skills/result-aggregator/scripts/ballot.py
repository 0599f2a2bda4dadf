"""Counting answers."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any


def count(answers: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Counts `{source, answer, weight}`; a source has one vote, its last. The winner of a tie is nobody."""
    last = {each["source"]: each for each in answers}
    votes: dict[tuple[str, str], dict[str, Any]] = {}
    for source, each in last.items():
        vote = votes.setdefault(_same(each["answer"]), {"answer": each["answer"], "weight": Fraction(), "sources": []})
        # As it was written: in binary 0.1 and 0.2 are more than 0.3.
        vote["weight"] += Fraction(str(each.get("weight", 1)))
        vote["sources"].append(source)
    ranked = sorted(votes.values(), key=lambda vote: -vote["weight"])
    total = sum(vote["weight"] for vote in ranked)
    tie = len(ranked) > 1 and ranked[0]["weight"] == ranked[1]["weight"]
    return {
        "winner": None if tie else ranked[0]["answer"],
        "tie": tie,
        "share": round(float(ranked[0]["weight"] / total), 4),
        "votes": [{**vote, "weight": float(vote["weight"])} for vote in ranked],
    }


def _same(answer: Any) -> tuple[str, str]:
    """What answers are compared by: true is not "true", nor 1."""
    if isinstance(answer, bool):
        return "boolean", str(answer)
    if isinstance(answer, int | float):
        return "number", str(int(answer) if answer == int(answer) else answer)
    return "text", " ".join(str(answer).casefold().split()).removesuffix(".")

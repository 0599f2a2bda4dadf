"""A search by words looks at the records that share one, and never at more than it has time for."""

import math
from collections.abc import Callable

import pytest
from pydantic import ValidationError

from openclaw_runtime.memory.lexical import MOST_ENTRIES, Words
from openclaw_runtime.memory.sections import Tiers
from openclaw_runtime.memory.types import MemoryRecord


def record(number: int, text: str) -> MemoryRecord:
    return MemoryRecord(str(number), "n", "a", text, "note", "private", "", 0.5, {}, float(number))


def filled(*texts: str) -> Words:
    words = Words()
    for number, text in enumerate(texts):
        words.add(record(number, text), text)
    return words


def counting(seen: list[str]) -> Callable[[MemoryRecord], bool]:
    def match(candidate: MemoryRecord) -> bool:
        seen.append(candidate.id)
        return True

    return match


def found(words: Words, query: str, limit: int = 10) -> list[tuple[str, float]]:
    return [(item.record.id, round(item.score, 6)) for item in words.search(query, limit, lambda _: True)]


def test_only_records_that_share_a_word_are_looked_at() -> None:
    words, seen = filled("a needle here", *["much hay there"] * 500), list[str]()
    assert [item.record.id for item in words.search("Needle in a cellar", 5, counting(seen))] == ["0"]
    assert seen == ["0"]


def test_scores_are_bm25_and_what_does_not_match_makes_room() -> None:
    words = filled("red red blue", "red", "green")

    def part(holding: int, count: int, length: int) -> float:
        weight = math.log(1 + (3 - holding + 0.5) / (holding + 0.5))
        return weight * count * 2.5 / (count + 1.5 * (0.25 + 0.75 * length / (5 / 3)))

    assert found(words, "blue RED") == [
        ("0", round(part(2, 2, 3) + part(1, 1, 3), 6)),
        ("1", round(part(2, 1, 1), 6)),
    ]
    assert [item.record.id for item in words.search("red", 1, lambda each: each.id != "1")] == ["0"]


def test_a_record_that_is_removed_leaves_nothing() -> None:
    words = filled("red", "green", "blue blue red")
    words.remove("2")
    assert found(words, "red blue") == found(filled("red", "green"), "red blue")
    words.remove("0")
    words.remove("1")
    assert (found(words, "red blue green"), words._holders, words._total) == ([], {}, 0)


def test_words_that_every_record_has_take_no_longer_than_the_rare_ones() -> None:
    words = filled("the needle", *["the hay"] * (2 * MOST_ENTRIES))
    ranked = found(words, "the needle", limit=10 * MOST_ENTRIES)
    assert ranked[0][0] == "0"
    assert len(ranked) == MOST_ENTRIES
    assert ranked[1][0] == str(2 * MOST_ENTRIES)


def test_hot_has_a_limit_of_its_own() -> None:
    with pytest.raises(ValidationError, match="10000"):
        Tiers.model_validate({"hot": {"records": 10_001, "max_age": 60}, "warm": {"records": 20_000, "max_age": 60}})

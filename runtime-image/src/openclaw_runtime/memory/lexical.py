"""Search by words, for memory without vectors: Okapi BM25 over records already at hand."""

import math
import re
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Final

from openclaw_runtime.memory.types import Found, MemoryRecord

_WORD = re.compile(r"\w+")
_K1 = 1.5
_B = 0.75
_LONGEST_QUERY = 64
MOST_ENTRIES: Final = 4_000
"""Of the words of a query the rarest count, until so many records were looked at for them: nothing waits for longer."""


class Words:
    """Which words are in which records: an inverted index, so that a search looks at those alone that share one.

    Scores are BM25 with k1 1.5 and b 0.75 (Robertson and Zaragoza, The Probabilistic Relevance Framework, 2009).
    """

    def __init__(self) -> None:
        self._records: dict[str, tuple[MemoryRecord, Counter[str]]] = {}
        self._lengths: dict[str, int] = {}
        self._total = 0
        self._holders: dict[str, dict[str, int]] = {}
        """How often a word is in each record that holds it."""

    def add(self, record: MemoryRecord, text: str) -> None:
        """Adds a record under the words of a text. It must not be there yet."""
        # One copy of each word, however many records have it.
        words = Counter(map(sys.intern, _WORD.findall(text.lower())))
        self._records[record.id] = (record, words)
        self._lengths[record.id] = words.total()
        self._total += words.total()
        for word, count in words.items():
            self._holders.setdefault(word, {})[record.id] = count

    def remove(self, record_id: str) -> None:
        """Removes a record that is there."""
        _, words = self._records.pop(record_id)
        self._total -= self._lengths.pop(record_id)
        for word in words:
            holders = self._holders[word]
            del holders[record_id]
            if not holders:
                del self._holders[word]

    def search(self, query: str, limit: int, match: Callable[[MemoryRecord], bool]) -> list[Found]:
        """Returns the matching records that share words with `query`, best first. Of a long one its first words count.

        How rare a word is goes by all records, whatever matches.
        """
        known = dict.fromkeys(word for word in _WORD.findall(query.lower()) if word in self._holders)
        records, scores, left = len(self._records), dict[str, float](), MOST_ENTRIES
        shortest = _K1 * (1 - _B)
        by_length = _K1 * _B * records / self._total if self._total else 0.0
        for word in sorted(list(known)[:_LONGEST_QUERY], key=lambda word: len(self._holders[word])):
            holders = self._holders[word]
            weight = (_K1 + 1) * math.log(1 + (records - len(holders) + 0.5) / (len(holders) + 0.5))
            # Those that were added last, where not all can be looked at.
            for record, count in islice(reversed(holders.items()), left):
                part = weight * count / (count + shortest + by_length * self._lengths[record])
                scores[record] = scores.get(record, 0.0) + part
            left = max(0, left - len(holders))
        ranked = sorted(scores, key=lambda record: (-scores[record], -self._records[record][0].created_at))
        found: list[Found] = []
        for record in ranked:
            if len(found) == limit:
                break
            if match(self._records[record][0]):
                found.append(Found(self._records[record][0], scores[record]))
        return found


def rank(query: str, records: Sequence[MemoryRecord], limit: int) -> list[Found]:
    """Returns the records that share words with `query`, best first. See `Words`. `records` are the newest first."""
    words = Words()
    for record in reversed(records):
        words.add(record, record.text)
    return words.search(query, limit, lambda _: True)

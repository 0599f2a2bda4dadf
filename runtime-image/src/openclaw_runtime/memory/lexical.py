"""Search by words, for memory without vectors: Okapi BM25 over records already at hand."""

import math
import re
from collections import Counter
from collections.abc import Sequence

from openclaw_runtime.memory.types import Found, MemoryRecord

_WORD = re.compile(r"\w+")
_K1 = 1.5
_B = 0.75
_LONGEST_QUERY = 64


def rank(query: str, records: Sequence[MemoryRecord], limit: int) -> list[Found]:
    """Returns the records that share words with `query`, best first.

    Scores are BM25 with k1 1.5 and b 0.75 (Robertson and Zaragoza, The Probabilistic Relevance Framework, 2009).
    """
    return rank_words(query, [(record, words(record.text)) for record in records], limit)


def words(text: str) -> Counter[str]:
    """Returns how often each word is in a text."""
    return Counter(_WORD.findall(text.lower()))


def rank_words(query: str, counted: Sequence[tuple[MemoryRecord, Counter[str]]], limit: int) -> list[Found]:
    """See `rank`: over records whose words are counted already. Of a long query the first words count."""
    records, documents = [record for record, _ in counted], [document for _, document in counted]
    lengths = [document.total() for document in documents]
    mean = sum(lengths) / len(lengths) if lengths else 0.0
    scores = [0.0] * len(records)
    for word in list(dict.fromkeys(_WORD.findall(query.lower())))[:_LONGEST_QUERY]:
        holding = sum(1 for document in documents if word in document)
        if not holding:
            continue
        weight = math.log(1 + (len(records) - holding + 0.5) / (holding + 0.5))
        for index, document in enumerate(documents):
            count = document[word]
            scores[index] += weight * count * (_K1 + 1) / (count + _K1 * (1 - _B + _B * lengths[index] / mean))
    found = [Found(record, score) for record, score in zip(records, scores, strict=True) if score > 0]
    return sorted(found, key=lambda item: (-item.score, -item.record.created_at))[:limit]

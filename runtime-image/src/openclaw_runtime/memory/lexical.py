"""Search by words, for memory without vectors: Okapi BM25 over records already at hand."""

import math
import re
from collections import Counter
from collections.abc import Sequence

from openclaw_runtime.memory.types import Found, MemoryRecord

_WORD = re.compile(r"\w+")
_K1 = 1.5
_B = 0.75


def rank(query: str, records: Sequence[MemoryRecord], limit: int) -> list[Found]:
    """Returns the records that share words with `query`, best first.

    Scores are BM25 with k1 1.5 and b 0.75 (Robertson and Zaragoza, The Probabilistic Relevance Framework, 2009).
    """
    documents = [Counter(_WORD.findall(record.text.lower())) for record in records]
    lengths = [sum(words.values()) for words in documents]
    mean = sum(lengths) / len(lengths) if lengths else 0.0
    scores = [0.0] * len(records)
    for word in set(_WORD.findall(query.lower())):
        holding = sum(1 for words in documents if word in words)
        if not holding:
            continue
        weight = math.log(1 + (len(records) - holding + 0.5) / (holding + 0.5))
        for index, words in enumerate(documents):
            count = words[word]
            scores[index] += weight * count * (_K1 + 1) / (count + _K1 * (1 - _B + _B * lengths[index] / mean))
    found = [Found(record, score) for record, score in zip(records, scores, strict=True) if score > 0]
    return sorted(found, key=lambda item: (-item.score, -item.record.created_at))[:limit]

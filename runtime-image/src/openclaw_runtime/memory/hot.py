"""The hot tier: records in the memory of a gateway, found by their words."""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from openclaw_runtime.memory.lexical import Words
from openclaw_runtime.memory.sections import Tier
from openclaw_runtime.memory.types import Found, MemoryRecord, View

PRELOADED: Final = 100
_LONGEST_TEXT: Final = 4_000


class Hot:
    """The records that were written or recalled last: a copy, so losing it loses nothing. `now` is Unix time."""

    def __init__(self, limits: Tier, *, now: Callable[[], float]) -> None:
        self._limits = limits
        self._now = now
        self._touched: OrderedDict[str, float] = OrderedDict()
        self._words = Words()

    def __len__(self) -> int:
        self._evict()
        return len(self._touched)

    def use(self, limits: Tier) -> None:
        """Goes by other limits from now on."""
        self._limits = limits
        self._evict()

    def touch(self, records: Iterable[MemoryRecord]) -> None:
        """Keeps records that were just written or recalled; the last one is the hottest."""
        for record in records:
            if self._touched.pop(record.id, None) is None:
                self._words.add(record, record.text[:_LONGEST_TEXT])
            self._touched[record.id] = self._now()
        self._evict()

    def forget(self, ids: Iterable[str]) -> None:
        """Drops records that are no longer remembered."""
        for record in ids:
            if self._touched.pop(record, None) is not None:
                self._words.remove(record)

    def ids(self) -> list[str]:
        """Returns the ids of what is kept."""
        self._evict()
        return list(self._touched)

    def search(self, query: str, view: View, limit: int) -> list[Found]:
        """Returns the records in `view` that share words with `query`, best first, with scores up to 1."""
        self._evict()
        found = self._words.search(query, limit, lambda record: _in(record, view))
        return [Found(item.record, item.score / found[0].score) for item in found]

    def _evict(self) -> None:
        oldest = self._now() - self._limits.max_age
        while self._touched:
            record, touched = next(iter(self._touched.items()))
            if len(self._touched) <= self._limits.records and touched >= oldest:
                return
            self.forget([record])


def fused(near: Sequence[Found], worded: Sequence[Found], share: float = 0.1) -> list[Found]:
    """Returns matches by meaning and by words as one list, best first.

    Words add up to `share`. What only they found is taken for as near as the last of the others.
    """
    least = min((item.score for item in near), default=0.0)
    scores = {item.record.id: item.score for item in near}
    records = {item.record.id: item.record for item in [*worded, *near]}
    for item in worded:
        scores[item.record.id] = scores.get(item.record.id, least) + share * item.score
    found = [Found(records[record], score) for record, score in scores.items()]
    return sorted(found, key=lambda item: (-item.score, -item.record.created_at))


def _in(record: MemoryRecord, view: View) -> bool:
    mine = record.agent == view.agent or (view.team and record.scope == "team")
    return record.namespace == view.namespace and mine and view.only.match(record)

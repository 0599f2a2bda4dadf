"""In which order an agent's matches are recalled, and what is learned of how they are used."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from openclaw_runtime.errors import MemoryStoreError
from openclaw_runtime.memory.importance import Use, Weights, normalized, score, signals, weighed
from openclaw_runtime.memory.sections import Importance
from openclaw_runtime.memory.types import Found, View, is_summary
from openclaw_runtime.memory.uses import Judged, UseStore

logger = logging.getLogger(__name__)

BATCH_SECONDS: Final = 10.0
_LONGEST_BATCH: Final = 10_000
_SUMMARY_PREFERENCE: Final = 1.15
"""A summary that matches nearly as well as one of its sources says more."""


class Ranking:
    """Orders matches by their importance and counts what was recalled. `now` is Unix time.

    Uses are written a while later, many at once: no recall waits for a write.
    """

    def __init__(
        self,
        store: UseStore,
        settings: Importance,
        *,
        now: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        self._store = store
        self._now = now
        self._sleep = sleep
        self._unsaved: dict[str, Use] = {}
        self._saving: asyncio.Task[None] | None = None
        self.use(settings)

    def use(self, settings: Importance) -> None:
        """Goes by other settings from now on."""
        self._rate = settings.rate
        self.given = normalized(
            Weights(settings.access_count, settings.recency, settings.relevance, settings.user_feedback)
        )

    async def start(self) -> None:
        """Opens the store. Raises `MemoryStoreError`."""
        await self._store.start()

    async def weights(self) -> Weights:
        """Returns the weights as users have taught them until now. Raises `MemoryStoreError`."""
        return (await self._store.known([], self.given))[1]

    async def order(self, found: Sequence[Found]) -> list[Found]:
        """Returns matches best first. Without their store they are in the order of how well they match."""
        try:
            uses, weights = await self._store.known([item.record.id for item in found], self.given)
        except MemoryStoreError as error:
            logger.warning("memories are recalled without their importance: %s", error)
            return list(found)
        now = self._now()
        judged = [
            weighed(
                item,
                score(signals(item.record, uses.get(item.record.id, Use()), now), weights),
                _SUMMARY_PREFERENCE if is_summary(item.record) else 1.0,
            )
            for item in found
        ]
        return sorted(judged, key=lambda item: -item.score)

    def recalled(self, matches: Sequence[tuple[str, float]]) -> None:
        """Counts records that were recalled, each with how well it matched, 0 to 1."""
        now = self._now()
        for record, relevance in matches:
            self._add(record, Use(1, now, min(1.0, max(0.0, relevance))))
        if self._unsaved and (self._saving is None or self._saving.done()):
            self._saving = asyncio.create_task(self._save_later(), name="save-memory-uses")

    async def judge(self, view: View, record_id: str, *, useful: bool) -> Judged | None:
        """See `UseStore.judge`."""
        return await self._store.judge(
            view, record_id, useful=useful, now=self._now(), given=self.given, rate=self._rate
        )

    async def close(self) -> None:
        """Writes the rest."""
        if self._saving is not None:
            self._saving.cancel()
            await asyncio.gather(self._saving, return_exceptions=True)
        await self.save()

    async def save(self) -> None:
        """Writes what is not written yet; what the store cannot take is written with the next batch."""
        uses, self._unsaved = self._unsaved, {}
        written = False
        try:
            if uses:
                await self._store.add(uses)
            written = True
        except MemoryStoreError as error:
            logger.warning("how memories were used is written later: %s", error)
        finally:
            if not written:
                for record, use in uses.items():
                    self._add(record, use)

    async def _save_later(self) -> None:
        await self._sleep(BATCH_SECONDS)
        await self.save()

    def _add(self, record: str, use: Use) -> None:
        known = self._unsaved.get(record, Use())
        if record in self._unsaved or len(self._unsaved) < _LONGEST_BATCH:
            self._unsaved[record] = Use(
                known.accesses + use.accesses,
                max(known.last_access, use.last_access),
                known.relevance + use.relevance,
                known.useful + use.useful,
                known.useless + use.useless,
            )

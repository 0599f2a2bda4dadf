"""Keeps the tiers of an agent's memory, and lets go of old attachments, in the background."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from openclaw_runtime.errors import MemoryStoreError
from openclaw_runtime.memory.attachments import AttachmentStore
from openclaw_runtime.memory.hot import PRELOADED, Hot
from openclaw_runtime.memory.importance import Weights
from openclaw_runtime.memory.sections import Tier, Tiers
from openclaw_runtime.memory.tiers import GRACE_SECONDS, TierStore
from openclaw_runtime.memory.types import VectorIndex

logger = logging.getLogger(__name__)

LOOK_SECONDS: Final = 300.0


class TierObserver(Protocol):
    """Who is told of the tiers."""

    def tier_holds(self, tier: str, records: int) -> None:
        """Notes how many records a tier holds."""

    def forgot(self, records: int) -> None:
        """Counts records that were forgotten."""


class Upkeep:
    """Looks every five minutes what has to move. `settings` are None where nothing is ever forgotten.

    `summarized` says whether the agent makes summaries: nothing is forgotten for its age before it is in one.
    `now` is Unix time, `weights` are those of importance that the agent's users have taught it.
    """

    def __init__(
        self,
        store: TierStore,
        hot: Hot,
        *,
        index: VectorIndex | None,
        attachments: AttachmentStore,
        settings: Callable[[], Tiers | None],
        summarized: Callable[[], bool],
        weights: Callable[[], Awaitable[Weights]],
        now: Callable[[], float],
        observer: TierObserver,
    ) -> None:
        self._store = store
        self._hot = hot
        self._index = index
        self._attachments = attachments
        self._settings = settings
        self._summarized = summarized
        self._weights = weights
        self._now = now
        self._observer = observer
        self._preloaded = False
        self._task: asyncio.Task[None] | None = None

    def start(self, ready: Callable[[], Awaitable[None]]) -> None:
        """Begins once the stores are `ready`."""
        self._task = asyncio.create_task(self._forever(ready), name="memory-tiers")

    async def close(self) -> None:
        """Ends; what is under way is in one tier or the other."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def tick(self) -> None:
        """Brings every tier to its limits, attachments to their age. Raises `MemoryStoreError`."""
        await self._attachments.prune()
        if not self._preloaded:
            self._hot.touch(await self._store.last_used(PRELOADED))
            self._preloaded = True
        tiers = self._settings()
        if tiers is not None:
            while self._index is not None and await self._store.cool(tiers.warm, self._now()):
                pass
            await self._forget(tiers)
        # What another replica forgot, or a restore took away: here it would be found, and recalled, time and again.
        self._hot.forget(await self._store.gone(self._hot.ids()))
        self._observer.tier_holds("hot", len(self._hot))
        for tier, records in (await self._store.counts()).items():
            self._observer.tier_holds(tier, records)

    async def _forget(self, tiers: Tiers) -> None:
        now, weights = self._now(), await self._weights()
        ages = now - await self._store.looked(now) >= GRACE_SECONDS
        while ids := await self._due(tiers.cold, weights, ages=ages):
            # The vectors first: a record without one is found again, a vector without its record would stay for ever.
            if self._index is not None:
                await self._index.delete(ids)
            await self._store.drop(ids)
            self._hot.forget(ids)
            self._observer.forgot(len(ids))

    async def _due(self, cold: Tier, weights: Weights, *, ages: bool) -> list[str]:
        vectors, now = self._index is not None, self._now()
        if ages and (ids := await self._store.expired(cold, now, vectors=vectors, summarized=self._summarized())):
            return ids
        return await self._store.surplus(cold, weights, now, vectors=vectors)

    async def _forever(self, ready: Callable[[], Awaitable[None]]) -> None:
        await ready()
        while True:
            try:
                await self.tick()
            except MemoryStoreError as error:
                logger.warning("the tiers of memory wait for their stores: %s", error)
            except Exception:
                logger.exception("keeping the tiers of memory failed")
            await asyncio.sleep(LOOK_SECONDS)

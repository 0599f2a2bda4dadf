"""What an agent's models cost today, counted by all its replicas together."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Protocol

from openclaw_runtime.errors import MemoryStoreError
from openclaw_runtime.memory.types import Spent

logger = logging.getLogger(__name__)

MICRO = 1_000_000


class SpendingStore(Protocol):
    """Where the sums are kept. Raises `MemoryStoreError`."""

    async def spend(self, namespace: str, agent: str, entries: Sequence[Spent]) -> None:
        """Adds to what was spent, all entries or none."""

    async def spending(self, namespace: str, agent: str, day: str) -> list[Spent]:
        """Returns what was spent on a day, by model."""
        ...


class Spending:
    """One agent's spending. What the store cannot take yet is kept here, counts, and is written with the next request.

    `now` is Unix time; a day begins at midnight UTC.
    """

    def __init__(self, store: SpendingStore, *, namespace: str, agent: str, now: Callable[[], float]) -> None:
        self._store = store
        self._namespace = namespace
        self._agent = agent
        self._now = now
        self._unsaved: dict[tuple[str, str, str], Spent] = {}
        self._writing = asyncio.Lock()
        self._saving: asyncio.Task[None] | None = None
        self._last: dict[tuple[str, str, str], Spent] = {}

    def today(self) -> str:
        """Returns the day it is, like 2026-11-27."""
        return datetime.fromtimestamp(self._now(), UTC).date().isoformat()

    def record(self, provider: str, model: str, *, input_tokens: int, output_tokens: int, usd: float) -> None:
        """Counts one request. It is written soon, without anybody waiting for it."""
        self._add(Spent(self.today(), provider, model, 1, input_tokens, output_tokens, round(usd * MICRO)))
        if self._saving is None or self._saving.done():
            self._saving = asyncio.create_task(self.save(), name="save-spending")

    async def by_model(self) -> list[Spent]:
        """Returns today's sums by model. While the store is away: what was last read of it and what came since."""
        day = self.today()
        try:
            # What is just being written is neither unsaved nor there yet.
            async with self._writing:
                found = await self._store.spending(self._namespace, self._agent, day)
        except MemoryStoreError as error:
            logger.warning("spending is counted by this replica alone: %s", error)
        else:
            self._last = {_key(entry): entry for entry in found}
        sums = {key: entry for key, entry in self._last.items() if entry.day == day}
        for key, entry in self._unsaved.items():
            if entry.day == day:
                sums[key] = _sum(sums[key], entry) if key in sums else entry
        return [sums[key] for key in sorted(sums)]

    async def usd(self) -> float:
        """Returns what all replicas spent today, in US dollars."""
        return sum(entry.micro_usd for entry in await self.by_model()) / MICRO

    async def save(self) -> None:
        """Writes what is not written yet."""
        async with self._writing:
            while self._unsaved:
                entries, self._unsaved = self._unsaved, {}
                try:
                    await self._store.spend(self._namespace, self._agent, list(entries.values()))
                except MemoryStoreError as error:
                    logger.warning("spending is written later: %s", error)
                    for entry in entries.values():
                        self._add(entry)
                    return
                # Should the store go away before it is read again, this was spent all the same.
                for key, entry in entries.items():
                    self._last[key] = _sum(self._last[key], entry) if key in self._last else entry

    async def close(self) -> None:
        """Writes the rest."""
        if self._saving is not None:
            await asyncio.gather(self._saving, return_exceptions=True)
        await self.save()

    def _add(self, entry: Spent) -> None:
        key = _key(entry)
        self._unsaved[key] = _sum(self._unsaved[key], entry) if key in self._unsaved else entry


def _key(entry: Spent) -> tuple[str, str, str]:
    return (entry.day, entry.provider, entry.model)


def _sum(one: Spent, other: Spent) -> Spent:
    return replace(
        one,
        requests=one.requests + other.requests,
        input_tokens=one.input_tokens + other.input_tokens,
        output_tokens=one.output_tokens + other.output_tokens,
        micro_usd=one.micro_usd + other.micro_usd,
    )

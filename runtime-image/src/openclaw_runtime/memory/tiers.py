"""Moves records from tier to tier, and forgets those that the last one has no room for.

What leaves a tier is in the next one in the same transaction. Every step may be taken by several replicas at once: each
record is moved, and dropped, by one of them.

What is older than the last tier allows waits for its summary, and for a day in which the agent was awake: an agent that
slept, or was restored from an old backup, finds everything old at once.
"""

import logging
from dataclasses import fields
from typing import Any, Final

from sqlalchemy import Table, and_, case, delete, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from openclaw_runtime.memory import tables
from openclaw_runtime.memory.files import IMPORTANT
from openclaw_runtime.memory.importance import Use, Weights, score, signals
from openclaw_runtime.memory.records import RecordStore
from openclaw_runtime.memory.sections import Tier
from openclaw_runtime.memory.summaries import is_summarized
from openclaw_runtime.memory.types import MemoryRecord
from openclaw_runtime.memory.uses import uses_table

logger = logging.getLogger(__name__)

GRACE_SECONDS: Final = 86_400.0
"""For so long after the first look, or the first after so long without one, nothing is forgotten for its age."""
BATCH: Final = 500
_OLDEST: Final = 10
"""Of so many times what has to go, the oldest, the least important goes."""


class TierStore:
    """The tiers of one agent's records. Methods raise `MemoryStoreError`. `now` is Unix time."""

    def __init__(self, records: RecordStore, *, namespace: str, agent: str) -> None:
        self._records = records
        self._namespace = namespace
        self._agent = agent

    async def looked(self, now: float) -> float:
        """Notes that the tiers are looked at, and returns since when they are, at least once in `GRACE_SECONDS`."""
        async with self._records.transaction() as connection:
            made = tables.upsert(connection, tables.looks).values(
                namespace=self._namespace, agent=self._agent, since=now, last_at=now
            )
            slept = tables.looks.c.last_at < now - GRACE_SECONDS
            noted = made.on_conflict_do_update(
                index_elements=list(tables.looks.primary_key),
                set_={"since": case((slept, now), else_=tables.looks.c.since), "last_at": now},
            )
            return float((await connection.execute(noted.returning(tables.looks.c.since))).scalar_one())

    async def last_used(self, limit: int) -> list[MemoryRecord]:
        """Returns the records that were recalled last, or made last where few were recalled; the latest at the end."""
        table = tables.records
        used = func.coalesce(uses_table.c.last_access, 0.0)
        latest = case((used > table.c.created_at, used), else_=table.c.created_at)
        query = select(table).outerjoin(uses_table, uses_table.c.record == table.c.id).where(self._mine(table))
        async with self._records.transaction() as connection:
            rows = await connection.execute(query.order_by(latest.desc(), table.c.id).limit(limit))
            return [tables.record_of(row) for row in rows.mappings()][::-1]

    async def counts(self) -> dict[str, int]:
        """Returns how many records are warm, and how many cold."""
        async with self._records.transaction() as connection:
            return {
                "warm": await self._count(connection, tables.records),
                "cold": await self._count(connection, tables.cold),
            }

    async def cool(self, warm: Tier, now: float) -> int:
        """Moves a batch of records that warm has no room for, and that have their vectors, to cold.

        Returns how many were moved: 0 when all is in order.
        """
        table = tables.records.c
        async with self._records.transaction() as connection:
            surplus = await self._count(connection, tables.records) - warm.records
            oldest = select(table.id).where(self._mine(tables.records)).order_by(table.created_at, table.id)
            old = table.created_at < now - warm.max_age
            due = [old if surplus <= 0 else or_(old, table.id.in_(oldest.limit(surplus)))]
            some = select(table.id).where(self._mine(tables.records), table.indexed.is_(True), *due)
            ids = (await connection.execute(some.order_by(table.created_at).limit(BATCH))).scalars().all()
            if not ids:
                return 0
            taken = delete(tables.records).where(table.id.in_(ids)).returning(*tables.records.c)
            rows = [tables.cold_row(tables.record_of(row)) for row in (await connection.execute(taken)).mappings()]
            if rows:
                # After a restore of older records one may be there already.
                await connection.execute(tables.upsert(connection, tables.cold).on_conflict_do_nothing(), rows)
            return len(rows)

    async def expired(self, cold: Tier, now: float, *, vectors: bool, summarized: bool) -> list[str]:
        """Returns a batch of records to forget: made and recalled too long ago for cold, and not important.

        With `summarized` only those that are in a summary. Without `vectors` there is no cold tier, and warm records
        are held to its limits.
        """
        table = _last(vectors)
        columns, oldest = table.c, now - cold.max_age
        old = [columns.created_at < oldest, func.coalesce(uses_table.c.last_access, 0.0) < oldest]
        if summarized:
            old.append(is_summarized(table))
        query = select(columns.id).select_from(table.outerjoin(uses_table, uses_table.c.record == columns.id))
        due = query.where(self._mine(table), columns.importance < IMPORTANT, *old)
        async with self._records.transaction() as connection:
            return list((await connection.execute(due.limit(BATCH))).scalars())

    async def surplus(self, cold: Tier, weights: Weights, now: float, *, vectors: bool) -> list[str]:
        """Returns a batch of records that cold has no room for: of the oldest the least important.

        Without `vectors` these are warm ones.
        """
        table = _last(vectors)
        columns, mine = table.c, self._mine(table)
        async with self._records.transaction() as connection:
            over = min(await self._count(connection, table) - cold.records, BATCH)
            if over <= 0:
                return []
            uses = [uses_table.c[each.name] for each in fields(Use)]
            query = select(columns.id, columns.importance, columns.created_at, *uses)
            query = query.select_from(table.outerjoin(uses_table, uses_table.c.record == columns.id)).where(mine)
            rows = (await connection.execute(query.order_by(columns.created_at).limit(_OLDEST * over))).all()
        return [row.id for row in sorted(rows, key=lambda row: _importance(row, weights, now))[:over]]

    async def drop(self, ids: list[str]) -> None:
        """Forgets records and how they were used. Their vectors are to be gone before."""
        async with self._records.transaction() as connection:
            for table, column in (
                (tables.records, tables.records.c.id),
                (tables.cold, tables.cold.c.id),
                (uses_table, uses_table.c.record),
            ):
                await connection.execute(delete(table).where(column.in_(ids)))

    async def gone(self, ids: list[str]) -> list[str]:
        """Returns those of some ids that are no records, of whichever agent, in any tier."""
        kept: set[str] = set()
        async with self._records.transaction() as connection:
            for first in range(0, len(ids), BATCH):
                kept.update(await self._records.existing(connection, ids[first : first + BATCH]))
        return [each for each in ids if each not in kept]

    async def _count(self, connection: AsyncConnection, table: Table) -> int:
        return (await connection.execute(select(func.count()).select_from(table).where(self._mine(table)))).scalar_one()

    def _mine(self, table: Table) -> Any:
        return and_(table.c.namespace == self._namespace, table.c.agent == self._agent)


def _last(vectors: bool) -> Table:
    return tables.cold if vectors else tables.records


def _importance(row: Any, weights: Weights, now: float) -> float:
    use = Use() if row.accesses is None else Use(*(getattr(row, each.name) for each in fields(Use)))
    return score(signals(row, use, now), weights)

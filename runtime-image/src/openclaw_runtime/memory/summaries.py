"""How far an agent's records are summarised: a table of the records' database, which replicas share.

Records of one kind and scope are related. Of each such group the oldest ones that no summary names are summarised next,
by the replica that takes the group: one conditional update, held for a while.
"""

from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Table, and_, exists, or_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from openclaw_runtime.memory.records import RecordStore
from openclaw_runtime.memory.tables import summary_states, upsert
from openclaw_runtime.memory.types import SUMMARY, MemoryRecord, Related

HELD_SECONDS: Final = 600.0
"""A replica that has not finished a summary for so long is gone."""
FIRST_PAUSE_SECONDS: Final = 300.0
LONGEST_PAUSE_SECONDS: Final = 6 * 3_600.0
SETTLING_SECONDS: Final = 30.0
"""Younger records wait: another replica may be writing one that is older than they are."""


@dataclass(frozen=True, slots=True)
class Taken:
    """Records that this replica summarises, oldest first."""

    related: Related
    records: tuple[MemoryRecord, ...]


def pause_after(failures: int) -> float:
    """Returns the seconds until a group is tried again after so many failures in a row."""
    return float(min(FIRST_PAUSE_SECONDS * 2.0 ** min(failures - 1, 30), LONGEST_PAUSE_SECONDS))


def is_summarized(table: Table) -> Any:
    """Returns the condition that a row of `table` is in a summary, or is one."""
    state, row = summary_states.c, table.c
    same = [getattr(state, name) == getattr(row, name) for name in ("namespace", "agent", "kind", "scope")]
    until = and_(row.created_at == state.last_at, row.id <= state.last_id)
    return or_(row.kind == SUMMARY, exists().where(*same, or_(row.created_at < state.last_at, until)))


class SummaryStore:
    """The summaries of one agent's records. Methods raise `MemoryStoreError`. `now` is Unix time."""

    def __init__(self, records: RecordStore, *, namespace: str, agent: str, replica: str) -> None:
        self._records = records
        self._namespace = namespace
        self._agent = agent
        self._replica = replica

    async def take(self, every: int, now: float) -> Taken | None:
        """Takes the oldest `every` records of a group that has so many, if there is one and no replica has it."""
        until = now - SETTLING_SECONDS
        async with self._records.transaction() as connection:
            for related in await self._records.groups(connection, self._namespace, self._agent, every, until):
                await self._insert_new(connection, related)
                free = and_(self._is(related), summary_states.c.not_before <= now)
                held = {"holder": self._replica, "not_before": now + HELD_SECONDS}
                taken = (
                    update(summary_states)
                    .where(free)
                    .values(**held)
                    .returning(summary_states.c.last_at, summary_states.c.last_id)
                )
                row = (await connection.execute(taken)).first()
                if row is None:
                    continue
                last = (row.last_at, row.last_id)
                found = await self._records.after(
                    connection, self._namespace, self._agent, related, last, until=until, limit=every
                )
                if len(found) == every:
                    return Taken(related, tuple(found))
                # Another replica summarised them in between.
                await connection.execute(
                    update(summary_states).where(self._is(related)).values(holder="", not_before=0.0)
                )
        return None

    async def settle(self, taken: Taken, summary: MemoryRecord) -> bool:
        """Keeps a summary. Returns False, and keeps nothing, if another replica took the records over meanwhile."""
        newest = taken.records[-1]
        done = {"last_at": newest.created_at, "last_id": newest.id, "holder": "", "not_before": 0.0, "failures": 0}
        async with self._records.transaction() as connection:
            held = update(summary_states).where(self._held(taken)).values(**done)
            if (await connection.execute(held)).rowcount != 1:
                return False
            await self._records.insert(connection, summary, indexed=False)
        return True

    async def fail(self, taken: Taken, now: float) -> None:
        """Has records that could not be summarised tried again later, later each time."""
        async with self._records.transaction() as connection:
            counted = update(summary_states).where(self._held(taken)).values(failures=summary_states.c.failures + 1)
            failures = (await connection.execute(counted.returning(summary_states.c.failures))).scalar()
            if failures is not None:
                free = {"holder": "", "not_before": now + pause_after(failures)}
                await connection.execute(update(summary_states).where(self._held(taken)).values(**free))

    async def _insert_new(self, connection: AsyncConnection, related: Related) -> None:
        key = {"namespace": self._namespace, "agent": self._agent, "kind": related.kind, "scope": related.scope}
        fresh = {"last_at": 0.0, "last_id": "", "holder": "", "not_before": 0.0, "failures": 0}
        await connection.execute(upsert(connection, summary_states).values(**key, **fresh).on_conflict_do_nothing())

    def _is(self, related: Related) -> Any:
        mine = and_(summary_states.c.namespace == self._namespace, summary_states.c.agent == self._agent)
        return and_(mine, summary_states.c.kind == related.kind, summary_states.c.scope == related.scope)

    def _held(self, taken: Taken) -> Any:
        return and_(self._is(taken.related), summary_states.c.holder == self._replica)

"""Which slots of a schedule are settled, and how its runs ended: kept in the records' database, which replicas share.

Settling a slot is one conditional update, so of all replicas one wins, and a slot is never run twice. A run that its
gateway did not finish is told as interrupted and not repeated: half of it may have been done.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from sqlalchemy import Column, Float, MetaData, String, Table, Text, and_, delete, false, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from openclaw_runtime.memory.records import RecordStore
from openclaw_runtime.memory.tables import upsert

Outcome = Literal["running", "succeeded", "failed", "skipped", "missed", "interrupted"]

KEPT_RUNS: Final = 20
LEASE_SECONDS: Final = 30.0
"""A run without a sign of life for so long has ended with its gateway."""
_LONGEST_MESSAGE: Final = 2_000

_metadata = MetaData()


def _key() -> tuple[Column[Any], ...]:
    return (
        Column("namespace", String(64), primary_key=True),
        Column("agent", String(64), primary_key=True),
        Column("name", String(200), primary_key=True),
    )


_states = Table(
    "schedule_states",
    _metadata,
    *_key(),
    Column("definition", String(256), nullable=False),
    Column("settled", Float, nullable=False),
)
_runs = Table(
    "schedule_runs",
    _metadata,
    *_key(),
    Column("slot", Float, primary_key=True),
    Column("outcome", String(16), nullable=False),
    Column("replica", String(256), nullable=False),
    Column("started_at", Float, nullable=False),
    Column("alive_at", Float, nullable=False),
    Column("finished_at", Float, nullable=True),
    Column("message", Text, nullable=False),
)


@dataclass(frozen=True, slots=True)
class Run:
    """A run of a slot. Times are Unix seconds; `message` is how the answer begins, or what went wrong."""

    slot: float
    outcome: Outcome
    started_at: float
    finished_at: float | None
    message: str


@dataclass(frozen=True, slots=True)
class State:
    """How far a schedule got: every slot up to `settled` has been run, made up or given up."""

    definition: str
    settled: float


class ScheduleStore:
    """The schedules of one agent. Methods raise `MemoryStoreError`."""

    def __init__(self, records: RecordStore, *, namespace: str, agent: str, replica: str) -> None:
        self._records = records
        self._namespace = namespace
        self._agent = agent
        self._replica = replica

    async def start(self) -> None:
        """Creates the tables that are missing."""
        await self._records.create(_metadata)

    async def adopt(self, definitions: Mapping[str, str], now: float) -> None:
        """Makes the schedules those given. A new one, or one with another definition, begins now."""
        async with self._records.transaction() as connection:
            known = await self._states(connection)
            gone = [name for name in known if name not in definitions]
            if gone:
                await connection.execute(delete(_states).where(self._mine(_states), _states.c.name.in_(gone)))
                await connection.execute(delete(_runs).where(self._mine(_runs), _runs.c.name.in_(gone)))
            for name, definition in definitions.items():
                values = {"definition": definition, "settled": now}
                if name not in known:
                    await self._insert_new(connection, {**self._row(name), **values})
                elif known[name].definition != definition:
                    # Another replica may have done so since, and settled a slot: that must not be undone.
                    other = and_(self._is(_states, name), _states.c.definition != definition)
                    await connection.execute(update(_states).where(other).values(**values))

    async def states(self) -> dict[str, State]:
        """Returns how far each schedule got."""
        async with self._records.transaction() as connection:
            return await self._states(connection)

    async def settle(
        self, name: str, definition: str, slot: float, now: float, outcome: Outcome, *, forbid: bool
    ) -> Outcome | None:
        """Takes a slot. Returns what becomes of it, or None if it is another replica's or the schedule has changed.

        With `forbid` it is skipped while a run before it still runs.
        """
        async with self._records.transaction() as connection:
            table = _states.c
            free = and_(self._is(_states, name), table.definition == definition, table.settled < slot)
            # The row stays locked until the end: who wants a later slot meanwhile sees this run.
            if (await connection.execute(update(_states).where(free).values(settled=slot))).rowcount != 1:
                return None
            message = ""
            if outcome == "running" and forbid:
                runs = _runs.c
                alive = and_(self._is(_runs, name), runs.outcome == "running", runs.alive_at > now - LEASE_SECONDS)
                if (await connection.execute(select(runs.slot).where(alive).limit(1))).first() is not None:
                    outcome, message = "skipped", "the run before it was still running"
            done = None if outcome == "running" else now
            facts = {"slot": slot, "outcome": outcome, "replica": self._replica, "message": message}
            times = {"started_at": now, "alive_at": now, "finished_at": done}
            await connection.execute(insert(_runs).values(**self._row(name), **facts, **times))
            await self._forget_old(connection, name)
            return outcome

    async def finish(self, name: str, slot: float, outcome: Outcome, message: str, now: float) -> None:
        """Notes how a run ended."""
        where = and_(self._is(_runs, name), _runs.c.slot == slot)
        values = {"outcome": outcome, "message": message[:_LONGEST_MESSAGE], "finished_at": now}
        async with self._records.transaction() as connection:
            await connection.execute(update(_runs).where(where).values(**values))

    async def keep_alive(self, running: Collection[tuple[str, float]], now: float) -> None:
        """Says that these runs, by name and slot, still run."""
        these = or_(false(), *(and_(_runs.c.name == name, _runs.c.slot == slot) for name, slot in running))
        where = and_(self._mine(_runs), these, _runs.c.outcome == "running")
        async with self._records.transaction() as connection:
            await connection.execute(update(_runs).where(where).values(alive_at=now))

    async def interrupt(self, now: float) -> list[str]:
        """Ends the runs whose gateway is gone. Returns their schedules' names, one for each run."""
        where = and_(self._mine(_runs), _runs.c.outcome == "running", _runs.c.alive_at <= now - LEASE_SECONDS)
        values = {"outcome": "interrupted", "message": "its gateway ended before it did", "finished_at": now}
        async with self._records.transaction() as connection:
            found = await connection.execute(update(_runs).where(where).values(**values).returning(_runs.c.name))
            return [row.name for row in found]

    async def runs(self) -> dict[str, list[Run]]:
        """Returns the kept runs of each schedule, newest first."""
        table = _runs.c
        columns = (table.name, table.slot, table.outcome, table.started_at, table.finished_at, table.message)
        query = select(*columns).where(self._mine(_runs)).order_by(table.slot.desc())
        found: dict[str, list[Run]] = {}
        async with self._records.transaction() as connection:
            for name, *facts in (await connection.execute(query)).all():
                found.setdefault(name, []).append(Run(*facts))
        return found

    async def _forget_old(self, connection: AsyncConnection, name: str) -> None:
        newest = select(_runs.c.slot).where(self._is(_runs, name)).order_by(_runs.c.slot.desc())
        oldest_kept = (await connection.execute(newest.offset(KEPT_RUNS - 1).limit(1))).scalar()
        if oldest_kept is not None:
            old = and_(self._is(_runs, name), _runs.c.slot < oldest_kept, _runs.c.outcome != "running")
            await connection.execute(delete(_runs).where(old))

    async def _states(self, connection: AsyncConnection) -> dict[str, State]:
        table = _states.c
        query = select(table.name, table.definition, table.settled).where(self._mine(_states))
        return {name: State(definition, settled) for name, definition, settled in (await connection.execute(query))}

    async def _insert_new(self, connection: AsyncConnection, values: Mapping[str, Any]) -> None:
        """Another replica may do the same at the same time."""
        await connection.execute(upsert(connection, _states).values(**values).on_conflict_do_nothing())

    def _row(self, name: str) -> dict[str, str]:
        return {"namespace": self._namespace, "agent": self._agent, "name": name}

    def _mine(self, table: Table) -> Any:
        return and_(table.c.namespace == self._namespace, table.c.agent == self._agent)

    def _is(self, table: Table, name: str) -> Any:
        return and_(self._mine(table), table.c.name == name)

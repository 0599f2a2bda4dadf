"""How records are used, and which weights an agent's users have taught it: tables of the records' database."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from sqlalchemy import BigInteger, Column, Float, MetaData, String, Table, and_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from openclaw_runtime.memory.importance import Use, Weights, adapted, score, signals
from openclaw_runtime.memory.records import RecordStore
from openclaw_runtime.memory.tables import upsert
from openclaw_runtime.memory.types import MemoryRecord, View

_metadata = MetaData()

# Beside the records, not in their table: a store of an older version has it with the first start, and a recall never
# writes where records are read.
uses_table = Table(
    "memory_uses",
    _metadata,
    Column("record", String(36), primary_key=True),
    Column("accesses", BigInteger, nullable=False),
    Column("last_access", Float, nullable=False),
    Column("relevance", Float, nullable=False),
    Column("useful", BigInteger, nullable=False),
    Column("useless", BigInteger, nullable=False),
)

_weights = Table(
    "memory_weights",
    _metadata,
    Column("namespace", String(64), primary_key=True),
    Column("agent", String(64), primary_key=True),
    Column("given", String(128), nullable=False),
    *(Column(name, Float, nullable=False) for name in Weights.__dataclass_fields__),
)

_SUMS = ("accesses", "relevance", "useful", "useless")


@dataclass(frozen=True, slots=True)
class Judged:
    """A record that a user has spoken on, with what that made of it. `importance` is 0 to 1."""

    record: MemoryRecord
    use: Use
    importance: float
    weights: Weights


class UseStore:
    """The uses of records and the weights of one agent. Methods raise `MemoryStoreError`.

    Weights are learned from those that were `given`; where other ones are given, learning begins anew.
    """

    def __init__(self, records: RecordStore, *, namespace: str, agent: str) -> None:
        self._records = records
        self._namespace = namespace
        self._agent = agent

    async def start(self) -> None:
        """Creates the tables that are missing."""
        await self._records.create(_metadata)

    async def known(self, ids: Sequence[str], given: Weights) -> tuple[dict[str, Use], Weights]:
        """Returns the uses of some records, those that have any, and the weights as they are now."""
        async with self._records.transaction() as connection:
            return await _uses(connection, ids), await self._learned(connection, given)

    async def add(self, uses: Mapping[str, Use]) -> None:
        """Adds to how records were used, all or none. What is no longer remembered is left out."""
        async with self._records.transaction() as connection:
            kept = await self._records.existing(connection, list(uses))
            # In one order everywhere, so that replicas do not wait for each other in a circle.
            for record in sorted(kept):
                await _add(connection, record, uses[record])

    async def judge(
        self, view: View, record_id: str, *, useful: bool, now: float, given: Weights, rate: float
    ) -> Judged | None:
        """Notes what a user thinks of a record and learns from it. Returns None if `view` has no such record."""
        async with self._records.transaction() as connection:
            record = await self._records.find(connection, view, record_id)
            if record is None:
                return None
            # The row stays locked until the end: two users at once teach one after the other.
            weights = await self._learned(connection, given, lock=True)
            use = (await _uses(connection, [record_id])).get(record_id, Use())
            learned = adapted(weights, signals(record, use, now), useful=useful, rate=rate)
            await connection.execute(update(_weights).where(self._mine()).values(**asdict(learned)))
            added = Use(useful=int(useful), useless=int(not useful), last_access=use.last_access)
            await _add(connection, record_id, added)
        total = replace(use, useful=use.useful + added.useful, useless=use.useless + added.useless)
        return Judged(record, total, score(signals(record, total, now), learned), learned)

    async def _learned(self, connection: AsyncConnection, given: Weights, *, lock: bool = False) -> Weights:
        columns = [_weights.c[name] for name in Weights.__dataclass_fields__]
        origin = ",".join(f"{value:.6g}" for value in asdict(given).values())
        if lock:
            key = {"namespace": self._namespace, "agent": self._agent}
            fresh = {"given": origin, **asdict(given)}
            made = upsert(connection, _weights).values(**key, **fresh)
            changed = made.on_conflict_do_update(
                index_elements=list(_weights.primary_key), set_=fresh, where=_weights.c.given != origin
            )
            await connection.execute(changed)
        query = select(*columns).where(self._mine(), _weights.c.given == origin)
        row = (await connection.execute(query.with_for_update() if lock else query)).first()
        return Weights(*row) if row is not None else given

    def _mine(self) -> Any:
        return and_(_weights.c.namespace == self._namespace, _weights.c.agent == self._agent)


async def _uses(connection: AsyncConnection, ids: Sequence[str]) -> dict[str, Use]:
    table = uses_table.c
    columns = [table[name] for name in Use.__dataclass_fields__]
    rows = await connection.execute(select(table.record, *columns).where(table.record.in_(ids)))
    return {record: Use(*values) for record, *values in rows}


async def _add(connection: AsyncConnection, record: str, use: Use) -> None:
    made = upsert(connection, uses_table)
    added = made.on_conflict_do_update(
        index_elements=[uses_table.c.record],
        set_={
            **{name: uses_table.c[name] + made.excluded[name] for name in _SUMS},
            "last_access": made.excluded.last_access,
        },
    )
    await connection.execute(added.values(record=record, **asdict(use)))

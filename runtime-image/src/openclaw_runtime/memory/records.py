"""The SQL side of memory: records and sessions, on PostgreSQL or SQLite."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

from pydantic import SecretStr
from sqlalchemy import (
    Connection,
    MetaData,
    Table,
    and_,
    func,
    insert,
    literal,
    make_url,
    or_,
    select,
    text,
    true,
    union,
    union_all,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from openclaw_runtime.errors import MemoryStoreError
from openclaw_runtime.memory import tables
from openclaw_runtime.memory.types import (
    SUMMARY,
    Filters,
    MemoryRecord,
    Related,
    Scope,
    SessionMessage,
    Spent,
    View,
)

_SUMS = ("requests", "input_tokens", "output_tokens", "micro_usd")
_SCHEMA_LOCK = 7_456_001
_METADATA_WINDOW = 1_000


class RecordStore:
    """Records and sessions in one database. Methods raise `MemoryStoreError`."""

    def __init__(self, url: str, *, password: SecretStr | None = None) -> None:
        address = make_url(url)
        if password is not None:
            address = address.set(password=password.get_secret_value())
        self._sqlite = address.get_backend_name() == "sqlite"
        if self._sqlite and address.database not in (None, "", ":memory:"):
            Path(str(address.database)).parent.mkdir(parents=True, exist_ok=True)
        options: dict[str, Any] = {} if self._sqlite else {"pool_size": 5, "max_overflow": 5, "pool_pre_ping": True}
        self._engine: AsyncEngine = create_async_engine(address, **options)

    async def start(self) -> None:
        """Creates the tables that are missing. Safe to run from many replicas at once."""
        await self.create(tables.metadata)

    async def create(self, wanted: MetaData) -> None:
        """Creates those of some tables that are missing, and indexes that tables of an older version lack."""
        async with self.transaction() as connection:
            if self._sqlite:
                await connection.execute(text("PRAGMA journal_mode=WAL"))
            else:
                await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _SCHEMA_LOCK})
            await connection.run_sync(_create, wanted)

    async def close(self) -> None:
        """Closes all connections."""
        await self._engine.dispose()

    async def ping(self) -> None:
        """Returns when the database answers."""
        async with self.transaction() as connection:
            await connection.execute(text("SELECT 1"))

    async def add(self, record: MemoryRecord, *, indexed: bool) -> None:
        """Stores a record."""
        async with self.transaction() as connection:
            await self.insert(connection, record, indexed=indexed)

    async def insert(self, connection: AsyncConnection, record: MemoryRecord, *, indexed: bool) -> None:
        """Stores a record in a transaction of the caller's."""
        values = {name: getattr(record, name) for name in tables.RECORD_FIELDS}
        await connection.execute(
            insert(tables.records).values(**values | {"metadata": dict(record.metadata), "indexed": indexed})
        )

    async def mark_indexed(self, record_id: str) -> None:
        """Notes that the vector index holds this record."""
        async with self.transaction() as connection:
            await connection.execute(
                update(tables.records).where(tables.records.c.id == record_id).values(indexed=True)
            )

    async def unindexed(self, namespace: str, agent: str, limit: int) -> list[MemoryRecord]:
        """Returns records that the vector index does not hold yet, oldest first."""
        wanted = and_(
            tables.records.c.namespace == namespace,
            tables.records.c.agent == agent,
            tables.records.c.indexed.is_(False),
        )
        return await self._select(
            select(tables.records).where(wanted).order_by(tables.records.c.created_at).limit(limit)
        )

    async def recent(self, view: View, limit: int) -> list[MemoryRecord]:
        """Returns the newest records in `view`, newest first.

        Metadata is not SQL's to filter, since cold rows are compressed: of the newest that the rest leaves.
        """
        found: dict[str, MemoryRecord] = {}
        read_limit = max(limit, _METADATA_WINDOW) if view.only.metadata else limit
        async with self.transaction() as connection:
            for table, read in _BOTH:
                # Where warm is enough, only what is younger than all of it counts: little or nothing of what is cold.
                enough = len(found) >= read_limit
                oldest = min(record.created_at for record in found.values()) if enough and found else 0.0
                for part in _parts(view, table):
                    wanted = [table.c.namespace == view.namespace, part, *_only(view.only, table)]
                    wanted += [table.c.created_at > oldest] if enough else []
                    query = select(table).where(*wanted).order_by(table.c.created_at.desc(), table.c.id)
                    rows = (await connection.execute(query.limit(read_limit))).mappings()
                    found = {row["id"]: read(row) for row in rows} | found
        kept = [record for record in found.values() if view.only.match(record)]
        return sorted(kept, key=lambda record: (-record.created_at, record.id))[:limit]

    async def find(self, connection: AsyncConnection, view: View, record_id: str) -> MemoryRecord | None:
        """Returns one record, if `view` has it."""
        for table, read in _BOTH:
            rows = await connection.execute(select(table).where(*_in(view, table), table.c.id == record_id))
            for row in rows.mappings():
                return read(row)
        return None

    async def existing(self, connection: AsyncConnection, ids: Sequence[str]) -> list[str]:
        """Returns those of some ids that are records."""
        both = union(*(select(table.c.id).where(table.c.id.in_(ids)) for table, _ in _BOTH))
        return list((await connection.execute(both)).scalars())

    async def groups(
        self, connection: AsyncConnection, namespace: str, agent: str, least: int, until: float
    ) -> list[Related]:
        """Returns the groups with at least so many records up to `until` that no summary has passed yet.

        In `summary_states`, `last_at` and `last_id` say how far each group got. A record that is warm and cold, as
        after a restore, counts twice. What is read does not grow with what is remembered: a few entries of an index
        for each group.
        """
        states = tables.summary_states
        kinds = union(*(_kinds(table, namespace, agent) for table, _ in _BOTH)).subquery()
        scopes = union_all(*(select(literal(scope).label("scope")) for scope in get_args(Scope))).subquery()
        state, kind, scope = states.c, kinds.c.kind, scopes.c.scope
        known = and_(state.namespace == namespace, state.agent == agent, state.kind == kind, state.scope == scope)
        last = (func.coalesce(state.last_at, 0.0), func.coalesce(state.last_id, ""))
        counts = []
        for table, _ in _BOTH:
            these = _group(table, namespace, agent, (kind, scope), last, until)
            some = select(table.c.id).where(*these).limit(least).correlate(kinds, scopes, states).subquery()
            counts.append(select(func.count()).select_from(some).scalar_subquery())
        query = select(kind, scope).select_from(kinds.join(scopes, true()).outerjoin(states, known))
        full = query.where(kind != SUMMARY, sum(counts[1:], counts[0]) >= least)
        return [Related(*row) for row in await connection.execute(full.order_by(kind, scope))]

    async def after(
        self,
        connection: AsyncConnection,
        namespace: str,
        agent: str,
        related: Related,
        last: tuple[float, str],
        *,
        until: float,
        limit: int,
    ) -> list[MemoryRecord]:
        """Returns the oldest records of a group after `last`, a time and an id, and up to `until`."""
        found: dict[str, MemoryRecord] = {}
        for table, read in _BOTH:
            these = _group(table, namespace, agent, (related.kind, related.scope), last, until)
            query = select(table).where(*these).order_by(table.c.created_at, table.c.id).limit(limit)
            found = {row["id"]: read(row) for row in (await connection.execute(query)).mappings()} | found
        return sorted(found.values(), key=lambda record: (record.created_at, record.id))[:limit]

    async def append(self, namespace: str, agent: str, session: str, messages: Sequence[SessionMessage]) -> None:
        """Adds messages to the end of a session."""
        rows = [
            {
                "namespace": namespace,
                "agent": agent,
                "session": session,
                "role": message.role,
                "content": message.content,
                "metadata": dict(message.metadata),
                "created_at": message.created_at,
            }
            for message in messages
        ]
        async with self.transaction() as connection:
            await connection.execute(insert(tables.messages), rows)

    async def session(self, namespace: str, agent: str, session: str, limit: int) -> list[SessionMessage]:
        """Returns the last messages of a session, oldest first."""
        table = tables.messages.c
        wanted = and_(table.namespace == namespace, table.agent == agent, table.session == session)
        query = select(table.role, table.content, table.created_at, table.metadata).where(wanted)
        async with self.transaction() as connection:
            rows = (await connection.execute(query.order_by(table.id.desc()).limit(limit))).all()
        return [SessionMessage(*row) for row in reversed(rows)]

    async def spend(self, namespace: str, agent: str, entries: Sequence[Spent]) -> None:
        """Adds to what was spent, all entries or none."""
        async with self.transaction() as connection:
            made = tables.upsert(connection, tables.spending)
            added = made.on_conflict_do_update(
                index_elements=list(tables.spending.primary_key),
                set_={name: tables.spending.c[name] + made.excluded[name] for name in _SUMS},
            )
            # In one order everywhere, so that replicas do not wait for each other in a circle.
            for entry in sorted(entries, key=lambda each: (each.day, each.provider, each.model)):
                await connection.execute(added.values(namespace=namespace, agent=agent, **asdict(entry)))

    async def spending(self, namespace: str, agent: str, day: str) -> list[Spent]:
        """Returns what was spent on a day, by model."""
        table = tables.spending.c
        wanted = and_(table.namespace == namespace, table.agent == agent, table.day == day)
        columns = (table.day, table.provider, table.model, *(table[name] for name in _SUMS))
        async with self.transaction() as connection:
            rows = (
                await connection.execute(select(*columns).where(wanted).order_by(table.provider, table.model))
            ).all()
        return [Spent(*row) for row in rows]

    async def _select(self, query: Any) -> list[MemoryRecord]:
        async with self.transaction() as connection:
            rows = (await connection.execute(query)).mappings().all()
        return [tables.record_of(row) for row in rows]

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        """Yields a connection in a transaction, for who keeps other tables in this database."""
        try:
            async with self._engine.begin() as connection:
                yield connection
        except Exception as error:
            # Not only SQLAlchemy's: what a driver raises while it connects (a server that starts up, a wrong
            # password) comes through as it is.
            lines = str(getattr(error, "orig", None) or error).splitlines()
            raise MemoryStoreError(
                f"the records store failed: {lines[0] if lines else type(error).__name__}"
            ) from error


_BOTH = ((tables.records, tables.record_of), (tables.cold, tables.record_of_cold))
"""Where records are, warm ones first, and what reads a row of it."""


def _create(connection: Connection, wanted: MetaData) -> None:
    wanted.create_all(connection)
    for table in wanted.sorted_tables:
        for index in table.indexes:
            index.create(connection, checkfirst=True)


def _kinds(table: Table, namespace: str, agent: str) -> Any:
    """Each kind of an agent's records once, each by one look into the index instead of all of its records."""
    mine = and_(table.c.namespace == namespace, table.c.agent == agent)
    first = select(func.min(table.c.kind).label("kind")).where(mine)
    found = first.cte(f"{table.name}_kinds", recursive=True)
    after = select(func.min(table.c.kind)).where(mine, table.c.kind > found.c.kind).scalar_subquery()
    found = found.union_all(select(after).where(found.c.kind.is_not(None)))
    return select(found.c.kind).where(found.c.kind.is_not(None))


def _group(
    table: Table, namespace: str, agent: str, related: tuple[Any, Any], last: tuple[Any, Any], until: float
) -> list[Any]:
    """The records of a kind and a scope that are younger than `last`, or as old and with a greater id."""
    columns, (kind, scope), (last_at, last_id) = table.c, related, last
    mine = [columns.namespace == namespace, columns.agent == agent, columns.kind == kind, columns.scope == scope]
    # The first of these alone begins where the index is to be read from.
    new = [columns.created_at >= last_at, or_(columns.created_at > last_at, columns.id > last_id)]
    return [*mine, *new, columns.created_at <= until]


def _in(view: View, table: Table) -> list[Any]:
    return [table.c.namespace == view.namespace, or_(*_parts(view, table))]


def _parts(view: View, table: Table) -> list[Any]:
    """What a view adds up. Each alone is read by an index in the order of time, both under one OR are all sorted."""
    mine = table.c.agent == view.agent
    return [mine, table.c.scope == "team"] if view.team else [mine]


def _only(only: Filters, table: Table) -> list[Any]:
    wanted = [table.c.importance >= only.importance] if only.importance else []
    if only.kinds:
        wanted.append(table.c.kind.in_(only.kinds))
    if only.since is not None:
        wanted.append(table.c.created_at >= only.since)
    if only.until is not None:
        wanted.append(table.c.created_at <= only.until)
    return wanted

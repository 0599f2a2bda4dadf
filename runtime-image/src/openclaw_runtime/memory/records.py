"""The SQL side of memory: records and sessions, on PostgreSQL or SQLite."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    and_,
    func,
    insert,
    make_url,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from openclaw_runtime.errors import MemoryStoreError
from openclaw_runtime.memory.types import SUMMARY, MemoryRecord, Related, SessionMessage, Spent, View

_metadata = MetaData()

_records = Table(
    "memory_records",
    _metadata,
    Column("id", String(36), primary_key=True),
    Column("namespace", String(64), nullable=False),
    Column("agent", String(64), nullable=False),
    Column("scope", String(16), nullable=False),
    Column("kind", String(64), nullable=False),
    Column("session", String(256), nullable=False),
    Column("text", Text, nullable=False),
    Column("importance", Float, nullable=False),
    Column("metadata", JSON, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("indexed", Boolean, nullable=False),
    Index("memory_records_by_agent", "namespace", "agent", "created_at"),
    Index("memory_records_by_scope", "namespace", "scope", "created_at"),
    Index("memory_records_by_kind", "namespace", "kind", "created_at"),
)

_messages = Table(
    "session_messages",
    _metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("namespace", String(64), nullable=False),
    Column("agent", String(64), nullable=False),
    Column("session", String(256), nullable=False),
    Column("role", String(16), nullable=False),
    Column("content", Text, nullable=False),
    Column("metadata", JSON, nullable=False),
    Column("created_at", Float, nullable=False),
    Index("session_messages_by_session", "namespace", "agent", "session", "id"),
)

_spending = Table(
    "model_spending",
    _metadata,
    Column("namespace", String(64), primary_key=True),
    Column("agent", String(64), primary_key=True),
    Column("day", String(10), primary_key=True),
    Column("provider", String(32), primary_key=True),
    Column("model", String(256), primary_key=True),
    Column("requests", BigInteger, nullable=False),
    Column("input_tokens", BigInteger, nullable=False),
    Column("output_tokens", BigInteger, nullable=False),
    Column("micro_usd", BigInteger, nullable=False),
)

_SUMS = ("requests", "input_tokens", "output_tokens", "micro_usd")
_RECORD_FIELDS = (
    "id", "namespace", "agent", "text", "kind", "scope", "session", "importance", "metadata", "created_at",
)  # fmt: skip
_SCHEMA_LOCK = 7_456_001


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
        await self.create(_metadata)

    async def create(self, tables: MetaData) -> None:
        """Creates those of some tables that are missing."""
        async with self.transaction() as connection:
            if self._sqlite:
                await connection.execute(text("PRAGMA journal_mode=WAL"))
            else:
                await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _SCHEMA_LOCK})
            await connection.run_sync(tables.create_all)

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
        values = {name: getattr(record, name) for name in _RECORD_FIELDS}
        await connection.execute(
            insert(_records).values(**values | {"metadata": dict(record.metadata), "indexed": indexed})
        )

    async def mark_indexed(self, record_id: str) -> None:
        """Notes that the vector index holds this record."""
        async with self.transaction() as connection:
            await connection.execute(update(_records).where(_records.c.id == record_id).values(indexed=True))

    async def unindexed(self, namespace: str, agent: str, limit: int) -> list[MemoryRecord]:
        """Returns records that the vector index does not hold yet, oldest first."""
        wanted = and_(_records.c.namespace == namespace, _records.c.agent == agent, _records.c.indexed.is_(False))
        return await self._select(select(_records).where(wanted).order_by(_records.c.created_at).limit(limit))

    async def recent(self, view: View, limit: int, kinds: Sequence[str] = ()) -> list[MemoryRecord]:
        """Returns the newest records in `view`, newest first."""
        wanted = _in(view)
        if kinds:
            wanted.append(_records.c.kind.in_(kinds))
        query = select(_records).where(*wanted).order_by(_records.c.created_at.desc(), _records.c.id).limit(limit)
        return await self._select(query)

    async def find(self, connection: AsyncConnection, view: View, record_id: str) -> MemoryRecord | None:
        """Returns one record, if `view` has it."""
        rows = await connection.execute(select(_records).where(*_in(view), _records.c.id == record_id))
        return next((_record(row) for row in rows.mappings()), None)

    async def existing(self, connection: AsyncConnection, ids: Sequence[str]) -> list[str]:
        """Returns those of some ids that are records."""
        return list((await connection.execute(select(_records.c.id).where(_records.c.id.in_(ids)))).scalars())

    async def groups(
        self, connection: AsyncConnection, namespace: str, agent: str, states: Table, least: int, until: float
    ) -> list[Related]:
        """Returns the groups with at least so many records up to `until` that `states` has not passed yet.

        Its columns `last_at` and `last_id` say how far each group got.
        """
        table, state = _records.c, states.c
        same = [table[name] == state[name] for name in ("namespace", "agent", "kind", "scope")]
        mine = and_(table.namespace == namespace, table.agent == agent, table.kind != SUMMARY)
        new = or_(state.kind.is_(None), _after((state.last_at, state.last_id)))
        query = select(table.kind, table.scope).select_from(_records.outerjoin(states, and_(*same)))
        full = query.where(mine, table.created_at <= until, new).group_by(table.kind, table.scope)
        rows = await connection.execute(full.having(func.count() >= least).order_by(table.kind, table.scope))
        return [Related(*row) for row in rows]

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
        table = _records.c
        mine = and_(table.namespace == namespace, table.agent == agent)
        these = and_(mine, table.kind == related.kind, table.scope == related.scope, table.created_at <= until)
        query = select(_records).where(these, _after(last)).order_by(table.created_at, table.id).limit(limit)
        return [_record(row) for row in (await connection.execute(query)).mappings()]

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
            await connection.execute(insert(_messages), rows)

    async def session(self, namespace: str, agent: str, session: str, limit: int) -> list[SessionMessage]:
        """Returns the last messages of a session, oldest first."""
        table = _messages.c
        wanted = and_(table.namespace == namespace, table.agent == agent, table.session == session)
        query = select(table.role, table.content, table.created_at, table.metadata).where(wanted)
        async with self.transaction() as connection:
            rows = (await connection.execute(query.order_by(table.id.desc()).limit(limit))).all()
        return [SessionMessage(*row) for row in reversed(rows)]

    async def spend(self, namespace: str, agent: str, entries: Sequence[Spent]) -> None:
        """Adds to what was spent, all entries or none."""
        made = sqlite.insert(_spending) if self._sqlite else postgresql.insert(_spending)
        added = made.on_conflict_do_update(
            index_elements=list(_spending.primary_key),
            set_={name: _spending.c[name] + made.excluded[name] for name in _SUMS},
        )
        async with self.transaction() as connection:
            # In one order everywhere, so that replicas do not wait for each other in a circle.
            for entry in sorted(entries, key=lambda each: (each.day, each.provider, each.model)):
                await connection.execute(added.values(namespace=namespace, agent=agent, **asdict(entry)))

    async def spending(self, namespace: str, agent: str, day: str) -> list[Spent]:
        """Returns what was spent on a day, by model."""
        table = _spending.c
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
        return [_record(row) for row in rows]

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


def _after(last: tuple[Any, Any]) -> Any:
    """Younger than a time, or as old and with a greater id."""
    table = _records.c
    return or_(table.created_at > last[0], and_(table.created_at == last[0], table.id > last[1]))


def _in(view: View) -> list[Any]:
    mine = _records.c.agent == view.agent
    return [_records.c.namespace == view.namespace, or_(mine, _records.c.scope == "team") if view.team else mine]


def _record(row: Any) -> MemoryRecord:
    return MemoryRecord(**{name: row[name] for name in _RECORD_FIELDS})

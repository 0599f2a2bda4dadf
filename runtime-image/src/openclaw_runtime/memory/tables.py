"""The tables of records and sessions. Those that other parts keep beside them are where they are used."""

import json
import zlib
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from openclaw_runtime.memory.types import MemoryRecord

metadata = MetaData()


def _record_columns() -> list[Column[Any]]:
    """What is told of a record in whichever tier it is."""
    return [
        Column("id", String(36), primary_key=True),
        Column("namespace", String(64), nullable=False),
        Column("agent", String(64), nullable=False),
        Column("scope", String(16), nullable=False),
        Column("kind", String(64), nullable=False),
        Column("importance", Float, nullable=False),
        Column("created_at", Float, nullable=False),
    ]


def _record_indexes(table: str) -> list[Index]:
    """How records are read: the newest of an agent and of a team, and the next of a group to summarise."""
    return [
        Index(f"{table}_by_agent", "namespace", "agent", "created_at"),
        Index(f"{table}_by_scope", "namespace", "scope", "created_at"),
        Index(f"{table}_by_group", "namespace", "agent", "kind", "scope", "created_at", "id"),
    ]


records = Table(
    "memory_records",
    metadata,
    *_record_columns(),
    Column("session", String(256), nullable=False),
    Column("text", Text, nullable=False),
    Column("metadata", JSON, nullable=False),
    Column("indexed", Boolean, nullable=False),
    *_record_indexes("memory_records"),
    Index("memory_records_by_kind", "namespace", "kind", "created_at"),
)

# What is no longer warm: found by its vector, and kept here in little room, so that an index can be made anew.
cold = Table(
    "memory_cold",
    metadata,
    *_record_columns(),
    Column("rest", LargeBinary, nullable=False),
    *_record_indexes("memory_cold"),
)

messages = Table(
    "session_messages",
    metadata,
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

spending = Table(
    "model_spending",
    metadata,
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

# How far each group of related records is summarised, and which replica is at it.
summary_states = Table(
    "memory_summaries",
    metadata,
    Column("namespace", String(64), primary_key=True),
    Column("agent", String(64), primary_key=True),
    Column("kind", String(64), primary_key=True),
    Column("scope", String(16), primary_key=True),
    Column("last_at", Float, nullable=False),
    Column("last_id", String(36), nullable=False),
    Column("holder", String(256), nullable=False),
    Column("not_before", Float, nullable=False),
    Column("failures", Integer, nullable=False),
)

# Since when, and when last, an agent's tiers were looked at.
looks = Table(
    "memory_looks",
    metadata,
    Column("namespace", String(64), primary_key=True),
    Column("agent", String(64), primary_key=True),
    Column("since", Float, nullable=False),
    Column("last_at", Float, nullable=False),
)

RECORD_FIELDS = (
    "id", "namespace", "agent", "text", "kind", "scope", "session", "importance", "metadata", "created_at",
)  # fmt: skip
_PLAIN = tuple(column.name for column in _record_columns())


def upsert(connection: AsyncConnection, table: Table) -> Any:
    """Returns an insert of the connection's dialect, which has `on_conflict_do_nothing` and `on_conflict_do_update`."""
    return (postgresql if connection.dialect.name == "postgresql" else sqlite).insert(table)


def record_of(row: Any) -> MemoryRecord:
    """Reads a row of `records`."""
    return MemoryRecord(**{name: row[name] for name in RECORD_FIELDS})


def cold_row(record: MemoryRecord) -> dict[str, Any]:
    """Returns a record as a row of `cold`."""
    rest = {"text": record.text, "session": record.session, "metadata": dict(record.metadata)}
    packed = zlib.compress(json.dumps(rest, ensure_ascii=False).encode())
    return {**{name: getattr(record, name) for name in _PLAIN}, "rest": packed}


def record_of_cold(row: Any) -> MemoryRecord:
    """Reads what `cold_row` wrote."""
    return MemoryRecord(**{name: row[name] for name in _PLAIN}, **json.loads(zlib.decompress(row["rest"])))

"""Files that skills gave with their results, and users with their messages, kept for the users for a while.

In the records' database, because every gateway has one and all replicas of an agent share it: whichever is asked has
the file, and it outlives the pod that made it. A Redis would hold them in memory, where the bus needs it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import Column, Float, Index, Integer, LargeBinary, MetaData, String, Table, and_, delete, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from openclaw_runtime.memory.records import RecordStore
from openclaw_runtime.memory.types import KeptAttachment
from openclaw_runtime.sandbox.attachments import Attachment

KEPT_SECONDS: Final = 7 * 24 * 3600.0
MAX_KEPT: Final = 1_000
MAX_KEPT_BYTES: Final = 128 * 1024 * 1024
"""Of one agent; the oldest go first."""

_metadata = MetaData()
_attachments = Table(
    "skill_attachments",
    _metadata,
    Column("id", String(36), primary_key=True),
    Column("namespace", String(64), nullable=False),
    Column("agent", String(64), nullable=False),
    Column("session", String(256), nullable=False),
    Column("name", String(256), nullable=False),
    Column("media_type", String(256), nullable=False),
    Column("size", Integer, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("data", LargeBinary, nullable=False),
    Column("created_at", Float, nullable=False),
    Index("skill_attachments_by_agent", "namespace", "agent", "created_at"),
)
_FACTS = ("id", "name", "media_type", "size", "sha256")


@dataclass(frozen=True, slots=True)
class StoredAttachment:
    """An attachment with its bytes."""

    kept: KeptAttachment
    data: bytes = field(repr=False)


class AttachmentStore:
    """The attachments of one agent. Methods raise `MemoryStoreError`. `now` is Unix time."""

    def __init__(
        self,
        records: RecordStore,
        *,
        namespace: str,
        agent: str,
        now: Callable[[], float],
        new_id: Callable[[], str],
        most_bytes: int = MAX_KEPT_BYTES,
    ) -> None:
        self._records = records
        self._namespace = namespace
        self._agent = agent
        self._now = now
        self._new_id = new_id
        self._most_bytes = most_bytes

    async def start(self) -> None:
        """Creates the table if it is missing."""
        await self._records.create(_metadata)

    async def keep(self, session: str, attachments: Sequence[Attachment]) -> tuple[KeptAttachment, ...]:
        """Keeps attachments, all or none, and lets go of the oldest where there are too many."""
        if not attachments:
            return ()
        now, rows, kept = self._now(), [], []
        for each in attachments:
            facts = KeptAttachment(self._new_id(), each.name, each.media_type, len(each.data), each.sha256)
            kept.append(facts)
            rows.append(
                {name: getattr(facts, name) for name in _FACTS}
                | {"namespace": self._namespace, "agent": self._agent, "session": session}
                | {"data": each.data, "created_at": now}
            )
        async with self._records.transaction() as connection:
            await connection.execute(insert(_attachments), rows)
            await self._make_room(connection)
        return tuple(kept)

    async def get(self, attachment: str, *, team: Sequence[str] = ()) -> StoredAttachment | None:
        """Returns an attachment of this agent, or of those of its team that keep theirs in the same database."""
        table = _attachments.c
        wanted = and_(
            table.id == attachment,
            table.namespace == self._namespace,
            table.agent.in_((self._agent, *team)),
            table.created_at > self._now() - KEPT_SECONDS,
        )
        query = select(*(table[name] for name in _FACTS), table.data).where(wanted)
        async with self._records.transaction() as connection:
            row = (await connection.execute(query)).first()
        return None if row is None else StoredAttachment(KeptAttachment(*row[:-1]), row[-1])

    async def prune(self) -> None:
        """Lets go of what is too old, of the whole namespace: an agent may sleep, or be gone."""
        table = _attachments.c
        old = and_(table.namespace == self._namespace, table.created_at <= self._now() - KEPT_SECONDS)
        async with self._records.transaction() as connection:
            await connection.execute(delete(_attachments).where(old))

    async def _make_room(self, connection: AsyncConnection) -> None:
        table = _attachments.c
        mine = and_(table.namespace == self._namespace, table.agent == self._agent)
        newest = select(table.id, table.size).where(mine).order_by(table.created_at.desc(), table.id)
        surplus = _surplus((await connection.execute(newest)).all(), self._most_bytes)
        if surplus:
            await connection.execute(delete(_attachments).where(table.id.in_(surplus)))


def _surplus(newest_first: Sequence[Any], most_bytes: int) -> list[str]:
    """Returns the ids of those that are too many, or too much."""
    total, surplus = 0, []
    for number, (identity, size) in enumerate(newest_first):
        total += size
        if number >= MAX_KEPT or total > most_bytes:
            surplus.append(identity)
    return surplus

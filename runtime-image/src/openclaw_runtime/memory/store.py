"""One agent's memory, put together from its parts."""

import logging
from collections.abc import Callable, Sequence

from openclaw_runtime.errors import MemoryStoreError
from openclaw_runtime.memory import lexical
from openclaw_runtime.memory.files import MemoryFiles
from openclaw_runtime.memory.hot import Hot, fused
from openclaw_runtime.memory.ranking import Ranking
from openclaw_runtime.memory.records import RecordStore
from openclaw_runtime.memory.types import (
    Embedder,
    Filters,
    Found,
    MemoryRecord,
    NewRecord,
    SessionMessage,
    VectorIndex,
    View,
)
from openclaw_runtime.memory.uses import Judged

logger = logging.getLogger(__name__)

_LEXICAL_WINDOW = 1_000
_REPAIR_BATCH = 100
_CANDIDATES = 3
"""So many times the matches that are asked for are ordered by importance, too."""

OnSearch = Callable[[float, int], None]
"""Takes the duration of a search in milliseconds and the number of results."""


class AgentMemory:
    """The `MemoryStore` of one agent: records in SQL first, then their vectors, then the files.

    A record whose vector could not be written is kept and indexed later. A search goes by meaning, and by words among
    the records that are `hot`; without `vectors` by words alone.
    `now` is Unix time and `timer` a monotonic clock, both in seconds.
    """

    def __init__(
        self,
        *,
        namespace: str,
        agent: str,
        records: RecordStore,
        ranking: Ranking,
        now: Callable[[], float],
        timer: Callable[[], float],
        new_id: Callable[[], str],
        vectors: tuple[VectorIndex, Embedder] | None = None,
        files: MemoryFiles | None = None,
        hot: Hot,
        on_search: OnSearch | None = None,
    ) -> None:
        self._namespace = namespace
        self._agent = agent
        self._records = records
        self._ranking = ranking
        self._now = now
        self._timer = timer
        self._new_id = new_id
        self._vectors = vectors
        self._files = files
        self._hot = hot
        self._on_search = on_search
        self._behind = False
        self.written = 0
        """How many records this process has added."""

    async def start(self) -> None:
        """See `MemoryStore`."""
        await self._records.start()
        await self._ranking.start()
        if self._vectors is not None:
            index, embedder = self._vectors
            await index.start(embedder.dimensions)
            await self._catch_up()

    async def close(self) -> None:
        """See `MemoryStore`."""
        await self._ranking.close()
        if self._vectors is not None:
            await self._vectors[0].close()
        await self._records.close()

    async def ping(self) -> None:
        """See `MemoryStore`."""
        await self._records.ping()
        if self._vectors is not None:
            await self._vectors[0].ping()

    async def add(self, record: NewRecord) -> MemoryRecord:
        """See `MemoryStore`."""
        stored = self.new(record)
        await self._records.add(stored, indexed=False)
        await self.publish(stored)
        return stored

    def new(self, record: NewRecord) -> MemoryRecord:
        """Returns what is to be stored, and stores nothing."""
        return MemoryRecord(
            id=self._new_id(),
            namespace=self._namespace,
            agent=self._agent,
            text=record.text,
            kind=record.kind,
            scope=record.scope,
            session=record.session,
            importance=record.importance,
            metadata=record.metadata,
            created_at=self._now(),
        )

    async def publish(self, stored: MemoryRecord) -> None:
        """Has a record that is in SQL found by searches and in the files, now or a little later."""
        self.written += 1
        self._hot.touch([stored])
        if self._vectors is not None:
            try:
                await self._index(stored)
            except MemoryStoreError as error:
                self._behind = True
                logger.warning("a record is not indexed yet: %s", error, extra={"record": stored.id})
        if self._files is not None:
            try:
                await self._files.write(stored)
            except OSError as error:
                logger.warning("the memory files could not be written: %s", error)

    async def search(
        self, query: str, limit: int = 5, *, team: bool = False, use: bool = True, only: Filters | None = None
    ) -> list[Found]:
        """See `MemoryStore`."""
        started = self._timer()
        view = self._view(team, only)
        if self._vectors is None:
            matches = lexical.rank(query, await self._records.recent(view, _LEXICAL_WINDOW), _CANDIDATES * limit)
            full = max((item.score for item in matches), default=1.0)
        else:
            if self._behind:
                await self._catch_up()
            index, embedder = self._vectors
            near = await index.search((await embedder.embed([query]))[0], view, _CANDIDATES * limit)
            matches = fused(near, self._hot.search(query, view, _CANDIDATES * limit))
            full = 1.0
        found = (await self._ranking.order(matches))[:limit]
        if use:
            relevance = {item.record.id: item.score / full for item in matches}
            self._hot.touch(item.record for item in reversed(found))
            self._ranking.recalled([(item.record.id, relevance[item.record.id]) for item in found])
        if self._on_search is not None:
            self._on_search((self._timer() - started) * 1000, len(found))
        return found

    async def recent(self, limit: int = 10, *, team: bool = False, only: Filters | None = None) -> list[MemoryRecord]:
        """See `MemoryStore`."""
        return await self._records.recent(self._view(team, only), limit)

    async def judge(self, record_id: str, *, useful: bool) -> Judged | None:
        """See `MemoryStore`."""
        return await self._ranking.judge(self._view(team=True), record_id, useful=useful)

    async def session(self, session: str, limit: int = 100) -> list[SessionMessage]:
        """See `MemoryStore`."""
        return await self._records.session(self._namespace, self._agent, session, limit)

    async def append_session(self, session: str, messages: Sequence[SessionMessage]) -> None:
        """See `MemoryStore`."""
        await self._records.append(self._namespace, self._agent, session, messages)

    def _view(self, team: bool, only: Filters | None = None) -> View:
        return View(self._namespace, self._agent, team, only or Filters())

    async def _index(self, record: MemoryRecord) -> None:
        assert self._vectors is not None
        index, embedder = self._vectors
        await index.upsert(record, (await embedder.embed([record.text]))[0])
        await self._records.mark_indexed(record.id)

    async def _catch_up(self) -> None:
        while batch := await self._records.unindexed(self._namespace, self._agent, _REPAIR_BATCH):
            for record in batch:
                await self._index(record)
        self._behind = False

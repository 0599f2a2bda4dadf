"""One suite for every combination of vector engine and database, then what each part does alone."""

import asyncio
import itertools
import json
import random
import time
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock

import httpx2
import pytest
from openai import AsyncOpenAI
from pydantic import SecretStr
from qdrant_client import AsyncQdrantClient, models
from sqlalchemy import event, insert

from openclaw_runtime.errors import MemoryStoreError
from openclaw_runtime.memory import lexical, tables
from openclaw_runtime.memory.embeddings import EndpointEmbedder, WordLlamaEmbedder
from openclaw_runtime.memory.files import MemoryFiles
from openclaw_runtime.memory.hot import Hot
from openclaw_runtime.memory.importance import Weights
from openclaw_runtime.memory.qdrant_embedded import EmbeddedIndex
from openclaw_runtime.memory.qdrant_server import ServerIndex
from openclaw_runtime.memory.ranking import Ranking
from openclaw_runtime.memory.records import RecordStore
from openclaw_runtime.memory.sections import Hnsw, Importance, Quantization, Tiers
from openclaw_runtime.memory.store import AgentMemory
from openclaw_runtime.memory.summaries import SummaryStore
from openclaw_runtime.memory.types import (
    Filters,
    Found,
    MemoryRecord,
    NewRecord,
    Scope,
    SessionMessage,
    Spent,
    VectorIndex,
    View,
    to_payload,
)
from openclaw_runtime.memory.uses import UseStore
from tests.cluster.qdrant_front.app import create_app as create_front
from tests.fakes.llm.serve import serving


def spent(model: str, requests: int) -> Spent:
    return Spent("2026-11-27", "openai", model, requests, 10 * requests, requests, 5_000_000_000 * requests)


START = 1_790_000_000.0


@pytest.fixture(scope="module")
def embedder() -> WordLlamaEmbedder:
    return WordLlamaEmbedder()


@pytest.fixture(params=["sqlite", "postgresql"])
def records_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite+aiosqlite:///{tmp_path}/records.db"
    return str(request.getfixturevalue("postgres_url"))


@pytest.fixture(params=["embedded", "server", "words"])
async def index(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[VectorIndex | None]:
    """The vector engine: in process, behind Qdrant's HTTP API (a front on the same engine), or none."""
    if request.param == "words":
        yield None
    elif request.param == "embedded":
        yield EmbeddedIndex(tmp_path / "vectors")
    else:
        async with serving(create_front(tmp_path / "storage", tmp_path / "snapshots", "the-key")) as address:
            yield ServerIndex("test", url=address, api_key=SecretStr("the-key"))


class Memories:
    """Makes the memories of several agents that share their stores, in a namespace of their own."""

    def __init__(
        self, records_url: str, index: VectorIndex | None, embedder: WordLlamaEmbedder, files: MemoryFiles | None = None
    ) -> None:
        self.namespace = uuid.uuid4().hex
        self.records = RecordStore(records_url)
        self.index = index
        self.embedder = embedder
        self.files = files
        self.clock: Iterator[float] = itertools.count(START)
        self.searches: list[int] = []
        self.opened: list[AgentMemory] = []
        self.written = asyncio.Event()

    async def sleep(self, _seconds: float) -> None:
        """A batch of uses is written when the test says so."""
        await self.written.wait()

    def of(self, agent: str, namespace: str | None = None, importance: Importance | None = None) -> AgentMemory:
        def now() -> float:
            return float(next(self.clock))

        space = namespace or self.namespace
        uses = UseStore(self.records, namespace=space, agent=agent)
        return AgentMemory(
            namespace=space,
            agent=agent,
            records=self.records,
            ranking=Ranking(uses, importance or Importance(), now=now, sleep=self.sleep),
            now=now,
            timer=time.perf_counter,
            new_id=lambda: str(uuid.uuid4()),
            vectors=(self.index, self.embedder) if self.index else None,
            hot=Hot(Tiers().hot, now=now),
            files=self.files,
            on_search=lambda _ms, results: self.searches.append(results),
        )

    async def open(self, agent: str) -> AgentMemory:
        memory = self.of(agent)
        if not self.opened:
            await memory.start()
        self.opened.append(memory)
        return memory


@pytest.fixture
async def memories(records_url: str, index: VectorIndex | None, embedder: WordLlamaEmbedder) -> AsyncIterator[Memories]:
    made = Memories(records_url, index, embedder)
    yield made
    await made.opened[0].close()


async def test_what_is_added_is_found_by_the_next_search(memories: Memories) -> None:
    memory = await memories.open("code-expert")
    stored = await memory.add(NewRecord("Committed 3 files to the payment service", kind="commit", metadata={"n": 3}))
    await memory.add(NewRecord("The user likes short answers"))
    found = await memory.search("which files were committed?")
    assert found[0].record == stored
    assert found[0].score > 0
    assert memories.searches == [len(found)]


async def test_an_agent_sees_only_its_own_records(memories: Memories) -> None:
    coordinator, expert = await memories.open("coordinator"), await memories.open("code-expert")
    await expert.add(NewRecord("a private note about the release"))
    await expert.add(NewRecord("a team note about the release", scope="team"))
    mine = await coordinator.add(NewRecord("my note about the release"))
    assert [item.record for item in await coordinator.search("note about the release")] == [mine]


async def test_a_team_search_adds_the_teams_records_and_no_private_ones(memories: Memories) -> None:
    coordinator, expert = await memories.open("coordinator"), await memories.open("code-expert")
    await expert.add(NewRecord("a private note about the release"))
    await expert.add(NewRecord("a team note about the release", scope="team"))
    await coordinator.add(NewRecord("my note about the release"))
    found = await coordinator.search("note about the release", team=True)
    assert {item.record.text for item in found} == {"a team note about the release", "my note about the release"}


async def test_namespaces_do_not_mix(memories: Memories) -> None:
    memory = await memories.open("code-expert")
    await memory.add(NewRecord("the release is on Friday", scope="team"))
    elsewhere = memories.of("code-expert", namespace="elsewhere")
    assert await elsewhere.search("when is the release?", team=True) == []
    assert await elsewhere.recent(team=True) == []


async def test_recent_returns_the_newest_first_and_can_choose_kinds(memories: Memories) -> None:
    memory = await memories.open("code-expert")
    for number in range(3):
        await memory.add(NewRecord(f"note {number}"))
    commit = await memory.add(NewRecord("a commit", kind="commit"))
    assert [record.text for record in await memory.recent(2)] == ["a commit", "note 2"]
    assert await memory.recent(only=Filters(kinds=("commit",))) == [commit]


FILTERS = [
    (Filters(kinds=("commit", "other")), "commit"),
    (Filters(importance=0.7), "commit"),
    (Filters(since=START + 2), "commit third"),
    (Filters(until=START), "first"),
    (Filters(since=START + 1, until=START + 2, kinds=("note",)), "second third"),
    (Filters(metadata={"n": "2"}), "second"),
    (Filters(metadata={"n": "3"}), "third"),
    (Filters(metadata={"n": "2", "done": "true"}), "second"),
    (Filters(metadata={"done": "false"}), ""),
]


async def test_filters_narrow_what_is_found_and_what_is_newest(memories: Memories) -> None:
    memory = await memories.open("code-expert")
    made = [
        NewRecord("first release", metadata={"n": 1}),
        NewRecord("second release", metadata={"n": 2, "done": True}),
        NewRecord("third release", metadata={"n": "3"}),
        NewRecord("commit release", kind="commit", importance=0.9, metadata={"m": 2}),
    ]
    for number, record in enumerate(made):
        memories.clock = itertools.repeat(START + number)
        await memory.add(record)
    for only, expected in FILTERS:
        assert await search_firsts(memory, only) == expected, only
        newest = await memory.recent(only=only)
        assert " ".join(sorted(record.text.split()[0] for record in newest)) == expected, only
    # By meaning alone, too.
    memory._hot.forget([record.id for record in await memory.recent()])
    for only, expected in FILTERS:
        assert await search_firsts(memory, only) == expected, only
        memory._hot.forget([record.id for record in await memory.recent()])


async def search_firsts(memory: AgentMemory, only: Filters) -> str:
    """The first words of what is found, in their order."""
    return " ".join(sorted(item.record.text.split()[0] for item in await memory.search("release", only=only)))


async def test_a_search_returns_at_most_its_limit(memories: Memories) -> None:
    memory = await memories.open("code-expert")
    for number in range(8):
        await memory.add(NewRecord(f"deployment number {number} went well"))
    assert len(await memory.search("deployment", limit=3)) == 3


async def test_a_session_is_continued_by_another_replica(memories: Memories) -> None:
    first, second = await memories.open("coordinator"), memories.of("coordinator")
    await first.append_session("s1", [SessionMessage("user", "hello", 1.0), SessionMessage("assistant", "hi", 2.0)])
    await second.append_session("s1", [SessionMessage("user", "again", 3.0, {"tool": "x"})])
    assert [message.content for message in await second.session("s1")] == ["hello", "hi", "again"]
    assert [message.content for message in await second.session("s1", limit=2)] == ["hi", "again"]
    assert (await second.session("s1"))[2].metadata == {"tool": "x"}
    assert await second.session("s2") == []
    assert await memories.of("other").session("s1") == []


async def test_starting_again_changes_nothing(memories: Memories) -> None:
    memory = await memories.open("code-expert")
    stored = await memory.add(NewRecord("it stays"))
    if not isinstance(memories.index, EmbeddedIndex):
        await memories.of("code-expert").start()
    await memory.ping()
    assert await memory.recent() == [stored]


async def test_what_users_found_useful_comes_first_and_teaches_the_weights(memories: Memories) -> None:
    memory = await memories.open("code-expert")
    twins = [await memory.add(NewRecord("the release is on Friday")) for _ in range(2)]
    liked = next(item.record for item in await memory.search("when is the release?") if item.record != twins[0])
    first = await memory.judge(liked.id, useful=True)
    assert first is not None
    assert (first.use.useful, first.use.useless) == (1, 0)
    assert first.weights.recency > Weights().recency
    assert (await memory.search("when is the release?"))[0].record == liked
    for _ in range(3):
        await memory.judge(liked.id, useful=False)
    # Of another replica, which shares only the store.
    other = memories.of("code-expert")
    assert (await other.search("when is the release?"))[0].record == twins[0]
    # A store remembers what it learned until it is given other weights; other agents learn by themselves.
    again = await other.judge(liked.id, useful=True)
    assert again is not None
    assert (again.use.useful, again.use.useless) == (2, 3)
    plain = Importance(rate=0)
    fresh = await memories.of("code-expert", importance=plain.model_copy(update={"recency": 0.5})).judge(
        liked.id, useful=True
    )
    assert fresh is not None
    assert fresh.weights.recency == pytest.approx(0.4)
    assert await memories.of("stranger").judge(liked.id, useful=True) is None


async def test_recalls_are_counted_in_batches_off_the_path(memories: Memories) -> None:
    memory = await memories.open("code-expert")
    record = await memory.add(NewRecord("the release is on Friday", importance=0.2))
    for _ in range(3):
        await memory.search("when is the release?")
    await memory.search("when is the release?", use=False)
    uses = UseStore(memories.records, namespace=memories.namespace, agent="code-expert")
    assert await uses.known([record.id], Weights()) == ({}, Weights())
    memories.written.set()
    async with asyncio.timeout(60):
        while not (known := (await uses.known([record.id], Weights()))[0]):  # noqa: ASYNC110 - a write has no event
            await asyncio.sleep(0)
    use = known[record.id]
    assert use.accesses == 3
    assert use.last_access > record.created_at
    assert 0 < use.relevance <= 3


async def test_without_the_store_of_uses_recall_goes_on_and_nothing_is_forgotten(
    memories: Memories, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = await memories.open("code-expert")
    record = await memory.add(NewRecord("the release is on Friday"))
    broken = AsyncMock(side_effect=MemoryStoreError("down"))
    with monkeypatch.context() as patched:
        patched.setattr(UseStore, "known", broken)
        patched.setattr(UseStore, "add", broken)
        assert [item.record for item in await memory.search("when is the release?")] == [record]
        await memory._ranking.save()
    await memory._ranking.save()
    uses = UseStore(memories.records, namespace=memories.namespace, agent="code-expert")
    assert (await uses.known([record.id], Weights()))[0][record.id].accesses == 1


class BrokenIndex:
    """A vector index that can be switched off."""

    def __init__(self) -> None:
        self.works = False
        self.stored: list[MemoryRecord] = []

    async def start(self, dimensions: int) -> None:  # noqa: ARG002
        return None

    async def close(self) -> None:
        return None

    async def ping(self) -> None:
        return None

    async def upsert(self, record: MemoryRecord, vector: Sequence[float]) -> None:  # noqa: ARG002
        if not self.works:
            raise MemoryStoreError("the vector store failed: down")
        self.stored.append(record)

    async def delete(self, ids: Sequence[str]) -> None:
        self.stored = [record for record in self.stored if record.id not in ids]

    async def search(self, vector: Sequence[float], view: View, limit: int) -> list[Found]:  # noqa: ARG002
        return [Found(record, 1.0) for record in self.stored]


async def test_a_record_whose_vector_failed_is_kept_and_indexed_later(
    tmp_path: Path, embedder: WordLlamaEmbedder
) -> None:
    index = BrokenIndex()
    made = Memories(f"sqlite+aiosqlite:///{tmp_path}/r.db", index, embedder)
    memory = await made.open("a")
    stored = await memory.add(NewRecord("important"))
    assert await memory.recent() == [stored]
    index.works = True
    assert [item.record for item in await memory.search("important")] == [stored]
    assert len(index.stored) == 1
    await memory.close()


async def test_the_embedded_index_survives_a_restart(tmp_path: Path, embedder: WordLlamaEmbedder) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path}/deep/r.db"
    first = Memories(url, EmbeddedIndex(tmp_path / "v"), embedder)
    memory = await first.open("a")
    stored = await memory.add(NewRecord("it stays on disk"))
    await memory.close()
    second = Memories(url, EmbeddedIndex(tmp_path / "v"), embedder)
    second.namespace = first.namespace
    again = await second.open("a")
    assert [item.record for item in await again.search("on disk")] == [stored]
    await again.close()


async def test_the_embedded_index_refuses_another_dimension(tmp_path: Path, embedder: WordLlamaEmbedder) -> None:
    made = Memories(f"sqlite+aiosqlite:///{tmp_path}/r.db", EmbeddedIndex(tmp_path / "v"), embedder)
    memory = await made.open("a")
    await memory.add(NewRecord("256 numbers"))
    await memory.close()
    with pytest.raises(MemoryStoreError, match="256 dimensions, the embedding has 8"):
        await EmbeddedIndex(tmp_path / "v").start(8)


async def test_the_server_index_refuses_another_dimension() -> None:
    client = AsyncQdrantClient(":memory:")
    await ServerIndex("c", client=client).start(256)
    with pytest.raises(MemoryStoreError, match="256 dimensions, the embedding has 8"):
        await ServerIndex("c", client=client).start(8)


async def test_the_server_index_asks_for_the_documented_graph() -> None:
    client = AsyncQdrantClient(":memory:")
    asked: dict[str, object] = {}
    create = client.create_collection

    async def spy(name: str, **options: object) -> bool:
        asked.update(options)
        return await create(name, **options)  # type: ignore[arg-type]

    client.create_collection = spy  # type: ignore[method-assign,assignment]
    await ServerIndex("c", client=client).start(256)
    assert asked["hnsw_config"].model_dump(exclude_none=True) == {"m": 16, "ef_construct": 200}  # type: ignore[attr-defined]


WORDS = """
release friday database schema commit branch review deploy cluster memory vector search index budget model cache
token secret backup restore drill tenant quota network policy gateway sandbox skill agent team schedule summary
coffee garden river mountain winter music piano teacher school kitchen recipe bread doctor patient football
"""


@pytest.fixture
async def front(tmp_path: Path) -> AsyncIterator[AsyncQdrantClient]:
    """A server that indexes even small collections, as soon as their parameters change."""
    async with serving(create_front(tmp_path / "storage", tmp_path / "snapshots", None)) as address:
        client = AsyncQdrantClient(url=address, check_compatibility=False, timeout=60)
        yield client
        await client.close()


async def test_a_collection_becomes_what_is_asked_for_and_is_searched_as_well(
    front: AsyncQdrantClient, embedder: WordLlamaEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng, words = random.Random(1), WORDS.split()
    texts = [" ".join(rng.sample(words, 6)) for _ in range(1_200)]
    vectors, queries = (
        await embedder.embed(texts),
        await embedder.embed([" ".join(rng.sample(words, 4)) for _ in "x" * 20]),
    )
    view = View("n", "a", False, Filters())
    plain = ServerIndex("c", client=front)
    await plain.start(256)
    await front.update_collection("c", optimizers_config=models.OptimizersConfigDiff(indexing_threshold=100))
    payload = to_payload(MemoryRecord("", "n", "a", "text", "note", "private", "s", 0.5, {}, START))
    ids = [str(uuid.UUID(int=number)) for number in range(len(texts))]
    await front.upsert(
        "c", models.Batch(ids=ids, vectors=[list(each) for each in vectors], payloads=[payload] * len(ids))
    )

    async def found(index: ServerIndex) -> list[set[str]]:
        return [{item.record.id for item in await index.search(query, view, 10)} for query in queries]

    def recall(got: list[set[str]]) -> float:
        return sum(len(one & other) for one, other in zip(got, truth, strict=True)) / (10 * len(queries))

    truth = await found(plain)
    written: list[dict[str, object]] = []
    update = front.update_collection

    async def spy(name: str, **options: Any) -> bool:
        written.append({key: value for key, value in options.items() if value is not None})
        return await update(name, **options)

    monkeypatch.setattr(front, "update_collection", spy)
    # Replicas that start together want the same.
    product = [
        ServerIndex("c", client=front, hnsw=Hnsw(m=24, ef_construct=300), quantization=Quantization(type="product"))
        for _ in range(2)
    ]
    await asyncio.gather(*(index.start(256) for index in product))
    config = (await front.get_collection("c")).config
    assert (config.hnsw_config.m, config.hnsw_config.ef_construct) == (24, 300)
    assert isinstance(config.quantization_config, models.ProductQuantization)
    assert config.quantization_config.product.compression == models.CompressionRatio.X64
    assert config.params.vectors.on_disk  # type: ignore[union-attr]
    written.clear()
    await product[0].start(256)
    assert written == []
    # The small copies alone, looked at no further, would not do.
    assert recall(await found(product[0])) >= 0.9
    bare = ServerIndex("c", client=front, quantization=Quantization(type="product", oversampling=1))
    assert recall(await found(bare)) < 0.8

    await ServerIndex("c", client=front, hnsw=Hnsw(m=24), quantization=Quantization(type="scalar")).start(256)
    assert [sorted(each) for each in written] == [["hnsw_config", "quantization_config"]]
    await plain.start(256)
    config = (await front.get_collection("c")).config
    assert (config.hnsw_config.m, config.hnsw_config.ef_construct, config.quantization_config) == (16, 200, None)
    assert not config.params.vectors.on_disk  # type: ignore[union-attr]
    assert recall(await found(plain)) >= 0.95


async def test_a_collection_is_made_with_its_quantization(front: AsyncQdrantClient) -> None:
    quantization = Quantization(type="product", compression="x16")
    await ServerIndex("c", client=front, quantization=quantization).start(256)
    config = (await front.get_collection("c")).config
    assert isinstance(config.quantization_config, models.ProductQuantization)
    assert config.quantization_config.product.compression == models.CompressionRatio.X16
    assert config.params.vectors.on_disk  # type: ignore[union-attr]


async def test_the_embedded_index_takes_up_what_is_asked_for_when_it_is_opened_again(
    tmp_path: Path, embedder: WordLlamaEmbedder
) -> None:
    record = MemoryRecord(str(uuid.uuid4()), "n", "a", "text", "note", "private", "s", 0.5, {}, START)
    vector = (await embedder.embed(["text"]))[0]
    plain, product, scalar = Quantization(), Quantization(type="product"), Quantization(type="scalar")
    for hnsw, quantization in (
        (Hnsw(), plain),
        (Hnsw(m=24, ef_construct=300), product),
        (Hnsw(m=24), scalar),
        (Hnsw(), plain),
    ):
        index = EmbeddedIndex(tmp_path / "v", hnsw=hnsw, quantization=quantization)
        await index.start(256)
        await index.upsert(record, vector)
        assert [item.record for item in await index.search(vector, View("n", "a", False, Filters()), 3)] == [record]
        await index.close()
        kept = json.loads((tmp_path / "v" / "edge_config.json").read_text())
        graph = kept["vectors"][""]["hnsw_config"]
        assert (graph["m"], graph["ef_construct"]) == (hnsw.m, hnsw.ef_construct)
        if quantization is not plain:
            assert list(kept["quantization_config"]) == [quantization.type]


async def test_an_unreachable_server_is_a_memory_error() -> None:
    index = ServerIndex("c", url="http://127.0.0.1:1")
    with pytest.raises(MemoryStoreError, match="the vector store failed"):
        await index.start(256)
    await index.close()


async def test_an_unreachable_database_is_a_memory_error() -> None:
    store = RecordStore("postgresql+asyncpg://openclaw@127.0.0.1:1/openclaw")
    with pytest.raises(MemoryStoreError, match="the records store failed"):
        await store.start()


@pytest.mark.parametrize("error", [TimeoutError(), RuntimeError("the database system is starting up")])
async def test_whatever_a_driver_raises_while_it_connects_is_a_memory_error(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr("asyncpg.connect", AsyncMock(side_effect=error))
    store = RecordStore("postgresql+asyncpg://openclaw@127.0.0.1:1/openclaw")
    with pytest.raises(MemoryStoreError, match=str(error) or "TimeoutError"):
        await store.start()


async def test_the_offline_embedding_has_256_dimensions_and_length_one(embedder: WordLlamaEmbedder) -> None:
    vectors = await embedder.embed(["hello", ""])
    assert [len(vector) for vector in vectors] == [256, 256]
    assert sum(number * number for number in vectors[0]) == pytest.approx(1.0, abs=1e-5)
    assert all(number == number for number in vectors[1])


def embedding_endpoint(vector: list[float]) -> EndpointEmbedder:
    """An embedder whose endpoint answers every text with `vector`, in reverse order."""

    def answer(request: httpx2.Request) -> httpx2.Response:
        texts = json.loads(request.content)["input"]
        data = [{"object": "embedding", "index": n, "embedding": [*vector, len(texts[n])]} for n in range(len(texts))]
        usage = {"prompt_tokens": 1, "total_tokens": 1}
        return httpx2.Response(200, json={"object": "list", "data": data[::-1], "model": "m", "usage": usage})

    client = AsyncOpenAI(
        base_url="http://127.0.0.1:1/v1",
        api_key="k",
        http_client=httpx2.AsyncClient(transport=httpx2.MockTransport(answer)),
    )
    return EndpointEmbedder("m", 3, base_url=None, api_key=None, client=client)


async def test_the_endpoint_embedding_keeps_the_order_of_the_texts() -> None:
    assert await embedding_endpoint([0.0, 0.0]).embed(["a", "bb"]) == [[0.0, 0.0, 1.0], [0.0, 0.0, 2.0]]


async def test_the_endpoint_embedding_checks_the_dimensions() -> None:
    with pytest.raises(MemoryStoreError, match="embedding model m has 2 dimensions, not 3"):
        await embedding_endpoint([0.0]).embed(["a"])


async def test_an_unreachable_embedding_endpoint_is_a_memory_error() -> None:
    client = AsyncOpenAI(base_url="http://127.0.0.1:1/v1", api_key="k", max_retries=0)
    with pytest.raises(MemoryStoreError, match="the embedding endpoint failed"):
        await EndpointEmbedder("m", 3, base_url=None, api_key=None, client=client).embed(["x"])


async def test_the_files_hold_a_log_per_day_and_the_important_lines(tmp_path: Path) -> None:
    files = MemoryFiles(tmp_path / "memories")

    def record(text: str, importance: float) -> MemoryRecord:
        return MemoryRecord("1", "n", "a", text, "commit", "team", "s1", importance, {}, START)

    await files.write(record("Committed\nfeat: a", 0.9))
    await files.write(record("small talk", 0.3))
    assert (tmp_path / "memories/2026-09-21.md").read_text() == (
        "# 2026-09-21\n\n## 14:13:20 commit (session s1)\n\nCommitted\nfeat: a\n\n"
        "## 14:13:20 commit (session s1)\n\nsmall talk\n\n"
    )
    assert await files.read(1000) == "# Memory\n\n- 2026-09-21 commit: Committed feat: a\n"


async def test_no_file_reads_as_nothing(tmp_path: Path) -> None:
    assert await MemoryFiles(tmp_path / "none").read(10) == ""


def test_words_rank_by_rarity_then_by_age() -> None:
    texts = ["the cat sat", "the dog sat", "the dog ran to the dog"]
    records = [MemoryRecord(str(n), "n", "a", text, "note", "private", "", 0.5, {}, n) for n, text in enumerate(texts)]
    assert [item.record.id for item in lexical.rank("dog", records, 5)] == ["2", "1"]
    assert lexical.rank("horse", records, 5) == []
    assert lexical.rank("dog", [], 5) == []


async def plans(records: RecordStore, statements: list[tuple[str, Any]]) -> list[str]:
    """How SQLite reads the tables of records for some statements: each look into one, and each sorting."""
    async with records.transaction() as connection:
        rows = [
            (await connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)).all()
            for statement, parameters in list(statements)
        ]
    steps = [str(row[-1]) for plan in rows for row in plan]
    return [step for step in steps if " memory_records " in step or " memory_cold " in step or "ORDER BY" in step]


async def test_a_look_for_what_to_summarise_reads_a_few_entries_of_an_index(tmp_path: Path) -> None:
    records, statements = RecordStore(f"sqlite+aiosqlite:///{tmp_path}/records.db"), list[tuple[str, Any]]()
    await records.start()
    summaries = SummaryStore(records, namespace="n", agent="a", replica="r")
    event.listen(records._engine.sync_engine, "before_cursor_execute", lambda *of: statements.append(of[2:4]))
    assert await summaries.take(5, START) is None
    found = [step for step in await plans(records, statements) if "ORDER BY" not in step]
    by_kind = [step for step in found if step.endswith("_by_group (namespace=? AND agent=? AND kind>?)")]
    by_time = [step for step in found if "scope=? AND created_at>? AND created_at<?" in step]
    # The other two are where the kinds begin.
    assert (len(found), len(by_kind), len(by_time)) == (6, 2, 2)
    await records.close()


async def test_the_newest_of_a_team_are_read_in_order_and_may_be_cold(records_url: str) -> None:
    records, statements = RecordStore(records_url), list[tuple[str, Any]]()
    await records.start()
    space = uuid.uuid4().hex

    def record(agent: str, at: int, scope: Scope) -> MemoryRecord:
        return MemoryRecord(str(uuid.uuid4()), space, agent, f"{agent}{at}", "note", scope, "", 0.5, {}, float(at))

    made = [record("a", 1, "private"), record("a", 2, "team"), record("a", 3, "private"), record("b", 4, "private")]
    for each in made:
        await records.add(each, indexed=True)
    async with records.transaction() as connection:
        # Another agent's warm tier may be small, and the clock of a replica behind.
        cold = [record("b", 5, "team"), record("b", 6, "private"), record("a", 0, "team"), record("a", 7, "private")]
        await connection.execute(insert(tables.cold), [tables.cold_row(each) for each in cold])
    event.listen(records._engine.sync_engine, "before_cursor_execute", lambda *of: statements.append(of[2:4]))
    newest = await records.recent(View(space, "a", team=True), 3)
    assert [each.text for each in newest] == ["a7", "b5", "a3"]
    assert [each.text for each in await records.recent(View(space, "a", team=False), 2)] == ["a7", "a3"]
    everything = await records.recent(View(space, "a", team=True), 9)
    assert [each.text for each in everything] == ["a7", "b5", "a3", "a2", "a1", "a0"]
    if records_url.startswith("sqlite"):
        assert "USE TEMP B-TREE FOR ORDER BY" not in await plans(records, statements)
    await records.close()


async def test_replicas_add_up_what_they_spend(records_url: str) -> None:
    space = uuid.uuid4().hex
    one, two = RecordStore(records_url), RecordStore(records_url)
    await one.start()
    await asyncio.gather(
        one.spend(space, "a", [spent("x", 1), spent("y", 1)]), two.spend(space, "a", [spent("y", 2), spent("x", 3)])
    )
    await two.spend(space, "b", [spent("x", 9)])
    assert await one.spending(space, "a", "2026-11-27") == [spent("x", 4), spent("y", 3)]
    assert await one.spending(space, "a", "2026-11-28") == []
    await one.close()
    await two.close()

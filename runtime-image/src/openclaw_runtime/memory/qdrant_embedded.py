"""The vector index in process, in a folder: Qdrant's own storage engine, for a laptop or an agent without a server."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from openclaw_runtime.errors import MemoryStoreError
from openclaw_runtime.memory.qdrant_server import INDEXED_FIELDS, INDEXED_NUMBERS
from openclaw_runtime.memory.sections import Hnsw, Quantization
from openclaw_runtime.memory.types import Found, MemoryRecord, View, from_payload, to_payload, values

if TYPE_CHECKING:
    from qdrant_edge import EdgeConfig, EdgeShard, Filter

T = TypeVar("T")

_OPTIMIZE_EVERY = 1_000
_FULL_SCAN_KB = 10_000
_TRUTHS = 20


class EmbeddedIndex:
    """One shard in `path`. The engine is synchronous: all its work happens on one thread of its own."""

    def __init__(self, path: Path, *, hnsw: Hnsw | None = None, quantization: Quantization | None = None) -> None:
        self._path = path
        self._hnsw = hnsw or Hnsw()
        self._quantization = quantization or Quantization()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="vectors")
        self._shard: EdgeShard | None = None
        self._written = 0

    async def start(self, dimensions: int) -> None:
        """See `VectorIndex`."""
        self._shard = await self._run(
            lambda: _open(self._path, dimensions, _config(dimensions, self._hnsw, self._quantization))
        )

    async def close(self) -> None:
        """See `VectorIndex`. Everything is on disk afterwards."""
        if self._shard is not None:
            await self._run(self._opened.close)
            self._shard = None
        self._thread.shutdown(wait=False)

    async def ping(self) -> None:
        """See `VectorIndex`."""
        await self._run(self._opened.info)

    async def upsert(self, record: MemoryRecord, vector: Sequence[float]) -> None:
        """See `VectorIndex`."""
        from qdrant_edge import Point, UpdateOperation

        point = Point(record.id, list(vector), to_payload(record))

        def write() -> None:
            self._opened.update(UpdateOperation.upsert_points([point]))
            self._opened.flush()
            self._written += 1
            if self._written % _OPTIMIZE_EVERY == 0:
                self._opened.optimize()

        await self._run(write)

    async def delete(self, ids: Sequence[str]) -> None:
        """See `VectorIndex`."""
        from qdrant_edge import UpdateOperation

        def write() -> None:
            self._opened.update(UpdateOperation.delete_points(list(ids)))
            self._opened.flush()

        await self._run(write)

    async def search(self, vector: Sequence[float], view: View, limit: int) -> list[Found]:
        """See `VectorIndex`."""
        from qdrant_edge import QuantizationSearchParams, Query, QueryRequest, SearchParams

        # The engine cannot drop small copies it once made: without quantization it does not look at them.
        quantization = (
            QuantizationSearchParams(ignore=True)
            if self._quantization.type == "none"
            else QuantizationSearchParams(rescore=True, oversampling=self._quantization.oversampling)
        )
        request = QueryRequest(
            limit=limit * _TRUTHS if _of_truth(view) else limit,
            query=Query.Nearest(list(vector)),
            filter=_filter(view),
            params=SearchParams(hnsw_ef=self._hnsw.ef, quantization=quantization),
            with_payload=True,
        )
        points = await self._run(lambda: self._opened.query(request))
        found = [Found(from_payload(point.id, point.payload or {}), point.score) for point in points]
        return [item for item in found if view.only.match(item.record)][:limit]

    @property
    def _opened(self) -> "EdgeShard":
        if self._shard is None:
            raise MemoryStoreError("the vector store is closed")
        return self._shard

    async def _run(self, work: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except MemoryStoreError:
            raise
        except Exception as error:
            raise MemoryStoreError(f"the vector store in {self._path} failed: {error}") from error


def _config(dimensions: int, hnsw: Hnsw, quantization: Quantization) -> "EdgeConfig":
    from qdrant_edge import (
        CompressionRatio,
        Distance,
        EdgeConfig,
        EdgeVectorParams,
        HnswIndexConfig,
        ProductQuantizationConfig,
        ScalarQuantizationConfig,
        ScalarType,
    )

    graph = HnswIndexConfig(m=hnsw.m, ef_construct=hnsw.ef_construct, full_scan_threshold=_FULL_SCAN_KB)
    copies: ScalarQuantizationConfig | ProductQuantizationConfig | None = None
    if quantization.type == "scalar":
        copies = ScalarQuantizationConfig(ScalarType.Int8, always_ram=True)
    elif quantization.type == "product":
        copies = ProductQuantizationConfig(getattr(CompressionRatio, quantization.ratio.upper()), always_ram=True)
    vectors = EdgeVectorParams(
        size=dimensions, distance=Distance.Cosine, hnsw_config=graph, on_disk=copies is not None or None
    )
    return EdgeConfig(vectors=vectors, hnsw_config=graph, quantization_config=copies)


def _open(path: Path, dimensions: int, config: "EdgeConfig") -> "EdgeShard":
    from qdrant_edge import EdgeShard, PayloadSchemaType, UpdateOperation

    if path.is_dir() and any(path.iterdir()):
        shard = EdgeShard.load(str(path))
        # A closed shard only answers to queries with vectors of its own size: find out now, with a clear message.
        size = _dimensions(shard)
        if size not in (None, dimensions):
            shard.close()
            raise MemoryStoreError(
                f"{path} has vectors of {size} dimensions, the embedding has {dimensions}; "
                "choose another memory.vector_store.path or the embedding it was made with"
            )
        # What differs is taken up when the engine optimizes next.
        shard.close()
        return EdgeShard.load(str(path), config)
    path.mkdir(parents=True, exist_ok=True)
    shard = EdgeShard.create(str(path), config)
    for field in INDEXED_FIELDS:
        shard.update(UpdateOperation.create_field_index(field, PayloadSchemaType.Keyword))
    for field in INDEXED_NUMBERS:
        shard.update(UpdateOperation.create_field_index(field, PayloadSchemaType.Float))
    return shard


def _dimensions(shard: "EdgeShard") -> int | None:
    from qdrant_edge import ScrollRequest

    records, _ = shard.scroll(ScrollRequest(limit=1, with_vector=True))
    vector = records[0].vector if records else None
    return len(vector) if isinstance(vector, list) else None


def _of_truth(view: View) -> list[str]:
    """The keys of metadata that are asked for by a truth value, which the engine's filter takes for a number.

    They are looked at in what it found, of which there has to be more.
    """
    return [key for key, text in view.only.metadata.items() if text in ("true", "false")]


def _filter(view: View) -> "Filter":
    from qdrant_edge import FieldCondition, Filter, MatchAny, MatchValue, RangeFloat

    def equals(key: str, value: str) -> FieldCondition:
        return FieldCondition(key, match=MatchValue(value))

    mine, only = equals("agent", view.agent), view.only
    must: list[Any] = [equals("namespace", view.namespace)]
    must.append(Filter(should=[mine, equals("scope", "team")]) if view.team else mine)
    if only.kinds:
        must.append(FieldCondition("kind", match=MatchAny(list(only.kinds))))
    if only.since is not None or only.until is not None:
        must.append(FieldCondition("created_at", range=RangeFloat(gte=only.since, lte=only.until)))
    if only.importance:
        must.append(FieldCondition("importance", range=RangeFloat(gte=only.importance)))
    for key, text in only.metadata.items():
        if key in _of_truth(view):
            continue
        any_of = [FieldCondition(f"metadata.{key}", match=MatchValue(value)) for value in values(text)]
        must.append(Filter(should=list(any_of)))
    return Filter(must=must)

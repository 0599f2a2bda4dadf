"""The vector index on a Qdrant server."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pydantic import SecretStr

from openclaw_runtime.errors import MemoryStoreError
from openclaw_runtime.memory.sections import Hnsw, Quantization
from openclaw_runtime.memory.types import Found, MemoryRecord, View, from_payload, to_payload, values

if TYPE_CHECKING:
    from qdrant_client import AsyncQdrantClient
    from qdrant_client.models import CollectionInfo, Filter, ProductQuantization, ScalarQuantization, VectorParams

INDEXED_FIELDS = ("namespace", "agent", "scope", "kind")
INDEXED_NUMBERS = ("created_at", "importance")


class ServerIndex:
    """A collection on a Qdrant server, reached over HTTP. `client` is for tests; by default one is made from `url`."""

    def __init__(
        self,
        collection: str,
        *,
        url: str | None = None,
        api_key: SecretStr | None = None,
        client: "AsyncQdrantClient | None" = None,
        hnsw: Hnsw | None = None,
        quantization: Quantization | None = None,
    ) -> None:
        self._collection = collection
        self._url = url
        self._api_key = api_key
        self._given = client
        self._hnsw = hnsw or Hnsw()
        self._quantization = quantization or Quantization()

    @property
    def _client(self) -> "AsyncQdrantClient":
        if self._given is None:
            from qdrant_client import AsyncQdrantClient

            key = self._api_key.get_secret_value() if self._api_key else None
            with warnings.catch_warnings():
                # A key over plain HTTP is warned about; whether the network is private is the operator's to say.
                warnings.simplefilter("ignore", UserWarning)
                self._given = AsyncQdrantClient(url=self._url, api_key=key, timeout=10, check_compatibility=False)
        return self._given

    async def start(self, dimensions: int) -> None:
        """See `VectorIndex`. Safe to run from many replicas at once."""
        from qdrant_client.models import Distance, HnswConfigDiff, PayloadSchemaType, VectorParams

        with _explained():
            if not await self._client.collection_exists(self._collection):
                try:
                    await self._client.create_collection(
                        self._collection,
                        vectors_config=VectorParams(
                            size=dimensions, distance=Distance.COSINE, on_disk=self._on_disk or None
                        ),
                        hnsw_config=HnswConfigDiff(m=self._hnsw.m, ef_construct=self._hnsw.ef_construct),
                        quantization_config=self._copies(),
                    )
                except Exception:
                    # Another replica may have been faster.
                    if not await self._client.collection_exists(self._collection):
                        raise
            info = await self._client.get_collection(self._collection)
            vectors = info.config.params.vectors
            size = vectors.size if isinstance(vectors, VectorParams) else None
            if not isinstance(vectors, VectorParams) or size != dimensions:
                raise MemoryStoreError(
                    f"collection {self._collection} has vectors of {size} dimensions, the embedding has {dimensions}; "
                    "choose another memory.vector_store.collection or the embedding it was made with"
                )
            await self._tune(info, vectors)
            fields = dict.fromkeys(INDEXED_FIELDS, PayloadSchemaType.KEYWORD)
            for field, schema in (fields | dict.fromkeys(INDEXED_NUMBERS, PayloadSchemaType.FLOAT)).items():
                await self._client.create_payload_index(self._collection, field_name=field, field_schema=schema)

    @property
    def _on_disk(self) -> bool:
        """Whether the vectors themselves may leave memory: what is searched is their small copies."""
        return self._quantization.type != "none"

    def _copies(self) -> "ScalarQuantization | ProductQuantization | None":
        from qdrant_client import models

        if self._quantization.type == "scalar":
            scalar = models.ScalarQuantizationConfig(type=models.ScalarType.INT8, always_ram=True)
            return models.ScalarQuantization(scalar=scalar)
        if self._quantization.type == "product":
            ratio = models.CompressionRatio(self._quantization.ratio)
            product = models.ProductQuantizationConfig(compression=ratio, always_ram=True)
            return models.ProductQuantization(product=product)
        return None

    async def _tune(self, info: "CollectionInfo", vectors: "VectorParams") -> None:
        """Changes a collection that was made otherwise; Qdrant then builds its index anew, while it answers.

        Only what differs is written: what builds the index starts over with each change, even one to the same. Replicas
        that start together may each write, all the same.
        """
        from qdrant_client.models import Disabled, HnswConfigDiff, VectorParamsDiff

        have, copies = info.config, self._copies()
        graph = (have.hnsw_config.m, have.hnsw_config.ef_construct) != (self._hnsw.m, self._hnsw.ef_construct)
        compressed = _kind(have.quantization_config) != _kind(copies)
        moved = bool(vectors.on_disk) != self._on_disk
        if graph or compressed or moved:
            await self._client.update_collection(
                self._collection,
                hnsw_config=HnswConfigDiff(m=self._hnsw.m, ef_construct=self._hnsw.ef_construct) if graph else None,
                quantization_config=(copies or Disabled.DISABLED) if compressed else None,
                vectors_config={"": VectorParamsDiff(on_disk=self._on_disk)} if moved else None,
            )

    async def close(self) -> None:
        """See `VectorIndex`."""
        if self._given is not None:
            await self._given.close()

    async def ping(self) -> None:
        """See `VectorIndex`."""
        with _explained():
            await self._client.get_collection(self._collection)

    async def upsert(self, record: MemoryRecord, vector: Sequence[float]) -> None:
        """See `VectorIndex`."""
        from qdrant_client.models import PointStruct

        point = PointStruct(id=record.id, vector=list(vector), payload=to_payload(record))
        with _explained():
            await self._client.upsert(self._collection, points=[point], wait=True)

    async def delete(self, ids: Sequence[str]) -> None:
        """See `VectorIndex`."""
        from qdrant_client.models import PointIdsList

        with _explained():
            await self._client.delete(self._collection, PointIdsList(points=list(ids)), wait=True)

    async def search(self, vector: Sequence[float], view: View, limit: int) -> list[Found]:
        """See `VectorIndex`."""
        from qdrant_client.models import QuantizationSearchParams, SearchParams

        quantization = (
            QuantizationSearchParams(ignore=True)
            if self._quantization.type == "none"
            else QuantizationSearchParams(rescore=True, oversampling=self._quantization.oversampling)
        )
        with _explained():
            answer = await self._client.query_points(
                self._collection,
                query=list(vector),
                query_filter=_filter(view),
                search_params=SearchParams(hnsw_ef=self._hnsw.ef, quantization=quantization),
                limit=limit,
                with_payload=True,
            )
        return [Found(from_payload(point.id, point.payload or {}), point.score) for point in answer.points]


def _kind(copies: object) -> tuple[str, object]:
    """What makes two quantizations the same; a server adds fields of its own to what it shows."""
    from qdrant_client.models import ProductQuantization

    if isinstance(copies, ProductQuantization):
        return "ProductQuantization", copies.product.compression
    return type(copies).__name__, None


def _filter(view: View) -> "Filter":
    from qdrant_client.models import Condition, FieldCondition, Filter, MatchAny, MatchValue, Range

    def equals(key: str, value: str) -> FieldCondition:
        return FieldCondition(key=key, match=MatchValue(value=value))

    mine, only = equals("agent", view.agent), view.only
    must: list[Condition] = [equals("namespace", view.namespace)]
    must.append(Filter(should=[mine, equals("scope", "team")]) if view.team else mine)
    if only.kinds:
        must.append(FieldCondition(key="kind", match=MatchAny(any=list(only.kinds))))
    if only.since is not None or only.until is not None:
        must.append(FieldCondition(key="created_at", range=Range(gte=only.since, lte=only.until)))
    if only.importance:
        must.append(FieldCondition(key="importance", range=Range(gte=only.importance)))
    for key, text in only.metadata.items():
        any_of = [FieldCondition(key=f"metadata.{key}", match=MatchValue(value=value)) for value in values(text)]
        must.append(Filter(should=list(any_of)))
    return Filter(must=must)


@contextmanager
def _explained() -> Iterator[None]:
    """Turns what the client raises into `MemoryStoreError`."""
    try:
        yield
    except MemoryStoreError:
        raise
    except Exception as error:
        raise MemoryStoreError(f"the vector store failed: {str(error) or type(error).__name__}") from error

"""Points, vectors, collection parameters and indexes: JSON ↔ the engine's objects. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import qdrant_edge as edge

from tests.cluster.qdrant_front.errors import BadRequestError, UnsupportedError

Json = Mapping[str, Any]

DISTANCES = {
    "Cosine": edge.Distance.Cosine,
    "Euclid": edge.Distance.Euclid,
    "Dot": edge.Distance.Dot,
    "Manhattan": edge.Distance.Manhattan,
}
DATATYPES = {
    "float32": edge.VectorStorageDatatype.Float32,
    "float16": edge.VectorStorageDatatype.Float16,
    "uint8": edge.VectorStorageDatatype.Uint8,
}
COMPRESSION = {
    "x4": edge.CompressionRatio.X4,
    "x8": edge.CompressionRatio.X8,
    "x16": edge.CompressionRatio.X16,
    "x32": edge.CompressionRatio.X32,
    "x64": edge.CompressionRatio.X64,
}
SCHEMA_TYPES = {
    "keyword": edge.PayloadSchemaType.Keyword,
    "integer": edge.PayloadSchemaType.Integer,
    "float": edge.PayloadSchemaType.Float,
    "geo": edge.PayloadSchemaType.Geo,
    "text": edge.PayloadSchemaType.Text,
    "bool": edge.PayloadSchemaType.Bool,
    "datetime": edge.PayloadSchemaType.Datetime,
    "uuid": edge.PayloadSchemaType.Uuid,
}
SCHEMA_NAMES = {str(kind): name for name, kind in SCHEMA_TYPES.items()}
TOKENIZERS = {
    "prefix": edge.TokenizerType.Prefix,
    "whitespace": edge.TokenizerType.Whitespace,
    "word": edge.TokenizerType.Word,
    "multilingual": edge.TokenizerType.Multilingual,
}
INDEX_PARAMETERS: dict[str, tuple[Any, tuple[str, ...]]] = {
    "keyword": (edge.KeywordIndexParams, ("is_tenant", "on_disk")),
    "integer": (edge.IntegerIndexParams, ("lookup", "range", "is_principal", "on_disk")),
    "float": (edge.FloatIndexParams, ("is_principal", "on_disk")),
    "geo": (edge.GeoIndexParams, ("on_disk",)),
    "bool": (edge.BoolIndexParams, ("on_disk",)),
    "datetime": (edge.DatetimeIndexParams, ("is_principal", "on_disk")),
    "uuid": (edge.UuidIndexParams, ("is_tenant", "on_disk")),
    "text": (
        edge.TextIndexParams,
        ("tokenizer", "min_token_len", "max_token_len", "lowercase", "phrase_matching", "on_disk"),
    ),
}
BM25_MODELS = frozenset({"qdrant/bm25"})
HNSW_DEFAULTS = {"m": 16, "ef_construct": 100, "full_scan_threshold": 10000, "max_indexing_threads": 0}
HNSW_FIELDS = ("m", "ef_construct", "full_scan_threshold", "max_indexing_threads", "on_disk", "payload_m")


# --- collections ------------------------------------------------------------------------------------------------------
def parse_config(given: Json) -> edge.EdgeConfig:
    """The body of PUT /collections/NAME → the engine's configuration. Raises BadRequestError."""
    vectors = given.get("vectors") or {}
    dense = (
        {"": parse_vector_params(vectors)}
        if "size" in vectors
        else {name: parse_vector_params(each) for name, each in vectors.items()}
    )
    sparse = {name: parse_sparse_params(each) for name, each in (given.get("sparse_vectors") or {}).items()}
    return edge.EdgeConfig(
        vectors=dense or None,
        sparse_vectors=sparse or None,
        on_disk_payload=given.get("on_disk_payload"),
        hnsw_config=parse_hnsw(given.get("hnsw_config")),
        quantization_config=parse_quantization(given.get("quantization_config")),
        optimizers=edge.EdgeOptimizersConfig(
            indexing_threshold=(given.get("optimizers_config") or {}).get("indexing_threshold")
        ),
    )


def parse_vector_params(given: Json) -> edge.EdgeVectorParams:
    if given.get("distance") not in DISTANCES:
        raise BadRequestError(f"distance: {given.get('distance')!r} is not one of {', '.join(DISTANCES)}")
    multi = given.get("multivector_config")
    datatype = given.get("datatype")
    return edge.EdgeVectorParams(
        size=given["size"],
        distance=DISTANCES[given["distance"]],
        on_disk=given.get("on_disk"),
        multivector_config=edge.MultiVectorConfig(edge.MultiVectorComparator.MaxSim) if multi else None,
        datatype=DATATYPES[datatype] if datatype else None,
        quantization_config=parse_quantization(given.get("quantization_config")),
        hnsw_config=parse_hnsw(given.get("hnsw_config")),
    )


def parse_sparse_params(given: Json | None) -> edge.EdgeSparseVectorParams:
    given = given or {}
    index = given.get("index") or {}
    return edge.EdgeSparseVectorParams(
        full_scan_threshold=index.get("full_scan_threshold"),
        on_disk=index.get("on_disk"),
        modifier=edge.Modifier.Idf if given.get("modifier") == "idf" else None,
    )


def parse_hnsw(given: Json | None) -> edge.HnswIndexConfig | None:
    if not given:
        return None
    chosen = {name: given[name] for name in HNSW_FIELDS if given.get(name) is not None}
    return edge.HnswIndexConfig(**{**HNSW_DEFAULTS, **chosen})


def parse_quantization(given: Json | None) -> Any:
    if not given:
        return None
    if scalar := given.get("scalar"):
        return edge.ScalarQuantizationConfig(
            edge.ScalarType.Int8, quantile=scalar.get("quantile"), always_ram=scalar.get("always_ram")
        )
    if product := given.get("product"):
        return edge.ProductQuantizationConfig(COMPRESSION[product["compression"]], always_ram=product.get("always_ram"))
    if (binary := given.get("binary")) is not None:
        return edge.BinaryQuantizationConfig(always_ram=binary.get("always_ram"))
    raise UnsupportedError(f"the quantization {', '.join(given)}")


def parse_index(schema: Any) -> Any:
    """`field_schema` of PUT …/index: a type, or an object with the type and its parameters."""
    kind = schema if isinstance(schema, str) else schema.get("type")
    if kind not in SCHEMA_TYPES:
        raise BadRequestError(f"field_schema: {kind!r} is not one of {', '.join(SCHEMA_TYPES)}")
    if isinstance(schema, str):
        return SCHEMA_TYPES[kind]
    make, names = INDEX_PARAMETERS[kind]
    chosen = {name: schema[name] for name in names if schema.get(name) is not None}
    if "tokenizer" in chosen:
        chosen["tokenizer"] = TOKENIZERS[chosen["tokenizer"]]
    return make(**chosen)


# --- points -----------------------------------------------------------------------------------------------------------
def parse_points(given: Json) -> list[edge.Point]:
    """Either {"points": […]} or {"batch": {"ids", "vectors", "payloads"}}."""
    if "batch" in given:
        batch = given["batch"]
        ids, vectors = batch["ids"], batch["vectors"]
        payloads = batch.get("payloads") or [None] * len(ids)
        if isinstance(vectors, dict):
            vectors = [{name: column[row] for name, column in vectors.items()} for row in range(len(ids))]
        rows = zip(ids, vectors, payloads, strict=True)
        return [edge.Point(point_id, parse_vectors(vector), payload or {}) for point_id, vector, payload in rows]
    if "points" not in given:
        raise BadRequestError("neither `points` nor `batch` is given")
    return [
        edge.Point(each["id"], parse_vectors(each["vector"]), each.get("payload") or {}) for each in given["points"]
    ]


def parse_vectors(given: Any) -> Any:
    """All vectors of a point: the unnamed one, or name → vector."""
    if isinstance(given, dict) and not _is_single(given):
        return {name: parse_vector(each) for name, each in given.items()}
    vector = parse_vector(given)
    return {"": vector} if isinstance(vector, edge.SparseVector) else vector


def parse_vector(given: Any, *, query: bool = False) -> Any:
    """A dense, sparse or multi vector, or a text for the built-in BM25 model."""
    if not isinstance(given, dict):
        return given
    if "indices" in given:
        return edge.SparseVector(given["indices"], given["values"])
    if "text" in given:
        if str(given.get("model", "")).lower() not in BM25_MODELS:
            raise UnsupportedError(f"the embedding model {given.get('model')!r}")
        model = edge.Bm25()
        return model.embed_query(given["text"]) if query else model.embed_document(given["text"])
    raise BadRequestError(f"not a vector: {given}")


def _is_single(given: Json) -> bool:
    return "indices" in given or "text" in given


def vector_json(vector: Any) -> Any:
    if isinstance(vector, dict):
        return {name: vector_json(each) for name, each in vector.items()}
    if isinstance(vector, edge.SparseVector):
        return {"indices": list(vector.indices), "values": list(vector.values)}
    return vector


def point_id_json(point_id: Any) -> int | str:
    return point_id if isinstance(point_id, int) else str(point_id)


def record_json(record: edge.Record | edge.ScoredPoint, **more: Any) -> dict[str, Any]:
    """A point as Qdrant returns it; absent parts are left out."""
    result = {"id": point_id_json(record.id), **more}
    if record.payload is not None:
        result["payload"] = record.payload
    if record.vector is not None:
        result["vector"] = vector_json(record.vector)
    if record.order_value is not None:
        result["order_value"] = record.order_value
    return result


def scored_json(point: edge.ScoredPoint) -> dict[str, Any]:
    return record_json(point, version=point.version, score=point.score)


def parse_with_payload(given: Any) -> Any:
    if isinstance(given, dict):
        if given.get("include") is not None:
            return edge.PayloadSelector.Include(given["include"])
        return edge.PayloadSelector.Exclude(given.get("exclude") or [])
    return given

"""The REST front against qdrant-client's own local mode: the same calls must give the same answers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from qdrant_client import QdrantClient, models
from qdrant_client.http.exceptions import UnexpectedResponse

from tests.cluster.processes import poll
from tests.cluster.qdrant_front.app import create_app

KEY = "a-test-key"
WORDS = ("red", "green", "blue")


@contextmanager
def serving(storage: Path) -> Iterator[str]:
    """The front on a free loopback port; stopped in order, as SIGTERM would."""
    config = uvicorn.Config(create_app(storage, storage / "snapshots", KEY), port=0, log_level="warning")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        assert poll(lambda: server.started, seconds=20)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(tmp_path_factory.mktemp("storage")) as address:
        yield address


@pytest.fixture
def front(url: str) -> Iterator[QdrantClient]:
    client = QdrantClient(url=url, api_key=KEY, timeout=60)
    yield client
    for collection in client.get_collections().collections:
        client.delete_collection(collection.name)
    client.close()


@pytest.fixture
def local() -> QdrantClient:
    return QdrantClient(":memory:")


def vector(number: int) -> list[float]:
    return [1.0 + number % 7, 2.0 + number % 5, 3.0 - number % 3, float(number % 2) + 0.25]


def fill(client: QdrantClient, name: str = "notes", count: int = 30) -> None:
    """Dense and sparse vectors, with payload of every kind."""
    client.create_collection(
        name,
        vectors_config={"dense": models.VectorParams(size=4, distance=models.Distance.COSINE)},
        sparse_vectors_config={"words": models.SparseVectorParams(modifier=models.Modifier.IDF)},
    )
    points = [
        models.PointStruct(
            id=number,
            vector={
                "dense": vector(number),
                "words": models.SparseVector(
                    indices=[number % 4, 4 + number % 5], values=[1.0 + number / 100, 0.5 + number]
                ),
            },
            payload={
                "number": number,
                "importance": number / 10,
                "word": WORDS[number % 3],
                "tags": [WORDS[number % 3], "all"],
                "at": f"2026-01-{number + 1:02}T00:00:00Z",
                "kept": number % 2 == 0,
                "deep": {"value": number % 4},
            },
        )
        for number in range(count)
    ]
    client.upsert(name, points)


def scored(response: models.QueryResponse) -> list[tuple[Any, float]]:
    """Equal scores have no order of their own."""
    pairs = [(point.id, round(point.score, 4)) for point in response.points]
    return sorted(pairs, key=lambda pair: (-pair[1], pair[0]))


def scores(response: models.QueryResponse) -> list[float]:
    return [round(point.score, 4) for point in response.points]


KEYED = models.FieldCondition
FILTERS = {
    "value": models.Filter(must=[KEYED(key="word", match=models.MatchValue(value="red"))]),
    "any": models.Filter(must=[KEYED(key="word", match=models.MatchAny(any=["red", "blue"]))]),
    "except": models.Filter(must=[KEYED(key="word", match=models.MatchExcept(**{"except": ["red"]}))]),
    "array": models.Filter(must=[KEYED(key="tags", match=models.MatchValue(value="green"))]),
    "bool": models.Filter(must_not=[KEYED(key="kept", match=models.MatchValue(value=True))]),
    "range": models.Filter(must=[KEYED(key="importance", range=models.Range(gte=0.7, lt=2.0))]),
    "time": models.Filter(must=[KEYED(key="at", range=models.DatetimeRange(gt="2026-01-10T00:00:00Z"))]),
    "deep": models.Filter(should=[KEYED(key="deep.value", match=models.MatchValue(value=3))]),
    "ids": models.Filter(must=[models.HasIdCondition(has_id=[1, 5, 9, 99])]),
    "empty": models.Filter(must=[models.IsEmptyCondition(is_empty=models.PayloadField(key="absent"))]),
    "both": models.Filter(
        must=[KEYED(key="number", range=models.Range(lt=20))],
        must_not=[models.Filter(must=[KEYED(key="word", match=models.MatchValue(value="blue"))])],
    ),
    "some": models.Filter(
        min_should=models.MinShould(
            conditions=[
                KEYED(key="word", match=models.MatchValue(value="red")),
                KEYED(key="kept", match=models.MatchValue(value=True)),
                KEYED(key="number", range=models.Range(gt=25)),
            ],
            min_count=2,
        )
    ),
}


@pytest.mark.parametrize("chosen", FILTERS.values(), ids=FILTERS.keys())
def test_filters_choose_the_same_points(front: QdrantClient, local: QdrantClient, chosen: models.Filter) -> None:
    def ids(client: QdrantClient) -> list[Any]:
        fill(client)
        assert client.count("notes", count_filter=chosen).count == len(
            client.scroll("notes", scroll_filter=chosen, limit=100)[0]
        )
        return [record.id for record in client.scroll("notes", scroll_filter=chosen, limit=100)[0]]

    expected = ids(local)
    assert expected
    assert ids(front) == expected


def hybrid(**fusion: Any) -> Callable[[QdrantClient], models.QueryResponse]:
    def query(client: QdrantClient) -> models.QueryResponse:
        return client.query_points(
            "notes",
            prefetch=[
                models.Prefetch(query=[1.0, 2.0, 3.0, 0.1], using="dense", limit=8),
                models.Prefetch(query=models.SparseVector(indices=[1, 6], values=[1.0, 1.0]), using="words", limit=8),
            ],
            limit=6,
            **fusion,
        )

    return query


QUERIES: dict[str, Callable[[QdrantClient], models.QueryResponse]] = {
    "nearest": lambda client: client.query_points("notes", query=[1.0, 2.0, 3.0, 0.1], using="dense", limit=7),
    "by id": lambda client: client.query_points("notes", query=3, using="dense", limit=7),
    "filtered": lambda client: client.query_points(
        "notes", query=[3.0, 2.0, 1.0, 0.1], using="dense", query_filter=FILTERS["range"], limit=5, offset=2
    ),
    "threshold": lambda client: client.query_points(
        "notes", query=[1.0, 2.0, 3.0, 0.1], using="dense", score_threshold=0.97, limit=30
    ),
    "sparse": lambda client: client.query_points(
        "notes", query=models.SparseVector(indices=[1, 6], values=[1.0, 2.0]), using="words", limit=6
    ),
    "rrf": hybrid(query=models.FusionQuery(fusion=models.Fusion.RRF)),
    "dbsf": hybrid(query=models.FusionQuery(fusion=models.Fusion.DBSF)),
    "two stages": lambda client: client.query_points(
        "notes",
        prefetch=models.Prefetch(query=[1.0, 2.0, 3.0, 0.1], using="dense", limit=10),
        query=[3.0, 2.0, 1.0, 0.1],
        using="dense",
        limit=4,
    ),
    "formula": lambda client: client.query_points(
        "notes",
        prefetch=models.Prefetch(query=[1.0, 2.0, 3.0, 0.1], using="dense", limit=10),
        query=models.FormulaQuery(
            formula=models.SumExpression(sum=["$score", models.MultExpression(mult=[0.3, "importance"])])
        ),
        limit=5,
    ),
}


@pytest.mark.parametrize("query", QUERIES.values(), ids=QUERIES.keys())
def test_queries_give_the_same_scores(
    front: QdrantClient, local: QdrantClient, query: Callable[[QdrantClient], models.QueryResponse]
) -> None:
    for client in (front, local):
        fill(client)
    expected = query(local)
    assert expected.points
    assert scores(query(front)) == pytest.approx(scores(expected), abs=2e-4)


def test_every_changing_call_leaves_the_same_points(front: QdrantClient, local: QdrantClient) -> None:
    def change(client: QdrantClient) -> list[Any]:
        fill(client, count=12)
        client.set_payload("notes", {"new": True}, points=[1, 2])
        client.set_payload("notes", {"word": "grey"}, points=FILTERS["value"])
        client.overwrite_payload("notes", {"only": 1}, points=[3])
        client.delete_payload("notes", ["tags"], points=[4])
        client.clear_payload("notes", points_selector=[5])
        client.delete("notes", points_selector=[6])
        client.delete(
            "notes", points_selector=models.Filter(must=[KEYED(key="number", match=models.MatchValue(value=7))])
        )
        client.update_vectors("notes", [models.PointVectors(id=8, vector={"dense": [0.0, 1.0, 0.0, 0.0]})])
        client.delete_vectors("notes", ["words"], points=[9])
        client.batch_update_points(
            "notes",
            [
                models.SetPayloadOperation(set_payload=models.SetPayload(payload={"batch": 1}, points=[10])),
                models.DeleteOperation(delete=models.PointIdsList(points=[11])),
            ],
        )
        return sorted(client.scroll("notes", limit=100)[0], key=lambda record: record.id)

    expected = change(local)
    assert [(record.id, record.payload or {}) for record in change(front)] == [
        (record.id, record.payload or {}) for record in expected
    ]
    assert front.retrieve("notes", [9], with_vectors=True)[0].vector.keys() == {"dense"}  # type: ignore[union-attr]
    moved = front.retrieve("notes", [8], with_vectors=["dense"])[0].vector
    assert moved == {"dense": [0.0, 1.0, 0.0, 0.0]}


def test_scrolling_in_pages_and_in_order(front: QdrantClient) -> None:
    fill(front)
    first, offset = front.scroll("notes", limit=20)
    second, end = front.scroll("notes", limit=20, offset=offset)
    assert [record.id for record in first + second] == list(range(30))
    assert end is None
    front.create_payload_index("notes", "importance", models.PayloadSchemaType.FLOAT)
    newest, _ = front.scroll(
        "notes", limit=2, order_by=models.OrderBy(key="importance", direction=models.Direction.DESC)
    )
    assert [record.id for record in newest] == [29, 28]


def test_payload_selection_and_uuid_ids(front: QdrantClient) -> None:
    front.create_collection("ids", vectors_config=models.VectorParams(size=2, distance=models.Distance.DOT))
    name = "550e8400-e29b-41d4-a716-446655440000"
    front.upsert("ids", models.Batch(ids=[name], vectors=[[1.0, 2.0]], payloads=[{"a": 1, "b": 2}]))
    record = front.retrieve("ids", [name], with_payload=["a"], with_vectors=True)[0]
    assert (record.id, record.payload, record.vector) == (name, {"a": 1}, [1.0, 2.0])
    assert front.retrieve("ids", [1]) == []


def test_collection_parameters_are_kept(front: QdrantClient) -> None:
    front.create_collection(
        "tuned",
        vectors_config=models.VectorParams(size=256, distance=models.Distance.COSINE),
        hnsw_config=models.HnswConfigDiff(m=16, ef_construct=200),
        quantization_config=models.ProductQuantization(
            product=models.ProductQuantizationConfig(compression=models.CompressionRatio.X16, always_ram=True)
        ),
    )
    front.create_payload_index("tuned", "type", models.PayloadSchemaType.KEYWORD)
    front.create_payload_index("tuned", "at", models.DatetimeIndexParams(type=models.DatetimeIndexType.DATETIME))
    info = front.get_collection("tuned")
    assert info.status == models.CollectionStatus.GREEN
    assert info.config.params.vectors.size == 256  # type: ignore[union-attr]
    assert info.config.hnsw_config.ef_construct == 200
    assert set(info.payload_schema) == {"type", "at"}
    front.delete_payload_index("tuned", "type")
    assert set(front.get_collection("tuned").payload_schema) == {"at"}
    front.update_collection("tuned", hnsw_config=models.HnswConfigDiff(ef_construct=300))
    assert front.get_collection("tuned").config.hnsw_config.ef_construct == 300
    scalar = models.ScalarQuantization(
        scalar=models.ScalarQuantizationConfig(type=models.ScalarType.INT8, always_ram=True)
    )
    disk = {"": models.VectorParamsDiff(on_disk=True)}
    front.update_collection("tuned", quantization_config=scalar, vectors_config=disk)
    config = front.get_collection("tuned").config
    assert (config.quantization_config, config.params.vectors.on_disk) == (scalar, True)  # type: ignore[union-attr]
    front.update_collection("tuned", quantization_config=models.Disabled.DISABLED)
    assert front.get_collection("tuned").config.quantization_config is None


def test_collections_and_aliases(front: QdrantClient) -> None:
    fill(front, "one", 3)
    assert front.collection_exists("one")
    assert not front.collection_exists("two")
    create = models.CreateAlias(collection_name="one", alias_name="current")
    front.update_collection_aliases([models.CreateAliasOperation(create_alias=create)])
    assert front.count("current").count == 3
    assert [each.alias_name for each in front.get_aliases().aliases] == ["current"]
    assert [each.name for each in front.get_collections().collections] == ["one"]
    front.delete_collection("one")
    assert front.get_aliases().aliases == []


def test_facets_count_values(front: QdrantClient) -> None:
    fill(front)
    front.create_payload_index("notes", "word", models.PayloadSchemaType.KEYWORD)
    hits = front.facet("notes", "word", exact=True).hits
    assert {hit.value: hit.count for hit in hits} == {"red": 10, "green": 10, "blue": 10}


def test_a_snapshot_brings_a_collection_back(front: QdrantClient, url: str) -> None:
    fill(front)
    snapshot = front.create_snapshot("notes")
    assert snapshot is not None
    assert [each.name for each in front.list_snapshots("notes")] == [snapshot.name]
    headers = {"api-key": KEY}
    content = httpx.get(f"{url}/collections/notes/snapshots/{snapshot.name}", headers=headers, timeout=60).content
    assert len(content) == snapshot.size
    front.delete("notes", points_selector=list(range(20)))
    upload = httpx.post(
        f"{url}/collections/notes/snapshots/upload",
        params={"priority": "snapshot", "checksum": snapshot.checksum or ""},
        files={"snapshot": (snapshot.name, content)},
        headers=headers,
        timeout=60,
    )
    assert upload.json()["result"] is True
    assert front.count("notes").count == 30
    location = f"{url}/collections/notes/snapshots/{snapshot.name}"
    assert front.recover_snapshot("copy", location, api_key=KEY)
    assert front.count("copy").count == 30
    assert front.query_points("copy", query=[1.0, 2.0, 3.0, 0.1], using="dense", limit=1).points
    assert front.delete_snapshot("notes", snapshot.name)
    assert front.list_snapshots("notes") == []


def test_a_broken_snapshot_changes_nothing(front: QdrantClient, url: str) -> None:
    fill(front, count=5)
    answer = httpx.post(
        f"{url}/collections/notes/snapshots/upload",
        files={"snapshot": b"nonsense"},
        headers={"api-key": KEY},
        timeout=60,
    )
    assert answer.status_code == 400
    assert "restore snapshot" in answer.json()["status"]["error"]
    assert front.count("notes").count == 5


def test_data_survives_a_restart(tmp_path: Path) -> None:
    with serving(tmp_path) as url:
        client = QdrantClient(url=url, api_key=KEY, timeout=60)
        fill(client)
        client.create_payload_index("notes", "word", models.PayloadSchemaType.KEYWORD)
        before = client.query_points("notes", query=[1.0, 2.0, 3.0, 0.1], using="dense", limit=3)
        client.close()
    with serving(tmp_path) as url:
        client = QdrantClient(url=url, api_key=KEY, timeout=60)
        assert scored(client.query_points("notes", query=[1.0, 2.0, 3.0, 0.1], using="dense", limit=3)) == scored(
            before
        )
        assert set(client.get_collection("notes").payload_schema) == {"word"}
        client.close()


def test_bm25_documents_are_embedded_by_the_front(front: QdrantClient, url: str) -> None:
    body = {"sparse_vectors": {"bm25": {"modifier": "idf"}}}
    headers = {"api-key": KEY}
    httpx.put(f"{url}/collections/texts", json=body, headers=headers).raise_for_status()
    points = [
        {"id": number, "vector": {"bm25": {"text": text, "model": "qdrant/bm25"}}}
        for number, text in enumerate(["the agent committed the work", "a cat sleeps", "work on the garden"])
    ]
    httpx.put(f"{url}/collections/texts/points", json={"points": points}, headers=headers).raise_for_status()
    query = {"query": {"text": "cats", "model": "qdrant/bm25"}, "using": "bm25"}
    answer = httpx.post(f"{url}/collections/texts/points/query", json=query, headers=headers, timeout=60).json()
    assert [point["id"] for point in answer["result"]["points"]] == [1]


@pytest.mark.parametrize(
    ("call", "status", "message"),
    [
        (lambda client: client.count("absent"), 404, "Collection `absent` doesn't exist"),
        (lambda client: fill(client), 409, "already exists"),
        (lambda client: client.query_points("notes", query=[1.0], using="dense"), 400, "expected dim: 4, got 1"),
        (lambda client: client.query_points("notes", query=[1.0], using="none"), 400, "none"),
        (
            lambda client: client.query_points(
                "notes", query=models.RecommendQuery(recommend=models.RecommendInput(positive=[1])), using="dense"
            ),
            501,
            "recommend is not supported by this front",
        ),
        (lambda client: client.recover_snapshot("notes", "file:///nowhere"), 400, "does not exist"),
    ],
    ids=["no collection", "twice", "dimension", "vector name", "unsupported", "no snapshot"],
)
def test_errors_have_the_shape_of_qdrant(
    front: QdrantClient, call: Callable[[QdrantClient], Any], status: int, message: str
) -> None:
    fill(front, count=3)
    with pytest.raises(UnexpectedResponse) as caught:
        call(front)
    assert caught.value.status_code == status
    assert message in caught.value.structured()["status"]["error"]


def test_the_key_is_required_but_for_health(url: str) -> None:
    assert httpx.get(f"{url}/collections", timeout=60).status_code == 401
    assert httpx.get(f"{url}/collections", headers={"api-key": "wrong"}, timeout=60).status_code == 401
    assert httpx.get(f"{url}/collections", headers={"authorization": f"Bearer {KEY}"}, timeout=60).status_code == 200
    assert httpx.get(f"{url}/metrics", timeout=60).status_code == 401
    for path in ("/", "/healthz", "/livez", "/readyz"):
        assert httpx.get(url + path, timeout=60).status_code == 200


def test_it_says_what_it_is_and_counts(front: QdrantClient, url: str) -> None:
    fill(front, count=4)
    assert "test equipment" in httpx.get(url, timeout=60).json()["title"]
    headers = {"api-key": KEY}
    assert 'collection_points{id="notes"} 4' in httpx.get(f"{url}/metrics", headers=headers, timeout=60).text
    assert (
        httpx.get(f"{url}/telemetry", headers=headers, timeout=60).json()["result"]["collections"][
            "number_of_collections"
        ]
        == 1
    )

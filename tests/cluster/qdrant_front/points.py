"""What a request does to the points of one collection. Every function takes (collection, body) and blocks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import qdrant_edge as edge

from tests.cluster.qdrant_front.errors import BadRequestError
from tests.cluster.qdrant_front.filters import parse_filter
from tests.cluster.qdrant_front.queries import parse_order_by, parse_query_request
from tests.cluster.qdrant_front.store import Collection, engine_errors
from tests.cluster.qdrant_front.translate import (
    parse_points,
    parse_vectors,
    parse_with_payload,
    point_id_json,
    record_json,
    scored_json,
)

Body = dict[str, Any]
UPDATE = edge.UpdateOperation
DEFAULT_SCROLL = 10
UPSERT_MODES = {
    "upsert": edge.UpdateMode.Upsert,
    "insert_only": edge.UpdateMode.InsertOnly,
    "update_only": edge.UpdateMode.UpdateOnly,
}


def upsert(collection: Collection, body: Body) -> Body:
    points = parse_points(body)
    mode = body.get("update_mode")
    operation = UPDATE.upsert_points(
        points, parse_filter(body.get("update_filter")), UPSERT_MODES[mode] if mode else None
    )
    return collection.update(operation, len(points))


def delete(collection: Collection, body: Body) -> Body:
    return collection.update(_selected(body, UPDATE.delete_points, UPDATE.delete_points_by_filter))


def set_payload(collection: Collection, body: Body) -> Body:
    arguments = (body["payload"], body.get("key"))
    return collection.update(_selected(body, UPDATE.set_payload, UPDATE.set_payload_by_filter, *arguments))


def overwrite_payload(collection: Collection, body: Body) -> Body:
    arguments = (body["payload"], body.get("key"))
    return collection.update(_selected(body, UPDATE.overwrite_payload, UPDATE.overwrite_payload_by_filter, *arguments))


def delete_payload(collection: Collection, body: Body) -> Body:
    return collection.update(_selected(body, UPDATE.delete_payload, UPDATE.delete_payload_by_filter, body["keys"]))


def clear_payload(collection: Collection, body: Body) -> Body:
    return collection.update(_selected(body, UPDATE.clear_payload, UPDATE.clear_payload_by_filter))


def update_vectors(collection: Collection, body: Body) -> Body:
    points = [edge.PointVectors(each["id"], parse_vectors(each["vector"])) for each in body["points"]]
    return collection.update(UPDATE.update_vectors(points, parse_filter(body.get("update_filter"))), len(points))


def delete_vectors(collection: Collection, body: Body) -> Body:
    return collection.update(_selected(body, UPDATE.delete_vectors, UPDATE.delete_vectors_by_filter, body["vector"]))


BATCH: dict[str, Callable[[Collection, Body], Body]] = {
    "upsert": upsert,
    "delete": delete,
    "set_payload": set_payload,
    "overwrite_payload": overwrite_payload,
    "delete_payload": delete_payload,
    "clear_payload": clear_payload,
    "update_vectors": update_vectors,
    "delete_vectors": delete_vectors,
}


def batch(collection: Collection, body: Body) -> list[Body]:
    results = []
    for operation in body["operations"]:
        name, arguments = next(iter(operation.items()))
        if name not in BATCH:
            raise BadRequestError(f"unknown operation {name!r}: one of {', '.join(BATCH)}")
        results.append(BATCH[name](collection, arguments))
    return results


def query(collection: Collection, body: Body) -> Body:
    request = parse_query_request(body, collection.vector_of)
    with collection.lock, engine_errors():
        return {"points": [scored_json(point) for point in collection.shard.query(request)]}


def query_batch(collection: Collection, body: Body) -> list[Body]:
    return [query(collection, each) for each in body["searches"]]


def scroll(collection: Collection, body: Body) -> Body:
    request = edge.ScrollRequest(
        offset=body.get("offset"),
        limit=body.get("limit") or DEFAULT_SCROLL,
        filter=parse_filter(body.get("filter")),
        with_payload=_default(parse_with_payload(body.get("with_payload")), default=True),
        with_vector=_default(body.get("with_vector"), default=False),
        order_by=parse_order_by(body.get("order_by")),
    )
    with collection.lock, engine_errors():
        records, offset = collection.shard.scroll(request)
    following = None if offset is None else point_id_json(offset)
    return {"points": [record_json(record) for record in records], "next_page_offset": following}


def retrieve(collection: Collection, body: Body) -> list[Body]:
    with_payload = _default(parse_with_payload(body.get("with_payload")), default=True)
    with_vector = _default(body.get("with_vector"), default=False)
    with collection.lock, engine_errors():
        return [record_json(each) for each in collection.shard.retrieve(body["ids"], with_payload, with_vector)]


def count(collection: Collection, body: Body) -> Body:
    exact = _default(body.get("exact"), default=True)
    with collection.lock, engine_errors():
        return {"count": collection.shard.count(edge.CountRequest(exact, parse_filter(body.get("filter"))))}


def facet(collection: Collection, body: Body) -> Body:
    request = edge.FacetRequest(
        body["key"], body.get("limit") or 10, bool(body.get("exact")), parse_filter(body.get("filter"))
    )
    with collection.lock, engine_errors():
        hits = collection.shard.facet(request).hits
    return {"hits": [{"value": hit.value, "count": hit.count} for hit in hits]}


def _selected(body: Body, by_ids: Callable[..., Any], by_filter: Callable[..., Any], *arguments: Any) -> Any:
    """An operation on {"points": ids} or on {"filter": …}."""
    if body.get("points") is not None:
        return by_ids(body["points"], *arguments)
    chosen = parse_filter(body.get("filter"))
    if body.get("filter") is None:
        raise BadRequestError("neither `points` nor `filter` is given")
    return by_filter(chosen if chosen is not None else edge.Filter(), *arguments)


def _default(value: Any, *, default: bool) -> Any:
    return default if value is None else value

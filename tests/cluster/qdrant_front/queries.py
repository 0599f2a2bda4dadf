"""Qdrant's universal query (https://qdrant.tech/documentation/concepts/hybrid-queries/) → the engine's. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeGuard

import qdrant_edge as edge

from tests.cluster.qdrant_front.errors import BadRequestError, UnsupportedError
from tests.cluster.qdrant_front.filters import parse_condition, parse_filter
from tests.cluster.qdrant_front.translate import parse_vector, parse_with_payload

Json = Mapping[str, Any]
Lookup = Callable[[Any, str], Any]
"""(point id, vector name) → that point's vector."""

DEFAULT_LIMIT = 10
RRF_K = 2
MMR_CANDIDATES = 100
EXPRESSION = edge.Expression
UNARY: dict[str, Callable[[Any], Any]] = {
    "neg": EXPRESSION.Neg,
    "abs": EXPRESSION.Abs,
    "sqrt": EXPRESSION.Sqrt,
    "exp": EXPRESSION.Exp,
    "ln": EXPRESSION.Ln,
    "log10": EXPRESSION.Log10,
}
LISTS: dict[str, Callable[[Any], Any]] = {"mult": EXPRESSION.Mult, "sum": EXPRESSION.Sum}
DECAYS = {
    "lin_decay": edge.DecayKind.Lin,
    "gauss_decay": edge.DecayKind.Gauss,
    "exp_decay": edge.DecayKind.Exp,
}


def parse_query_request(given: Json, lookup: Lookup) -> edge.QueryRequest:
    """The body of POST …/points/query. Raises BadRequestError, UnsupportedError."""
    if given.get("lookup_from"):
        raise UnsupportedError("lookup_from")
    return edge.QueryRequest(
        limit=given.get("limit") or DEFAULT_LIMIT,
        offset=given.get("offset"),
        query=parse_query(given.get("query"), given.get("using"), lookup),
        prefetches=parse_prefetches(given.get("prefetch"), lookup),
        with_vector=given.get("with_vector"),
        with_payload=parse_with_payload(given.get("with_payload")),
        filter=with_exclusion(given),
        score_threshold=given.get("score_threshold"),
        params=parse_params(given.get("params")),
    )


def with_exclusion(given: Json) -> edge.Filter | None:
    """A point that is the query is not its own answer."""
    filters = parse_filter(given.get("filter"))
    query = given.get("query")
    query = query.get("nearest") if isinstance(query, dict) and "nearest" in query else query
    if not is_point_id(query):
        return filters
    own = edge.HasIdCondition({query})
    return edge.Filter(must=[filters] if filters is not None else None, must_not=[own])


def is_point_id(query: Any) -> TypeGuard[int | str]:
    return isinstance(query, int | str) and not isinstance(query, bool)


def parse_prefetches(given: Any, lookup: Lookup) -> list[edge.Prefetch] | None:
    if not given:
        return None
    return [
        edge.Prefetch(
            limit=each.get("limit") or DEFAULT_LIMIT,
            query=parse_query(each.get("query"), each.get("using"), lookup),
            prefetches=parse_prefetches(each.get("prefetch"), lookup),
            params=parse_params(each.get("params")),
            filter=with_exclusion(each),
            score_threshold=each.get("score_threshold"),
        )
        for each in (given if isinstance(given, list) else [given])
    ]


def parse_params(given: Json | None) -> edge.SearchParams | None:
    if not given:
        return None
    quantization = given.get("quantization")
    return edge.SearchParams(
        hnsw_ef=given.get("hnsw_ef"),
        exact=bool(given.get("exact")),
        indexed_only=bool(given.get("indexed_only")),
        quantization=None
        if quantization is None
        else edge.QuantizationSearchParams(
            ignore=bool(quantization.get("ignore")),
            rescore=quantization.get("rescore"),
            oversampling=quantization.get("oversampling"),
        ),
    )


def parse_query(given: Any, using: str | None, lookup: Lookup) -> Any:
    """None means: all points in the order of their ids."""
    if given is None:
        return None
    if isinstance(given, dict):
        for name, parse in SPECIAL.items():
            if name in given:
                return parse(given, using, lookup)
        for name in ("recommend", "discover", "context", "relevance_feedback"):
            if name in given:
                raise UnsupportedError(f"the query {name}")
    return edge.Query.Nearest(_target(given, using, lookup), using=using)


def _target(given: Any, using: str | None, lookup: Lookup) -> Any:
    if is_point_id(given):
        return lookup(given, using or "")
    return parse_vector(given, query=True)


def _nearest(given: Json, using: str | None, lookup: Lookup) -> Any:
    target = _target(given["nearest"], using, lookup)
    diversity = given.get("mmr")
    if diversity is None:
        return edge.Query.Nearest(target, using=using)
    relevance = 1.0 - (0.5 if diversity.get("diversity") is None else diversity["diversity"])
    return edge.Mmr(target, relevance, diversity.get("candidates_limit") or MMR_CANDIDATES, using=using)


def _fusion(given: Json, *_: Any) -> Any:
    kinds = {"rrf": lambda: edge.Fusion.Rrf(k=RRF_K), "dbsf": edge.Fusion.Dbsf}
    if given["fusion"] not in kinds:
        raise BadRequestError(f"fusion: {given['fusion']!r} is not one of {', '.join(kinds)}")
    return kinds[given["fusion"]]()


def _rrf(given: Json, *_: Any) -> Any:
    return edge.Fusion.Rrf(k=given["rrf"].get("k") or RRF_K, weights=given["rrf"].get("weights"))


def parse_order_by(given: Any) -> edge.OrderBy | None:
    """A key, or {"key", "direction": "asc"|"desc", "start_from"}."""
    if given is None:
        return None
    if isinstance(given, str):
        return edge.OrderBy(given)
    direction = {"asc": edge.Direction.Asc, "desc": edge.Direction.Desc}[given.get("direction") or "asc"]
    return edge.OrderBy(given["key"], direction, given.get("start_from"))


def _order_by(given: Json, *_: Any) -> Any:
    return parse_order_by(given["order_by"])


def _sample(*_: Any) -> Any:
    return edge.Sample.Random


def _formula(given: Json, *_: Any) -> Any:
    return edge.Formula(parse_expression(given["formula"]), given.get("defaults") or {})


SPECIAL: dict[str, Callable[..., Any]] = {
    "nearest": _nearest,
    "fusion": _fusion,
    "rrf": _rrf,
    "order_by": _order_by,
    "sample": _sample,
    "formula": _formula,
}


def parse_expression(given: Any) -> Any:
    """The formula of a score boost: numbers, payload keys, conditions and arithmetic."""
    if isinstance(given, int | float):
        return EXPRESSION.Constant(float(given))
    if isinstance(given, str):
        return EXPRESSION.Variable(given)
    if len(given) == 1:
        name, value = next(iter(given.items()))
        if name in UNARY:
            return UNARY[name](parse_expression(value))
        if name in LISTS:
            return LISTS[name]([parse_expression(each) for each in value])
        if name in DECAYS:
            return _decay(DECAYS[name], value)
        if name == "div":
            left, right = parse_expression(value["left"]), parse_expression(value["right"])
            return EXPRESSION.Div(left, right, value.get("by_zero_default"))
        if name == "pow":
            return EXPRESSION.Pow(parse_expression(value["base"]), parse_expression(value["exponent"]))
        if name == "datetime":
            return EXPRESSION.Datetime(value)
        if name == "datetime_key":
            return EXPRESSION.DatetimeKey(value)
        if name == "geo_distance":
            raise UnsupportedError("geo_distance")
    return EXPRESSION.Condition(parse_condition(given))


def _decay(kind: Any, given: Json) -> Any:
    target = given.get("target")
    return EXPRESSION.Decay(
        kind,
        parse_expression(given["x"]),
        None if target is None else parse_expression(target),
        given.get("midpoint"),
        given.get("scale"),
    )

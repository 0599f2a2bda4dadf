"""Qdrant's filter JSON → the engine's objects (https://qdrant.tech/documentation/concepts/filtering/)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import qdrant_edge as edge

from tests.cluster.qdrant_front.errors import BadRequestError, UnsupportedError

Json = Mapping[str, Any]


class EngineBool:
    """True or False for the engine. It takes Python's own bool, an int, for 1 or 0; numpy's is taken for what it is."""

    def __init__(self, value: bool) -> None:
        self.value = value

    def __bool__(self) -> bool:
        return self.value


EngineBool.__module__, EngineBool.__name__ = "numpy", "bool_"


def match_value(value: Any) -> edge.MatchValue:
    return edge.MatchValue(EngineBool(value) if isinstance(value, bool) else value)  # type: ignore[arg-type]


MATCHES: dict[str, Callable[[Any], Any]] = {
    "value": match_value,
    "text": edge.MatchText,
    "text_any": edge.MatchTextAny,
    "phrase": edge.MatchPhrase,
    "prefix": edge.MatchPrefix,
    "any": edge.MatchAny,
    "except": edge.MatchExcept,
}


def parse_filter(given: Json | None) -> edge.Filter | None:
    """A filter, or None for none. Raises BadRequestError."""
    if not given:
        return None
    unknown = set(given) - {"must", "should", "must_not", "min_should"}
    if unknown:
        raise BadRequestError(f"unknown filter field: {', '.join(sorted(unknown))}")
    minimum = given.get("min_should")
    return edge.Filter(
        must=_conditions(given.get("must")),
        should=_conditions(given.get("should")),
        must_not=_conditions(given.get("must_not")),
        min_should=None
        if minimum is None
        else edge.MinShould(_conditions(minimum["conditions"]) or [], minimum["min_count"]),
    )


def _conditions(given: Any) -> list[Any] | None:
    if given is None:
        return None
    return [parse_condition(each) for each in (given if isinstance(given, list) else [given])]


def parse_condition(given: Json) -> Any:
    if "key" in given:
        return _field(given)
    if "has_id" in given:
        return edge.HasIdCondition(set(given["has_id"]))
    if "has_vector" in given:
        return edge.HasVectorCondition(given["has_vector"])
    if "is_empty" in given:
        return edge.IsEmptyCondition(given["is_empty"]["key"])
    if "is_null" in given:
        return edge.IsNullCondition(given["is_null"]["key"])
    if "nested" in given:
        nested = parse_filter(given["nested"]["filter"])
        if nested is None:
            raise BadRequestError("nested: the filter is empty")
        return edge.NestedCondition(given["nested"]["key"], nested)
    found = parse_filter(given)
    return edge.Filter() if found is None else found


def _field(given: Json) -> Any:
    for name in ("geo_bounding_box", "geo_radius", "geo_polygon"):
        if given.get(name) is not None:
            raise UnsupportedError(f"the condition {name}")
    count = given.get("values_count")
    return edge.FieldCondition(
        given["key"],
        match=_match(given.get("match")),
        range=_range(given.get("range")),
        values_count=None if count is None else edge.ValuesCount(**_given(count)),
        is_empty=given.get("is_empty"),
        is_null=given.get("is_null"),
    )


def _match(given: Json | None) -> Any:
    if given is None:
        return None
    for name, make in MATCHES.items():
        if given.get(name) is not None:
            return make(given[name])
    raise BadRequestError(f"unknown match: {dict(given)}")


def _range(given: Json | None) -> Any:
    """Numbers or RFC 3339 times, never both."""
    if given is None:
        return None
    bounds = _given(given)
    if any(isinstance(value, str) for value in bounds.values()):
        return edge.RangeDateTime(**bounds)
    return edge.RangeFloat(**bounds)


def _given(mapping: Json) -> dict[str, Any]:
    return {key: value for key, value in mapping.items() if value is not None}

"""Values and mutations from the structural OpenAPI schema of a CRD.

Only what CRDs may hold is covered: https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

Schema = dict[str, Any]
MOST_ITEMS = 3
_ASCII = st.characters(codec="ascii", exclude_categories=["Cc"])
_PLAIN_KEY = st.from_regex(r"[a-z][a-z0-9-]{0,8}[a-z0-9]", fullmatch=True)
_FREE_VALUE: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**31), 2**31) | st.text(_ASCII, max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_PLAIN_KEY, inner, max_size=3),
    max_leaves=6,
)


def values(schema: Schema, names: Sequence[str]) -> st.SearchStrategy[Any]:
    """Values the schema allows; CEL rules are left to the API server. `names` are names of objects that exist."""
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if schema.get("x-kubernetes-int-or-string"):
        return st.integers(0, 2**40) | _strings(schema, ())
    match schema.get("type"):
        case "object":
            return _objects(schema, names)
        case "array":
            return _arrays(schema, names)
        case "string":
            return _strings(schema, names)
        case "integer":
            return st.integers(schema.get("minimum", -(2**31)), schema.get("maximum", 2**31 - 1))
        case "number":
            low, high = schema.get("minimum"), schema.get("maximum")
            open_low = bool(schema.get("exclusiveMinimum", False))
            return st.floats(low, high, exclude_min=open_low, allow_nan=False, allow_infinity=False, width=32)
        case "boolean":
            return st.booleans()
    raise ValueError(f"schema of unknown shape: {sorted(schema)}")


def _objects(schema: Schema, names: Sequence[str]) -> st.SearchStrategy[Any]:
    if schema.get("x-kubernetes-preserve-unknown-fields"):
        return st.dictionaries(_PLAIN_KEY, _FREE_VALUE, max_size=3)
    if "additionalProperties" in schema:
        inner = values(schema["additionalProperties"], names)
        return st.dictionaries(_PLAIN_KEY, inner, min_size=schema.get("minProperties", 0), max_size=MOST_ITEMS)
    required = set(schema.get("required", ()))
    properties = {name: values(child, names) for name, child in schema.get("properties", {}).items()}
    return st.fixed_dictionaries(
        {name: value for name, value in properties.items() if name in required},
        optional={name: value for name, value in properties.items() if name not in required},
    )


def _arrays(schema: Schema, names: Sequence[str]) -> st.SearchStrategy[Any]:
    least = schema.get("minItems", 0)
    most = max(least, min(schema.get("maxItems", MOST_ITEMS), MOST_ITEMS))
    keys: Sequence[str] = schema.get("x-kubernetes-list-map-keys", ())
    unique = bool(keys) or schema.get("x-kubernetes-list-type") == "set"

    def identity(item: Any) -> str:
        return str([item.get(key) for key in keys] if keys else item)

    unique_by = identity if unique else None
    return st.lists(values(schema["items"], names), min_size=least, max_size=most, unique_by=unique_by)


def _strings(schema: Schema, names: Sequence[str]) -> st.SearchStrategy[str]:
    least, most = schema.get("minLength", 0), schema.get("maxLength", 4096)
    if "pattern" in schema:
        text = st.from_regex(schema["pattern"], fullmatch=True, alphabet=_ASCII)
    else:
        text = st.text(_ASCII, min_size=least, max_size=min(most, 200)) | st.text(
            min_size=least, max_size=min(most, 20)
        )
        # The longest there may be.
        text |= st.just("x" * most)
    text = text.filter(lambda value: least <= len(value) <= most and "\n" not in value)
    return st.sampled_from(list(names)) | text if names and most == 253 else text


@st.composite
def mutations(draw: st.DrawFn, schema: Schema, value: Any, names: Sequence[str]) -> Any:
    """`value` with one thing in it changed: set, added or removed, at any depth."""
    if isinstance(value, dict) and "properties" in schema:
        return _mutate_object(draw, schema, value, names)
    if isinstance(value, list) and value and schema.get("type") == "array":
        index = draw(st.integers(0, len(value) - 1))
        match draw(st.sampled_from(["change", "remove", "replace"])):
            case "change":
                return [*value[:index], draw(mutations(schema["items"], value[index], names)), *value[index + 1 :]]
            case "remove":
                return [*value[:index], *value[index + 1 :]]
    return draw(values(schema, names))


def _mutate_object(draw: st.DrawFn, schema: Schema, value: dict[str, Any], names: Sequence[str]) -> Any:
    changed = copy.deepcopy(value)
    field = draw(st.sampled_from(sorted(schema["properties"])))
    child = schema["properties"][field]
    if field not in value:
        changed[field] = draw(values(child, names))
    elif field not in schema.get("required", ()) and draw(st.integers(0, 3)) == 0:
        del changed[field]
    else:
        changed[field] = draw(mutations(child, value[field], names))
    return changed

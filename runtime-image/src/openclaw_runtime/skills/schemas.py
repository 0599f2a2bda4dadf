"""JSON Schemas of skills, checked so that no schema or input can hold up the gateway, and nothing is fetched."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from functools import cache, lru_cache
from typing import Any, Final

import jsonschema
import re2
from jsonschema.protocols import Validator
from referencing import Registry
from referencing.exceptions import Unresolvable

from openclaw_runtime.sandbox.jsonrpc import canonical_sha256

MAX_STEPS: Final = 200_000
"""Keywords looked at for one value: about a second. References to oneself could go on for ever."""
_steps: ContextVar[int] = ContextVar("steps")

_LITERAL: Final = frozenset({"const", "enum", "default", "examples"})
"""Keywords whose values are data, not schemas."""


def unusable(schema: object) -> str | None:
    """Returns what makes a schema unsafe or unusable here, or None.

    Nothing is ever fetched, so a reference to another document could only fail at the first call. Patterns are RE2,
    which takes time linear in the input: anybody may write that.
    """
    pending: list[tuple[str, object]] = [("", schema)]
    while pending:
        where, node = pending.pop()
        if isinstance(node, list):
            pending.extend((f"{where}[{index}]", item) for index, item in enumerate(node))
        if not isinstance(node, dict):
            continue
        if where and isinstance(node.get("$schema"), str):
            return f"{where}.$schema: only the whole schema may name its dialect"
        for key in ("$ref", "$dynamicRef", "$recursiveRef"):
            target = node.get(key)
            if isinstance(target, str) and not target.startswith("#"):
                return f"{where}.{key}: {target[:200]!r} is another document and is never fetched; refer to #/$defs/..."
        for pattern in _patterns(node):
            try:
                re2.compile(pattern)
            except re2.error as error:
                text = error.args[0].decode() if isinstance(error.args[0], bytes) else str(error)
                return f"{where}.pattern: {pattern[:200]!r} is no RE2 expression ({text}); RE2 has no lookaround"
        pending.extend((f"{where}.{key}", value) for key, value in node.items() if key not in _LITERAL)
    return None


def _patterns(node: dict[str, Any]) -> list[str]:
    found = [node["pattern"]] if isinstance(node.get("pattern"), str) else []
    keyed = node.get("patternProperties")
    return found + ([key for key in keyed if isinstance(key, str)] if isinstance(keyed, dict) else [])


class _TooManyStepsError(Exception):
    """The value cannot be checked within the bound."""


class InvalidSchemaError(ValueError):
    """The schema cannot be used. `str()` says why."""


def check_schema(schema: Mapping[str, Any], field: str) -> None:
    """Raises ValueError, naming the field, for what is not a JSON Schema, or not one that can be used here."""
    kind = jsonschema.validators.validator_for(dict(schema), default=jsonschema.Draft202012Validator)
    try:
        kind.check_schema(dict(schema))
    except jsonschema.SchemaError as error:
        where = ".".join([field, *(str(part) for part in error.absolute_path)])
        raise InvalidSchemaError(f"{where}: {error.message[:300]}") from None
    except RecursionError:
        raise InvalidSchemaError(f"{field}: nested too deeply") from None
    if problem := unusable(dict(schema)):
        raise InvalidSchemaError(f"{field}{problem}")


def first_error(schema: Mapping[str, Any], value: Any, field: str) -> str | None:
    """Returns what is wrong with a value, with its path, or None.

    Raises `InvalidSchemaError` for a schema that cannot be used, or that takes too long over this value.
    """
    token = _steps.set(0)
    try:
        error = jsonschema.exceptions.best_match(_compiled(json.dumps(schema, sort_keys=True)).iter_errors(value))
    except Unresolvable as unresolvable:
        raise InvalidSchemaError(f"{unresolvable}; refer to #/$defs/... only") from None
    except (_TooManyStepsError, RecursionError):
        raise InvalidSchemaError(f"more than {MAX_STEPS} steps to check {field}; simplify it, or the schema") from None
    finally:
        _steps.reset(token)
    if error is None:
        return None
    where = ".".join([field, *(str(part) for part in error.absolute_path)])
    return f"{where}: {error.message}"


@lru_cache(maxsize=256)
def _compiled(schema: str) -> Validator:
    parsed = json.loads(schema)
    check_schema(parsed, "schema")
    kind = jsonschema.validators.validator_for(parsed, default=jsonschema.Draft202012Validator)
    # An empty registry: a reference to another document is an error, never a download.
    validator: Validator = _bounded(kind)(parsed, registry=Registry())
    return validator


@cache
def _bounded(kind: Any) -> Any:
    """Returns a dialect whose keywords count their steps and take linear time each."""
    ours = {"pattern": _pattern, "patternProperties": _pattern_properties, "uniqueItems": _unique_items}
    keywords = {name: _counted(ours.get(name, keyword)) for name, keyword in kind.VALIDATORS.items()}
    return jsonschema.validators.extend(kind, keywords)  # type: ignore[no-untyped-call]


def _counted(keyword: Callable[..., Any]) -> Callable[..., Any]:
    def counted(validator: Any, value: Any, instance: Any, schema: Any) -> Any:
        steps = _steps.get() + 1
        if steps > MAX_STEPS:
            raise _TooManyStepsError
        _steps.set(steps)
        return keyword(validator, value, instance, schema)

    return counted


@lru_cache(maxsize=1024)
def _expression(pattern: str) -> Any:
    return re2.compile(pattern)


def _pattern(validator: Any, pattern: str, instance: Any, schema: Any) -> Iterator[jsonschema.ValidationError]:
    del schema
    if validator.is_type(instance, "string") and not _expression(pattern).search(instance):
        yield jsonschema.ValidationError(f"{instance!r} does not match {pattern!r}")


def _pattern_properties(validator: Any, patterns: Any, instance: Any, schema: Any) -> Iterator[Any]:
    del schema
    if not validator.is_type(instance, "object"):
        return
    for pattern, subschema in patterns.items():
        for key, value in instance.items():
            if _expression(pattern).search(key):
                yield from validator.descend(value, subschema, path=key, schema_path=pattern)


def _unique_items(validator: Any, wanted: Any, instance: Any, schema: Any) -> Iterator[jsonschema.ValidationError]:
    del schema
    if wanted and validator.is_type(instance, "array") and len({canonical_sha256(i) for i in instance}) < len(instance):
        yield jsonschema.ValidationError("some items are there twice")

"""What a skill's JSON Schema and Python code must not be, whoever wrote them. The gateway checks schemas alike."""

from __future__ import annotations

import ast
from typing import Any, Final

import re2

MAX_SOURCE_BYTES: Final = 1024 * 1024

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


def syntax_error(path: str, source: bytes) -> str | None:
    """Returns where a Python file cannot be compiled, or None. Larger files are left to the sandbox."""
    if len(source) > MAX_SOURCE_BYTES:
        return None
    try:
        ast.parse(source, filename=path)
    except SyntaxError as error:
        return f"{path} line {error.lineno}: {error.msg}"
    except (ValueError, RecursionError, MemoryError) as error:
        return f"{path}: {error}"
    return None

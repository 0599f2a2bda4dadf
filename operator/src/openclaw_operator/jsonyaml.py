"""JSON that means the same to whoever reads it as YAML: the API server an apply, a program its mounted file. Pure."""

from __future__ import annotations

import json
import re

import orjson

# What YAML does not take as it is, or takes for the end of a line: https://yaml.org/spec/1.1/#id868518.
_NOT_YAML = re.compile("[\\x7f-\\x9f\\u2028\\u2029\\ud800-\\udfff\\ufeff\\ufffe\\uffff]")


def dumps(value: object, *, indent: int | None = None) -> str:
    """The text of JSON data; without `indent` as short as can be.

    YAML knows no surrogate pairs, so characters are written as they are, and only those that it reads otherwise are
    escaped.
    """
    if indent is None and (short := ascii_only(value)) is not None and b"\x7f" not in short:
        return short.decode()
    separators = (",", ":") if indent is None else None
    text = json.dumps(value, indent=indent, separators=separators, ensure_ascii=False)
    if text.isascii() and "\x7f" not in text:
        return text
    return _NOT_YAML.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def ascii_only(value: object, *, sort_keys: bool = False) -> bytes | None:
    """The short text where it is all ASCII, as nearly always, made a few times faster than by `json`; or None."""
    try:
        text = orjson.dumps(value, option=orjson.OPT_SORT_KEYS if sort_keys else None)
    except TypeError:
        # Numbers of more than 64 bits, and halves of surrogate pairs.
        return None
    return text if text.isascii() else None

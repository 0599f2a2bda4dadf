"""Reading what a model answered. A package holds all it runs, so each skill that needs this file has a copy of it."""

from __future__ import annotations

import json
import re
from typing import Any

_FENCE = re.compile(r"^```[^\n]*\n(?P<body>.*?)^```", re.DOTALL | re.MULTILINE)


class ReplyError(ValueError):
    """The reply is not of the form that was asked for. `str()` is one line."""


def json_in(text: str) -> Any:
    """Returns the JSON value of a reply: alone, in a code fence, or after some words. Raises ReplyError."""
    candidates = [text, *(match["body"] for match in _FENCE.finditer(text))]
    starts = [at for at in (text.find("{"), text.find("[")) if at >= 0]
    decoder = json.JSONDecoder()
    for candidate in candidates:
        try:
            return json.loads(candidate)
        except ValueError:
            continue
    for start in sorted(starts):
        try:
            return decoder.raw_decode(text, start)[0]
        except ValueError:
            continue
    raise ReplyError(f"the reply holds no JSON; it begins with {text.strip()[:60]!r}")


def code_in(text: str) -> str:
    """Returns the longest code fence of a reply, or all of it where there is none."""
    fences = [match["body"] for match in _FENCE.finditer(text)]
    return max(fences, key=len) if fences else text

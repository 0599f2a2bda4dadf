"""Asking a model and reading its answers. A package holds all it runs: each skill that needs this has a copy of it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, TypeVar

_FENCE = re.compile(r"^```[^\n]*\n(?P<body>.*?)^```", re.DOTALL | re.MULTILINE)
_T = TypeVar("_T")


class ReplyError(ValueError):
    """The reply is not of the form that was asked for. `str()` is one line."""


async def ask(ctx: Any, prompt: Callable[[str], str], read: Callable[[str], _T]) -> _T:
    """Returns what `read` makes of the model's answer, which it may correct once.

    `prompt` is given the line that says what was wrong before, "" at first. Raises ReplyError with what still is.
    """
    try:
        return read(await ctx.llm.generate(prompt("")))
    except ReplyError as error:
        again = f"Your last answer was refused: {error}. Correct that.\n"
    return read(await ctx.llm.generate(prompt(again)))


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

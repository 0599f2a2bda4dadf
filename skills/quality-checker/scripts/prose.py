"""Rules for texts, Markdown or plain."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from finding import Finding

_WORD = re.compile(r"\w[\w'\u2019-]*")
# No pattern may look at a character again and again: a text may have one line of 400,000.
_HEADING = re.compile(r"(#{1,6})\s+(?=\S)")
_UNDONE = re.compile(
    r"\b(?:TODO|FIXME|XXX|TBD)\b|lorem ipsum|\{\{[^{}]{0,200}\}\}|<(?:your|insert)[^<>]{0,200}>", re.IGNORECASE
)
_EMPTY_LINK = re.compile(r"\]\(\s{0,9}#?\s{0,9}\)")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")
_FENCE = re.compile(r"^\s*(```|~~~)")


def check(text: str, rules: dict[str, Any]) -> list[Finding]:
    """Returns what is wrong with a text, in the order of its lines; what concerns all of it comes first."""
    lines = list(_outside_code(text.splitlines()))
    found = list(_length(text, rules))
    found += _phrases(text, lines, rules)
    found += _headings(lines, rules.get("headings", ()))
    for number, line in lines:
        if undone := _UNDONE.search(line):
            found.append(Finding("error", "undone", f"{undone[0]!r} stands for something not done", number))
        if _EMPTY_LINK.search(line):
            found.append(Finding("error", "link", "a link has no target", number))
    found += _sentences(lines, rules.get("maxSentenceWords", 45))
    return sorted(found, key=lambda each: each.line or 0)


def _outside_code(lines: Iterable[str]) -> Iterator[tuple[int, str]]:
    """The numbered lines that are not in a code fence."""
    fence = ""
    for number, line in enumerate(lines, 1):
        mark = _FENCE.match(line)
        if mark and fence in {"", mark[1]}:
            fence = "" if fence else mark[1]
        elif not fence:
            yield number, line


def _length(text: str, rules: dict[str, Any]) -> Iterator[Finding]:
    words = len(_WORD.findall(text))
    if words < rules.get("minWords", 0):
        yield Finding("error", "length", f"{words} words, at least {rules['minWords']} are wanted")
    if words > rules.get("maxWords", words):
        yield Finding("error", "length", f"{words} words, at most {rules['maxWords']} are wanted")


def _phrases(text: str, lines: Iterable[tuple[int, str]], rules: dict[str, Any]) -> Iterator[Finding]:
    folded = text.casefold()
    for phrase in rules.get("mustContain", ()):
        if phrase.casefold() not in folded:
            yield Finding("error", "missing", f"{phrase!r} does not occur")
    banned = [(phrase, _whole(phrase)) for phrase in rules.get("mustNotContain", ())]
    for number, line in lines:
        for phrase, pattern in banned:
            if pattern.search(line):
                yield Finding("error", "banned", f"{phrase!r} must not occur", number)


def _whole(phrase: str) -> re.Pattern[str]:
    """A phrase as whole words: `cat` is not in `concatenate`."""
    return re.compile(rf"(?<!\w){re.escape(phrase)}(?!\w)", re.IGNORECASE)


def _headings(lines: Iterable[tuple[int, str]], wanted: Iterable[str]) -> Iterator[Finding]:
    titles, before = set(), 0
    for number, line in lines:
        if heading := _HEADING.match(line):
            level = len(heading[1])
            titles.add(line[heading.end() :].rstrip().rstrip("#").rstrip().casefold())
            if before and level > before + 1:
                yield Finding("warning", "heading", f"heading of level {level} follows one of level {before}", number)
            before = level
    for title in wanted:
        if title.casefold() not in titles:
            yield Finding("error", "heading", f"the heading {title!r} is missing")


def _sentences(lines: Iterable[tuple[int, str]], most: int) -> Iterator[Finding]:
    """Sentences may go over lines; a paragraph, a heading and an item of a list end one."""
    start, text = 0, ""
    for number, line in [*lines, (0, "")]:
        begins = not line.strip() or re.match(r"^\s*(?:[-*+]|\d+\.|#|\||>)", line)
        if begins and text:
            yield from _long(start, text, most)
            text = ""
        if line.strip() and not line.lstrip().startswith("|"):
            start = start if text else number
            text += line + "\n"


def _long(start: int, text: str, most: int) -> Iterator[Finding]:
    at = 0
    for part in _SENTENCE_END.split(text):
        words = len(_WORD.findall(part))
        if words > most:
            line = start + text.count("\n", 0, text.find(part, at))
            yield Finding("warning", "sentence", f"a sentence of {words} words, at most {most} are wanted", line)
        at = text.find(part, at) + len(part)

"""The part of YAML 1.2 that configuration files use: reading and writing without a library.

Read: block mappings and sequences, flow collections, plain and quoted scalars, literal and folded blocks, comments,
several documents. Anchors, aliases, tags and complex keys are refused by name. A package holds all it runs, so each
skill that needs this file has a copy of it. https://yaml.org/spec/1.2.2/
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

_INT = re.compile(r"^[-+]?[0-9]{1,400}$")
_BASED = re.compile(r"^0(?:x[0-9a-fA-F]+|o[0-7]+)$")
_FLOAT = re.compile(r"^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$")
_CONSTANTS = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
}  # fmt: skip
_KEY = re.compile(
    r"""^("(?:[^"\\]|\\.)*"|'(?:[^']|'')*'|(?:[^\s#&*!|>%@`"'\[\]{},?:-]|[?:-](?=\S))(?:[^:#]|:(?=\S)|(?<=\S)#)*?)"""
    r"""\s*:(?=\s|$)"""
)
_BLOCK = re.compile(r"^([|>])([+-]?)([1-9]?)([+-]?)\s*(?:#.*)?$")
_PLAIN = re.compile(r"^[A-Za-z_/][A-Za-z0-9_ ./()*+-]*$")
_ESCAPES = {"0": "\0", "a": "\a", "b": "\b", "t": "\t", "n": "\n", "v": "\v", "f": "\f", "r": "\r", "e": "\x1b"}
_ESCAPES |= {" ": " ", '"': '"', "/": "/", "\\": "\\", "_": "\xa0"}
_MAX_DEPTH = 60


class YamlError(ValueError):
    """Text that is not in this part of YAML. `str()` is `line N: what`; `line` is N."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(f"line {line}: {message}")
        self.line = line


@dataclass(frozen=True)
class _Line:
    number: int
    indent: int
    text: str


def load_all(text: str) -> list[Any]:
    """Returns the documents of a text. Raises YamlError."""
    raw = re.split(r"\r\n|\r|\n", text)
    documents: list[Any] = []
    start = 0
    for at, line in enumerate([*raw, "---"]):
        if re.match(r"^(---|\.\.\.)(\s|$)", line):
            body = raw[start:at]
            if any(item.strip() and not item.lstrip().startswith("#") for item in body):
                documents.append(_Reader(body, start).document())
            rest = line[3:].strip()
            if rest and not rest.startswith("#") and at < len(raw):
                raw[at] = "   " + rest
                start = at
            else:
                start = at + 1
    return documents


def load(text: str) -> Any:
    """Returns the one document of a text, None if it is empty. Raises YamlError."""
    documents = load_all(text)
    if len(documents) > 1:
        raise YamlError(1, f"{len(documents)} documents where one is expected")
    return documents[0] if documents else None


class _Reader:
    def __init__(self, raw: list[str], offset: int) -> None:
        self._raw = raw
        self._offset = offset
        self._at = 0
        self._depth = 0

    def document(self) -> Any:
        line = self._peek()
        assert line is not None
        value = self._node(line.indent)
        left = self._peek()
        if left is not None:
            raise YamlError(left.number, f"{left.text[:40]!r} does not fit the lines above; check its indentation")
        return value

    def _peek(self) -> _Line | None:
        while self._at < len(self._raw):
            text = self._raw[self._at]
            stripped = text.lstrip(" ")
            if stripped and not stripped.startswith("#") and stripped.strip():
                if stripped.startswith("\t"):
                    raise YamlError(self._number(), "a tab indents this line; use spaces")
                if stripped.startswith("%") and len(stripped) == len(text):
                    raise YamlError(self._number(), "directives are not supported; remove the % line")
                return _Line(self._number(), len(text) - len(stripped), stripped.rstrip())
            self._at += 1
        return None

    def _number(self) -> int:
        return self._offset + self._at + 1

    def _node(self, indent: int) -> Any:
        """Reads the block at `indent`; the reader stands on its first line."""
        line = self._peek()
        assert line is not None
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise YamlError(line.number, f"nested deeper than {_MAX_DEPTH} levels")
        try:
            if _is_item(line.text):
                return self._sequence(indent)
            if _KEY.match(line.text):
                return self._mapping(indent)
            self._at += 1
            return self._value(line.text, line.number, indent - 1)
        finally:
            self._depth -= 1

    def _sequence(self, indent: int) -> list[Any]:
        items: list[Any] = []
        while (line := self._peek()) is not None and line.indent == indent and _is_item(line.text):
            rest = line.text[1:].lstrip(" ")
            inner = indent + len(line.text) - len(rest)
            if rest and not rest.startswith("#") and (_is_item(rest) or _KEY.match(rest)):
                # "- key: value": the rest is a block of its own at the column where it begins.
                self._raw[self._at] = " " * inner + rest
                items.append(self._node(inner))
            else:
                self._at += 1
                items.append(self._value_or_block(rest, line.number, indent, allow_same_indent=False))
        return items

    def _mapping(self, indent: int) -> dict[str, Any]:
        values: dict[str, Any] = {}
        while (line := self._peek()) is not None and line.indent == indent:
            match = _KEY.match(line.text)
            if match is None:
                raise YamlError(line.number, f"{line.text[:40]!r} is no 'key: value'")
            key = _scalar(match[1], line.number)
            name = key if isinstance(key, str) else match[1]
            if name in values:
                raise YamlError(line.number, f"the key {name!r} is there twice; remove one")
            self._at += 1
            rest = line.text[match.end() :].strip()
            values[name] = self._value_or_block(rest, line.number, indent, allow_same_indent=True)
        return values

    def _value_or_block(self, rest: str, number: int, indent: int, *, allow_same_indent: bool) -> Any:
        if rest and not rest.startswith("#"):
            return self._value(rest, number, indent)
        following = self._peek()
        if following is not None and following.indent > indent:
            return self._node(following.indent)
        if allow_same_indent and following is not None and following.indent == indent and _is_item(following.text):
            return self._node(indent)
        return None

    def _value(self, text: str, number: int, indent: int) -> Any:
        """Reads a value that begins on a line and may go on below it, indented deeper than `indent`."""
        if text[0] in "&*!":
            raise YamlError(number, f"{text.split()[0]!r}: anchors, aliases and tags are not supported; write it out")
        if block := _BLOCK.match(text):
            return self._block(block, indent)
        if text[0] in "[{":
            return self._flow(text, number, indent)
        if text[0] in "\"'":
            return self._quoted(text, number, indent)
        parts = [_uncomment(text)]
        if parts[0] != text:
            return _scalar(parts[0], number)
        while (line := self._peek()) is not None and line.indent > indent:
            if _KEY.match(line.text):
                raise YamlError(line.number, f"{line.text[:40]!r} does not fit the lines above; check its indentation")
            parts.append(_uncomment(line.text))
            self._at += 1
        return _scalar(" ".join(parts), number)

    def _quoted(self, text: str, number: int, indent: int) -> str:
        while _quote_end(text) is None:
            line = self._peek()
            if line is None or line.indent <= indent:
                raise YamlError(number, "a quote is not closed")
            text += " " + line.text
            self._at += 1
        end = _quote_end(text)
        rest = text[end:].strip()
        if rest and not rest.startswith("#"):
            raise YamlError(number, f"{rest[:40]!r} follows a quoted text")
        return str(_scalar(text[:end], number))

    def _flow(self, text: str, number: int, indent: int) -> Any:
        text = _uncomment(text)
        while True:
            parser = _Flow(text, number)
            try:
                value = parser.value()
            except EOFError:
                line = self._peek()
                if line is None or line.indent < max(indent, 0):
                    raise YamlError(number, "a bracket is not closed") from None
                text += " " + _uncomment(line.text)
                self._at += 1
                continue
            parser.end()
            return value

    def _block(self, header: re.Match[str], indent: int) -> str:
        style, chomp = header[1], header[2] or header[4]
        width = max(indent, 0) + int(header[3]) if header[3] else 0
        lines: list[str] = []
        while self._at < len(self._raw):
            text = self._raw[self._at]
            depth = len(text) - len(text.lstrip(" "))
            if text.strip(" "):
                width = width or depth
                if depth < width or depth <= indent:
                    break
            lines.append(text[width:] if width else "")
            self._at += 1
        kept = len(lines)
        while kept and not lines[kept - 1].strip():
            kept -= 1
        tail = "" if chomp == "-" else "\n" * (len(lines) - kept + 1) if chomp == "+" else "\n"
        body = lines[:kept]
        text = "\n".join(body) if style == "|" else _fold(body)
        return text + tail if body else ("\n" * len(lines) if chomp == "+" else "")


def _is_item(text: str) -> bool:
    return text == "-" or text.startswith("- ")


def _fold(lines: list[str]) -> str:
    """Joins lines by blanks; empty lines are line ends, deeper lines keep theirs (YAML 1.2.2, 8.1.3)."""
    text, pending, previous_more = "", 0, False
    for number, line in enumerate(lines):
        if not line.strip():
            pending += 1
            continue
        more = line[0] in " \t"
        if number == 0 or not text:
            joint = "\n" * pending
        elif more or previous_more:
            joint = "\n" * (pending + 1)
        else:
            joint = "\n" * pending or " "
        text, pending, previous_more = text + joint + line, 0, more
    return text


def _uncomment(text: str) -> str:
    quote = ""
    for at, char in enumerate(text):
        if quote:
            if char == quote and not (quote == '"' and _escaped(text, at)):
                quote = ""
        elif char in "\"'" and (at == 0 or text[at - 1] in " [{,:"):
            quote = char
        elif char == "#" and at and text[at - 1] in " \t":
            return text[:at].rstrip()
    return text


def _escaped(text: str, at: int) -> bool:
    return (at - len(text[:at].rstrip("\\"))) % 2 == 1


def _quote_end(text: str) -> int | None:
    """Returns where the quoted text at the start ends, after its closing quote, or None."""
    pattern = r'"(?:[^"\\]|\\.)*"' if text[0] == '"' else r"'(?:[^']|'')*'(?!')"
    match = re.match(pattern, text, re.DOTALL)
    return match.end() if match else None


def _scalar(text: str, number: int) -> Any:
    text = text.strip()
    if text[:1] == '"':
        return re.sub(
            r"\\(?:x([0-9A-Fa-f]{2})|u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|(.))",
            lambda m: chr(int(m[1] or m[2] or m[3], 16)) if not m[4] else _escape(m[4], number),
            text[1:-1],
        )
    if text[:1] == "'":
        return text[1:-1].replace("''", "'")
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if text[:1] in "@`%":
        raise YamlError(number, f"a plain text cannot begin with {text[0]!r}; quote it")
    if _INT.match(text):
        return int(text)
    if _BASED.match(text):
        return int(text, 0)
    return float(text) if _FLOAT.match(text) else text


def _escape(char: str, number: int) -> str:
    if char not in _ESCAPES:
        raise YamlError(number, f"the escape \\{char} is unknown")
    return _ESCAPES[char]


class _Flow:
    """A flow collection; raises EOFError where the text ends too early."""

    def __init__(self, text: str, number: int) -> None:
        self._text = text
        self._number = number
        self._at = 0
        self._depth = 0

    def _skip(self) -> str:
        while self._at < len(self._text) and self._text[self._at] in " \t":
            self._at += 1
        if self._at == len(self._text):
            raise EOFError
        return self._text[self._at]

    def end(self) -> None:
        if self._text[self._at :].strip():
            raise YamlError(self._number, f"{self._text[self._at :].strip()[:40]!r} follows a bracket")

    def value(self) -> Any:
        char = self._skip()
        if char in "[{":
            self._depth += 1
            if self._depth > _MAX_DEPTH:
                raise YamlError(self._number, f"nested deeper than {_MAX_DEPTH} levels")
            found: Any = self._list() if char == "[" else self._map()
            self._depth -= 1
            return found
        if char in "&*!":
            raise YamlError(self._number, "anchors, aliases and tags are not supported; write it out")
        return self._plain()

    def _plain(self) -> Any:
        text = self._text[self._at :]
        if text[0] in "\"'":
            end = _quote_end(text)
            if end is None:
                raise EOFError
        else:
            match = re.match(r"(?:[^,\[\]{}:]|:(?=[^\s,\[\]{}]))*", text)
            end = match.end() if match else 0
        self._at += end
        return _scalar(text[:end], self._number)

    def _list(self) -> list[Any]:
        self._at += 1
        items: list[Any] = []
        while self._skip() != "]":
            items.append(self.value())
            if self._skip() == ",":
                self._at += 1
            elif self._skip() != "]":
                raise YamlError(self._number, "a comma or ] is missing in a list")
        self._at += 1
        return items

    def _map(self) -> dict[str, Any]:
        self._at += 1
        values: dict[str, Any] = {}
        while self._skip() != "}":
            key = str(self._plain())
            value = None
            if self._skip() == ":":
                self._at += 1
                if self._skip() not in ",}":
                    value = self.value()
            if key in values:
                raise YamlError(self._number, f"the key {key!r} is there twice; remove one")
            values[key] = value
            if self._skip() == ",":
                self._at += 1
            elif self._skip() != "}":
                raise YamlError(self._number, "a comma or } is missing in a mapping")
        self._at += 1
        return values


def dump(value: Any) -> str:
    """Returns a JSON value as block YAML; keys keep their order."""
    return "\n".join(_lines(value)) + "\n"


def _lines(value: Any) -> list[str]:
    if isinstance(value, dict) and value:
        return [line for key, item in value.items() for line in _entry(f"{_text(str(key))}:", item)]
    if isinstance(value, list) and value:
        lines: list[str] = []
        for item in value:
            inner = _lines(item)
            lines += [f"- {inner[0]}", *(f"  {line}" for line in inner[1:])]
        return lines
    return [_text(value) if isinstance(value, str) else json.dumps(value)]


def _entry(head: str, item: Any) -> list[str]:
    inner = _lines(item)
    if isinstance(item, dict | list) and item:
        return [head, *(f"  {line}" for line in inner)]
    return [f"{head} {inner[0]}", *inner[1:]]


def _text(text: str) -> str:
    plain = _PLAIN.match(text) and not text.endswith(" ") and text not in _CONSTANTS
    # YAML 1.1 readers take these words for truth values.
    if plain and text.lower() not in {"yes", "no", "on", "off", "y", "n"}:
        return text
    return re.sub(r"[^\x20-\x7e]", _escaped_char, json.dumps(text, ensure_ascii=False))


def _escaped_char(match: re.Match[str]) -> str:
    return f"\\u{ord(match[0]):04x}" if ord(match[0]) <= 0xFFFF else f"\\U{ord(match[0]):08x}"

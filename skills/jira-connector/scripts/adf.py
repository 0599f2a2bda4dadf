"""Atlassian documents: texts of Jira Cloud are trees, models and people write lines."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

_ITEM = re.compile(r"^\s*[-*]\s+(.*)$")
_BLOCKS = frozenset({"paragraph", "heading", "codeBlock", "blockquote", "listItem", "tableRow", "rule", "panel"})


def from_text(text: str) -> dict[str, Any]:
    """Returns a document: paragraphs at empty lines, lists of `-`, code between lines of ```."""
    content: list[dict[str, Any]] = []
    lines = iter(text.splitlines())
    paragraph: list[str] = []
    items: list[str] = []

    def end() -> None:
        if paragraph:
            content.append({"type": "paragraph", "content": list(_lines(paragraph))})
            paragraph.clear()
        if items:
            entries = [{"type": "listItem", "content": [_paragraph(item)]} for item in items]
            content.append({"type": "bulletList", "content": entries})
            items.clear()

    for line in lines:
        item = _ITEM.match(line)
        if line.startswith("```"):
            end()
            code = "\n".join(_until_fence(lines))
            content.append({"type": "codeBlock", "content": [{"type": "text", "text": code}] if code else []})
        elif item and item[1]:
            if paragraph:
                end()
            items.append(item[1])
        elif line.strip():
            if items:
                end()
            paragraph.append(line.strip())
        else:
            end()
    end()
    return {"type": "doc", "version": 1, "content": content}


def _until_fence(lines: Iterator[str]) -> Iterator[str]:
    for line in lines:
        if line.startswith("```"):
            return
        yield line


def _paragraph(text: str) -> dict[str, Any]:
    return {"type": "paragraph", "content": [{"type": "text", "text": text}]}


def _lines(texts: list[str]) -> Iterator[dict[str, Any]]:
    for at, text in enumerate(texts):
        if at:
            yield {"type": "hardBreak"}
        yield {"type": "text", "text": text}


def to_text(value: Any) -> str:
    """Returns a document (or the text of a Jira that has none) as lines."""
    if not isinstance(value, dict):
        return value if isinstance(value, str) else ""
    return re.sub(r"\n{3,}", "\n\n", "".join(_parts(value))).strip()


def _parts(node: dict[str, Any]) -> Iterator[str]:
    kind, attributes = node.get("type"), node.get("attrs") or {}
    match kind:
        case "text":
            link = next((mark for mark in node.get("marks") or () if mark.get("type") == "link"), None)
            href = (link.get("attrs") or {}).get("href") if link else None
            text = node.get("text", "")
            yield f"{text} ({href})" if href and href != text else text
        case "hardBreak":
            yield "\n"
        case "mention" | "emoji" | "status" | "date":
            yield str(attributes.get("text") or attributes.get("shortName") or attributes.get("timestamp") or "")
        case "inlineCard" | "blockCard":
            yield str(attributes.get("url", ""))
        case "heading":
            yield "#" * int(attributes.get("level", 1)) + " "
        case "listItem":
            yield "- "
        case "tableCell" | "tableHeader":
            yield "| "
        case _:
            pass
    for child in node.get("content") or ():
        yield from _parts(child)
    if kind in _BLOCKS:
        yield "\n" if kind in {"listItem", "tableRow"} else "\n\n"

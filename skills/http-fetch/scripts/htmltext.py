"""HTML to text in the manner of Markdown: what a model needs of a page, without what a browser needs."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from urllib.parse import urljoin

_DROPPED = frozenset(
    ["script", "style", "noscript", "template", "svg", "iframe", "object", "canvas", "select", "dialog"]
)
_BLOCKS = frozenset(
    [
        "address",
        "article",
        "aside",
        "blockquote",
        "body",
        "details",
        "div",
        "dl",
        "dd",
        "dt",
        "fieldset",
        "figure",
        "figcaption",
        "footer",
        "form",
        "header",
        "hr",
        "html",
        "main",
        "nav",
        "ol",
        "p",
        "section",
        "summary",
        "table",
        "tbody",
        "thead",
        "tfoot",
        "tr",
        "ul",
    ]
)
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_MARKS = {"strong": "**", "b": "**", "em": "*", "i": "*", "code": "`"}


def to_text(html: str, base_url: str) -> tuple[str, str]:
    """Returns the page's title and its text; links are absolute."""
    parser = _Text(base_url)
    parser.feed(html)
    parser.close()
    return parser.title.strip(), parser.result()


class _Text(HTMLParser):
    def __init__(self, base_url: str) -> None:
        super().__init__(convert_charrefs=True)
        self.title = ""
        self._base = base_url
        self._out: list[str] = []
        self._dropped: list[str] = []
        self._in_title = False
        self._pre = 0
        self._lists: list[int | None] = []
        self._links: list[tuple[str, int]] = []
        self._cells = 0

    def result(self) -> str:
        text = "".join(self._out)
        text = re.sub(r"[ \t]+\n", "\n", text)
        return re.sub(r"\n{3,}", "\n\n", text).strip()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag == "base" and values.get("href"):
            self._base = urljoin(self._base, values["href"] or "")
        if tag in _DROPPED:
            self._dropped.append(tag)
        elif tag == "title":
            self._in_title = True
        elif not self._dropped:
            self._open(tag, values)

    def _open(self, tag: str, values: dict[str, str | None]) -> None:
        if tag in _HEADINGS:
            self._break(2)
            self._out.append("#" * _HEADINGS[tag] + " ")
        elif tag == "pre":
            self._break(2)
            self._out.append("```\n")
            self._pre += 1
        elif tag in {"ul", "ol"}:
            self._break(1 if self._lists else 2)
            self._lists.append(0 if tag == "ol" else None)
        elif tag == "li":
            self._item()
        elif tag == "br":
            self._out.append("\n")
        elif tag == "hr":
            self._break(2)
            self._out.append("---")
            self._break(2)
        elif tag in {"td", "th"}:
            self._out.append(" | " if self._cells else "")
            self._cells += 1
        elif tag == "a" and values.get("href"):
            self._links.append((values["href"] or "", len(self._out)))
        elif tag == "img" and values.get("alt"):
            self._out.append(f"[image: {values['alt']}]")
        elif tag in _MARKS and not self._pre:
            self._out.append(_MARKS[tag])
        elif tag in _BLOCKS:
            self._break(1 if tag == "tr" else 2)
            self._cells = 0

    def _item(self) -> None:
        self._break(1)
        number = self._lists[-1] if self._lists else None
        if number is not None:
            self._lists[-1] = number + 1
        self._out.append("  " * max(len(self._lists) - 1, 0) + ("- " if number is None else f"{number + 1}. "))

    def handle_endtag(self, tag: str) -> None:
        if tag in self._dropped:
            del self._dropped[self._dropped.index(tag) :]
        elif tag == "title":
            self._in_title = False
        elif not self._dropped:
            self._close(tag)

    def _close(self, tag: str) -> None:
        if tag == "pre" and self._pre:
            self._pre -= 1
            self._break(1)
            self._out.append("```")
            self._break(2)
        elif tag in {"ul", "ol"} and self._lists:
            self._lists.pop()
            self._break(1 if self._lists else 2)
        elif tag == "a" and self._links:
            self._link(*self._links.pop())
        elif tag in _MARKS and not self._pre:
            self._out.append(_MARKS[tag])
        elif tag in _HEADINGS or tag in _BLOCKS:
            self._break(1 if tag == "tr" else 2)

    def _link(self, href: str, start: int) -> None:
        text = " ".join("".join(self._out[start:]).split())
        try:
            target = urljoin(self._base, href)
        except ValueError:
            target = ""
        if text and target.startswith(("http://", "https://")) and not href.startswith("#"):
            self._out[start:] = [f"[{text}]({target})"]

    def handle_data(self, data: str) -> None:
        if self._in_title and not self._dropped:
            self.title += data
        elif not self._dropped:
            if not self._pre:
                data = re.sub(r"\s+", " ", data)
                if not self._out or self._out[-1].endswith(("\n", " ")):
                    data = data.lstrip()
            if data:
                self._out.append(data)

    def _break(self, lines: int) -> None:
        """Ends the line; with 2, leaves an empty one."""
        while self._out and not self._out[-1].strip(" "):
            self._out.pop()
        if self._out:
            ending = len(self._out[-1]) - len(self._out[-1].rstrip("\n"))
            self._out.append("\n" * max(lines - ending, 0))

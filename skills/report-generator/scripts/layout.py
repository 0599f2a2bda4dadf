"""A report as Markdown, HTML or CSV."""

from __future__ import annotations

import csv
import io
import re
from html import escape

from table import Report, Section

FORMATS = {"markdown": ".md", "html": ".html", "csv": ".csv"}
_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem;color:#1b1f24}"
    "table{border-collapse:collapse;margin:1rem 0;width:100%}th,td{border:1px solid #d0d7de;padding:.35rem .6rem;"
    "text-align:left;vertical-align:top}th{background:#f3f5f7}td.n{text-align:right;font-variant-numeric:tabular-nums}"
)
_NUMBER = re.compile(r"^-?\d+(?:\.\d+)?$")
# A spreadsheet takes a cell that begins like this for a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def render(report: Report, form: str) -> str:
    """Returns the text of a report in one of FORMATS."""
    return {"markdown": markdown, "html": html, "csv": as_csv}[form](report)


def markdown(report: Report) -> str:
    """Returns GitHub-flavoured Markdown."""
    lines = [f"# {_inline(report.title)}"]
    for paragraph in report.lead:
        lines += ["", _inline(paragraph)]
    for section in report.sections:
        lines += ["", f"## {_inline(section.title)}"]
        for paragraph in section.paragraphs:
            lines += ["", _inline(paragraph)]
        if section.columns:
            numeric = _numeric(section)
            lines += ["", _row(section.columns), _row(["---:" if right else "---" for right in numeric], raw=True)]
            lines += [_row(cells) for cells in section.rows]
    return "\n".join(lines) + "\n"


def _inline(text: str) -> str:
    return re.sub(r"([\\`*_\[\]<>#|])", r"\\\1", " ".join(text.split()))


def _row(cells: list[str] | tuple[str, ...], *, raw: bool = False) -> str:
    return "| " + " | ".join(cell if raw else _inline(cell) for cell in cells) + " |"


def _numeric(section: Section) -> list[bool]:
    """Which columns hold numbers only."""
    return [
        bool(section.rows) and all(not row[at] or _NUMBER.match(row[at]) for row in section.rows)
        for at in range(len(section.columns))
    ]


def html(report: Report) -> str:
    """Returns one page without scripts or anything from elsewhere."""
    parts = [
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(report.title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>",
        f"<h1>{escape(report.title)}</h1>",
        *(f"<p>{escape(paragraph)}</p>" for paragraph in report.lead),
    ]
    for section in report.sections:
        parts.append(f"<h2>{escape(section.title)}</h2>")
        parts += [f"<p>{escape(paragraph)}</p>" for paragraph in section.paragraphs]
        if section.columns:
            numeric = _numeric(section)
            parts.append(
                "<table>\n<thead><tr>" + "".join(f"<th>{escape(c)}</th>" for c in section.columns) + "</tr></thead>"
            )
            parts.append("<tbody>")
            for row in section.rows:
                cells = zip(row, numeric, strict=True)
                parts.append(
                    "<tr>" + "".join(f"<td{_mark(right)}>{escape(cell)}</td>" for cell, right in cells) + "</tr>"
                )
            parts.append("</tbody>\n</table>")
    return "\n".join([*parts, "</body>\n</html>"]) + "\n"


def _mark(right: bool) -> str:
    return ' class="n"' if right else ""


def as_csv(report: Report) -> str:
    """Returns RFC 4180 lines; with several tables each begins with a column that names its section."""
    tables = [section for section in report.sections if section.columns]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    for number, section in enumerate(tables):
        many = len(tables) > 1
        if number:
            writer.writerow([])
        writer.writerow([_safe(cell) for cell in ([*["section"] * many, *section.columns])])
        writer.writerows([_safe(cell) for cell in [*[section.title] * many, *row]] for row in section.rows)
    return out.getvalue()


def _safe(cell: str) -> str:
    return f"'{cell}" if cell.startswith(_FORMULA) and not _NUMBER.match(cell) else cell

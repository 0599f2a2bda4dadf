"""Issues and comments as results show them."""

from __future__ import annotations

from typing import Any

import adf


def url_of(site: str, key: str) -> str:
    """Returns where a person sees an issue."""
    return f"{site}/browse/{key}"


def shown(issue: dict[str, Any], site: str) -> dict[str, Any]:
    """Returns what matters of an issue."""
    fields = issue.get("fields", {})
    return {
        "key": issue["key"],
        "url": url_of(site, issue["key"]),
        "summary": fields.get("summary", ""),
        "status": _name(fields.get("status")),
        "type": _name(fields.get("issuetype")),
        "priority": _name(fields.get("priority")),
        "assignee": _name(fields.get("assignee"), "displayName"),
        "labels": fields.get("labels") or [],
        "updated": fields.get("updated"),
    }


def comment(given: dict[str, Any]) -> dict[str, Any]:
    """Returns what matters of a comment."""
    author = _name(given.get("author"), "displayName")
    return {"author": author, "created": given.get("created"), "text": adf.to_text(given.get("body"))}


def _name(value: Any, field: str = "name") -> str | None:
    return value.get(field) if isinstance(value, dict) else None

"""Keeping a query inside the allowed projects."""

from __future__ import annotations

import re

from openclaw_skill import SkillError

_QUOTED = re.compile(r"\"(?:\\.|[^\"\\])*\"|'(?:\\.|[^'\\])*'")
_ORDER = re.compile(r"\border\s+by\b", re.IGNORECASE)


def within(query: str, projects: tuple[str, ...]) -> str:
    """Returns the query, restricted to `projects`. Raises SkillError for one that could reach around that."""
    if not projects:
        return query
    # Same length, so that places in it are places in the query.
    bare = _QUOTED.sub(lambda quoted: "q" * len(quoted[0]), query)
    order = _ORDER.search(bare)
    end = order.start() if order else len(query)
    depth = 0
    for character in bare[:end]:
        depth += (character == "(") - (character == ")")
        if depth < 0:
            break
    if depth or '"' in bare or "'" in bare or "\\" in bare:
        raise SkillError(f"jql: {query!r} has a quote or bracket without its other half; correct it")
    allowed = f"project in ({', '.join(projects)})"
    condition = query[:end].strip()
    return f"{allowed} AND ({condition}) {query[end:]}".strip() if condition else f"{allowed} {query[end:]}".strip()

"""The table of the operator's rights in docs/security.md: `python -m tests.contract.rights` writes it anew."""

from __future__ import annotations

import re
from pathlib import Path

from openclaw_operator import rbac
from tests.cluster.paths import REPOSITORY

PAGE = REPOSITORY / "docs" / "security.md"
HEAD = "| API group | resources | verbs | reason |\n| --- | --- | --- | --- |\n"
_TABLE = re.compile(re.escape(HEAD) + r"(?:\|.*\n)*")


def table() -> str:
    """One row for each rule, in the order of the rules."""
    rows = (
        f"| {rule.api_group or 'core'} | {', '.join(rule.resources)} | {', '.join(rule.verbs)} | {rule.reason} |\n"
        for rule in rbac.RULES
    )
    return HEAD + "".join(rows)


def documented(page: Path = PAGE) -> str:
    """The table as the page has it; empty when there is none."""
    found = _TABLE.search(page.read_text())
    return found.group() if found else ""


def main() -> None:
    PAGE.write_text(_TABLE.sub(lambda _: table(), PAGE.read_text()))


if __name__ == "__main__":
    main()

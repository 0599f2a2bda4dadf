"""Which lines a diff adds."""

from __future__ import annotations

import re

_HUNK = re.compile(r"^@@ -\d+(?:,(\d+))? \+(\d+)(?:,(\d+))? @@")


def added_lines(diff: str) -> dict[str, set[int]]:
    """Returns the added lines (from 1, in the new file) of each file that is left after a diff."""
    files: dict[str, set[int]] = {}
    current: set[int] = set()
    line = old_left = new_left = 0
    for text in diff.splitlines():
        if old_left > 0 or new_left > 0:
            if text.startswith("+"):
                current.add(line)
            line += not text.startswith(("-", "\\"))
            new_left -= not text.startswith(("-", "\\"))
            old_left -= not text.startswith(("+", "\\"))
        elif text.startswith("+++ "):
            name = text[4:].split("\t", 1)[0]
            current = set()
            if name != "/dev/null":
                files[name.strip('"').removeprefix("b/")] = current
        elif hunk := _HUNK.match(text):
            old_left = int(hunk[1] if hunk[1] is not None else 1)
            line = int(hunk[2])
            new_left = int(hunk[3] if hunk[3] is not None else 1)
    return files

"""Unified diffs (GNU diffutils manual, "Detailed Description of Unified Format"): reading and exact application."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_HUNK = re.compile(r"^@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@")
_NO_NEWLINE = "\\ No newline at end of file"
_UNSUPPORTED = ("GIT binary patch", "Binary files ", "rename from ", "copy from ")


class DiffError(ValueError):
    """A diff that cannot be read or does not fit its file. `str()` is one line."""


@dataclass
class Hunk:
    """Lines to find (`old`) and to put in their place (`new`), with line ends; `start` is the line of `old`, from 1."""

    start: int
    old: list[str] = field(default_factory=list)
    new: list[str] = field(default_factory=list)


@dataclass
class FileDiff:
    """The changes of one file; `old` is None for a new file and `new` is None for a deleted one."""

    old: str | None
    new: str | None
    hunks: list[Hunk] = field(default_factory=list)


def parse(text: str) -> list[FileDiff]:
    """Reads a diff of one or more files. Raises DiffError."""
    lines = text.splitlines(keepends=True)
    files: list[FileDiff] = []
    at = 0
    while at < len(lines):
        line = lines[at]
        if line.startswith(_UNSUPPORTED):
            raise DiffError(f"line {at + 1}: {line.strip()!r} is not supported; send text changes only")
        if line.startswith("--- ") and at + 1 < len(lines) and lines[at + 1].startswith("+++ "):
            files.append(FileDiff(_name(line, "a/"), _name(lines[at + 1], "b/")))
            at += 2
        elif line.startswith("@@"):
            if not files:
                raise DiffError(f"line {at + 1}: a hunk stands before any '--- old' and '+++ new' lines; add them")
            hunk, at = _hunk(lines, at)
            files[-1].hunks.append(hunk)
        else:
            at += 1
    if not any(file.hunks for file in files):
        raise DiffError("no hunk found; send a unified diff with '--- ', '+++ ' and '@@ -1,2 +1,2 @@' lines")
    return files


def _name(line: str, prefix: str) -> str | None:
    name = line[4:].rstrip("\r\n").split("\t", 1)[0]
    return None if name == "/dev/null" else name.removeprefix(prefix)


def _hunk(lines: list[str], at: int) -> tuple[Hunk, int]:
    header = _HUNK.match(lines[at])
    if header is None:
        raise DiffError(f"line {at + 1}: {lines[at].strip()!r} is no hunk header; write @@ -line,count +line,count @@")
    number = at + 1
    old_left = int(header[2] if header[2] is not None else 1)
    new_left = int(header[4] if header[4] is not None else 1)
    # "-0,0" and "-5,0" name the line after which to add.
    hunk = Hunk(int(header[1]) + (1 if old_left == 0 else 0))
    at += 1
    while old_left > 0 or new_left > 0:
        line = lines[at] if at < len(lines) else None
        # Mailers and models drop the single blank of an empty context line.
        kind = " " if line in {"\n", "\r\n"} else (line or "?")[0]
        if line is None or kind not in " +-\\":
            raise DiffError(
                f"the hunk at line {number} ends early: {old_left} old and {new_left} new lines are missing; "
                "correct the counts in its header"
            )
        body = line if line in {"\n", "\r\n"} else line[1:]
        if kind in " -":
            hunk.old.append(body)
            old_left -= 1
        if kind in " +":
            hunk.new.append(body)
            new_left -= 1
        if kind == "\\":
            _cut_newline(hunk, lines[at - 1][0])
        at += 1
    if at < len(lines) and lines[at].startswith(_NO_NEWLINE):
        _cut_newline(hunk, lines[at - 1][0])
        at += 1
    if old_left < 0 or new_left < 0:
        raise DiffError(f"the hunk at line {number} has more lines than its header says; correct the counts")
    return hunk, at


def _cut_newline(hunk: Hunk, kind: str) -> None:
    for side, kinds in ((hunk.old, " -"), (hunk.new, " +")):
        if kind in kinds and side:
            side[-1] = side[-1].rstrip("\r\n")


def apply(text: str, hunks: list[Hunk]) -> str:
    """Returns `text` with the hunks applied. The old lines must be there exactly; only their place may have moved.

    Raises DiffError where they are missing, or stand in several places and not in the one named.
    """
    lines = text.splitlines(keepends=True)
    shift = 0
    for number, hunk in enumerate(hunks, 1):
        at = _place(lines, hunk, hunk.start - 1 + shift, number)
        lines[at : at + len(hunk.old)] = hunk.new
        shift = at - (hunk.start - 1) + len(hunk.new) - len(hunk.old)
    return "".join(lines)


def _place(lines: list[str], hunk: Hunk, expected: int, number: int) -> int:
    size = len(hunk.old)
    if 0 <= expected <= len(lines) and lines[expected : expected + size] == hunk.old:
        return expected
    if size == 0:
        raise DiffError(f"hunk {number}: line {hunk.start} is past the end ({len(lines)} lines); read the file again")
    found = [at for at in range(len(lines) - size + 1) if lines[at : at + size] == hunk.old]
    if len(found) == 1:
        return found[0]
    if not found:
        raise DiffError(f"hunk {number}: its old lines are not in the file (first: {hunk.old[0].strip()!r})")
    places = ", ".join(str(at + 1) for at in found[:5])
    raise DiffError(f"hunk {number}: its old lines stand at lines {places}; add context lines so that one place fits")

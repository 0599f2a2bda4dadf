"""Checks of any text, line by line."""

from __future__ import annotations

import re
from collections.abc import Iterator

import leaks
from findings import Finding

# Put together so that this file does not remark on itself.
_WORDS = "|".join(["TO" + "DO", "FIX" + "ME", "XX" + "X", "HA" + "CK"])
_NOTES = re.compile(rf"(?:#|//|/\*|<!--|;|--|\*)\s*\b({_WORDS})\b[:( ]?(.*)")
_CONFLICT = re.compile(r"^(?:<{7} |={7}$|>{7} )")
_DEBUGGER = re.compile(r"^\s*(?:breakpoint\(\)|(?:import )?i?pdb(?:\.set_trace\(\))?\s*$|debugger;)")


def check(file: str, text: str) -> Iterator[Finding]:
    """Yields the findings of one file."""
    for number, line in enumerate(text.splitlines(), 1):
        if note := _NOTES.search(line):
            message = f"{note[1]} is left in: {note[2].strip(' :)*/->') or 'no text'}"
            yield Finding(file, number, "info", "note-left", message[:200], "Do it, or open an issue and name it here.")
        if _CONFLICT.match(line):
            message = "a merge conflict is not resolved"
            yield Finding(file, number, "error", "merge-conflict", message, "Keep one side and remove the markers.")
        if _DEBUGGER.match(line):
            message = "a debugger call is left in"
            yield Finding(file, number, "error", "debugger", message, "Remove it.")
        for leak in leaks.find(line):
            message = f"{leak.what} in the source: {leak.masked}"
            suggestion = "Read it from the environment or a secret store, and replace the leaked one."
            yield Finding(file, number, "error", "secret", message, suggestion)

"""Memory a person can read and edit: MEMORY.md for what matters, and one Markdown log per day."""

import asyncio
import os
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from openclaw_runtime.memory.types import SUMMARY, MemoryRecord

IMPORTANT = 0.7
"""From this importance on a record is worth a line in MEMORY.md."""

_LINE_LENGTH = 300
_ENTRY = re.compile(r"- \d{4}-\d{2}-\d{2} \S+: ")
"""How a line of `memory_line` begins; a person's own list does not."""


def log_entry(record: MemoryRecord) -> str:
    """Returns a record as an entry of the daily log."""
    time = datetime.fromtimestamp(record.created_at, UTC).strftime("%H:%M:%S")
    session = f" (session {record.session})" if record.session else ""
    return f"## {time} {record.kind}{session}\n\n{record.text.strip()}\n\n"


def memory_line(record: MemoryRecord) -> str:
    """Returns a record as one line of MEMORY.md."""
    day = datetime.fromtimestamp(record.created_at, UTC).strftime("%Y-%m-%d")
    text = " ".join(record.text.split())
    short = text if len(text) <= _LINE_LENGTH else text[: _LINE_LENGTH - 1] + "…"
    kind = "-".join(record.kind.split())
    return f"- {day} {kind}: {short}\n"


class MemoryFiles:
    """MEMORY.md and `YYYY-MM-DD.md` (UTC) in one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = asyncio.Lock()

    async def write(self, record: MemoryRecord) -> None:
        """Appends a record to the log of its day, and to MEMORY.md if it is important. Raises `OSError`."""
        async with self._lock:
            await asyncio.to_thread(self._write, record)

    async def read(self, limit: int) -> str:
        """Returns the last `limit` characters of MEMORY.md; empty if there is none."""
        return await asyncio.to_thread(self._read, limit)

    async def surplus(self, most: int) -> list[str]:
        """Returns the older half of the entries of MEMORY.md once there are more than `most`, else none.

        Raises `OSError`.
        """
        entries = _entries(await asyncio.to_thread(self._text))
        return entries[: len(entries) - most // 2] if len(entries) > most else []

    async def summarize(self, old: Sequence[str], summary: str, now: float) -> bool:
        """Puts one line in the place of the first entries of MEMORY.md, which go to MEMORY-archive.md.

        Returns False and changes nothing where they are no longer there as they were. Raises `OSError`.
        """
        async with self._lock:
            return await asyncio.to_thread(self._summarize, list(old), summary, now)

    def _text(self) -> str:
        file = self._folder / "MEMORY.md"
        return file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""

    def _summarize(self, old: list[str], summary: str, now: float) -> bool:
        text = self._text()
        if not old or _entries(text)[: len(old)] != old:
            return False
        day = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%d")
        kept, left = [], len(old)
        for line in text.splitlines(keepends=True):
            if not (left and _ENTRY.match(line)):
                kept.append(line)
                continue
            if left == len(old):
                kept.append(f"- {day} {SUMMARY}: {' '.join(summary.split())}\n")
            left -= 1
        # First kept there, then taken out here: whatever happens in between, no line is lost.
        _append(self._folder / "MEMORY-archive.md", "# Memory, summarised since\n\n", "".join(old))
        fresh = self._folder / ".MEMORY.md.new"
        fresh.write_text("".join(kept), encoding="utf-8")
        fresh.replace(self._folder / "MEMORY.md")
        return True

    def _write(self, record: MemoryRecord) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        day = datetime.fromtimestamp(record.created_at, UTC).strftime("%Y-%m-%d")
        _append(self._folder / f"{day}.md", f"# {day}\n\n", log_entry(record))
        if record.importance >= IMPORTANT:
            _append(self._folder / "MEMORY.md", "# Memory\n\n", memory_line(record))

    def _read(self, limit: int) -> str:
        file = self._folder / "MEMORY.md"
        if not file.is_file():
            return ""
        with file.open("rb") as stream:
            # A character has at most four bytes; the file grows for years and is read in every turn.
            stream.seek(max(0, stream.seek(0, os.SEEK_END) - 4 * limit))
            return stream.read().decode(errors="replace")[-limit:]


def _entries(text: str) -> list[str]:
    """The lines that are entries; headings and whatever else a person wrote are not."""
    return [line for line in text.splitlines(keepends=True) if _ENTRY.match(line)]


def _append(file: Path, head: str, text: str) -> None:
    with file.open("a", encoding="utf-8") as stream:
        if stream.tell() == 0:
            stream.write(head)
        stream.write(text)

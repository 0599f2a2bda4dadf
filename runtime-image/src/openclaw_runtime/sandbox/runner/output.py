"""How much a skill may say: a rate and a total for log lines, and cutting its output into lines."""

from dataclasses import dataclass, field
from typing import Final

MAX_LINE_BYTES: Final = 8 * 1024
BURST: Final = 200
PER_SECOND: Final = 100.0
MAX_TOTAL_BYTES: Final = 1024 * 1024


@dataclass(slots=True)
class Allowance:
    """A token bucket with a total. `dropped` counts what did not pass."""

    burst: float = BURST
    per_second: float = PER_SECOND
    total_bytes: int = MAX_TOTAL_BYTES
    dropped: int = 0
    _tokens: float = field(default=-1.0, init=False)
    _last: float = field(default=0.0, init=False)

    def take(self, size: int, now: float) -> bool:
        """Returns whether a message of `size` bytes may pass at `now` (seconds of any steady clock)."""
        if self._tokens < 0:
            self._tokens = self.burst
        else:
            self._tokens = min(self.burst, self._tokens + (now - self._last) * self.per_second)
        self._last = now
        if self._tokens < 1 or size > self.total_bytes:
            self.dropped += 1
            return False
        self._tokens -= 1
        self.total_bytes -= size
        return True


class LineSplitter:
    """Cuts a byte stream into lines of at most `MAX_LINE_BYTES`; the rest of a longer line is thrown away."""

    def __init__(self) -> None:
        self._partial = bytearray()
        self._overlong = False

    def feed(self, data: bytes) -> list[str]:
        """Takes bytes and returns the lines that are complete, without empty ones."""
        lines: list[str] = []
        *complete, rest = data.split(b"\n")
        for piece in complete:
            self._keep(piece)
            lines += self.flush()
        self._keep(rest)
        return lines

    def flush(self) -> list[str]:
        """Returns the unfinished line, if there is one."""
        text = self._partial.decode(errors="replace").rstrip()
        overlong, self._overlong = self._overlong, False
        self._partial.clear()
        return [text + (" …" if overlong else "")] if text else []

    def _keep(self, piece: bytes) -> None:
        room = MAX_LINE_BYTES - len(self._partial)
        self._overlong = self._overlong or len(piece) > room
        self._partial += piece[:room]

"""Running one program with a time limit and capped output."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from openclaw_skill import SkillError

GRACE_SECONDS = 2.0
"""Between the polite and the final signal at a time-out."""


@dataclass
class Capture:
    """The start and the end of a stream, `limit` bytes in all; the middle is dropped."""

    limit: int
    head: bytearray = field(default_factory=bytearray)
    tail: bytearray = field(default_factory=bytearray)
    total: int = 0

    def add(self, data: bytes) -> None:
        """Takes the next bytes."""
        self.total += len(data)
        room = max(self.limit // 2 - len(self.head), 0)
        self.head += data[:room]
        self.tail += data[room:]
        del self.tail[: max(len(self.tail) - (self.limit - self.limit // 2), 0)]

    def text(self) -> str:
        """Returns what was kept, with a line that says how much is missing."""
        missing = self.total - len(self.head) - len(self.tail)
        gap = f"\n[... {missing} bytes left out ...]\n".encode() if missing else b""
        return bytes(self.head + gap + self.tail).decode("utf-8", "replace")


@dataclass(frozen=True)
class Outcome:
    """How a program ended: `exit_code` is None after a time-out, negative when a signal ended it."""

    exit_code: int | None
    stdout: Capture
    stderr: Capture
    seconds: float


def run(argv: list[str], *, cwd: Path, env: dict[str, str], stdin: bytes, timeout: float, max_output: int) -> Outcome:
    """Runs `argv` in its own process group and waits. Raises SkillError if it cannot be started."""
    started = time.monotonic()
    try:
        process = subprocess.Popen(
            argv,
            cwd=cwd,
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except FileNotFoundError:
        raise SkillError(f"argv[0]: {argv[0]!r} is not there; the sandbox has bash, git and python3") from None
    except (OSError, ValueError) as error:
        raise SkillError(f"argv: {argv[0]!r} cannot be started ({error})") from None
    out, err = Capture(max_output), Capture(max_output)
    with process:
        try:
            _pump(process, {process.stdout: out, process.stderr: err}, stdin, started + timeout)
            process.wait(max(started + timeout - time.monotonic(), 0))
            code: int | None = process.returncode
        except (subprocess.TimeoutExpired, TimeoutError):
            code = None
        finally:
            _end_group(process)
    return Outcome(code, out, err, time.monotonic() - started)


def _pump(process: subprocess.Popen[bytes], captures: dict[object, Capture], stdin: bytes, deadline: float) -> None:
    """Feeds stdin and reads both streams until they end. Raises TimeoutError at the deadline."""
    assert process.stdin is not None
    left = memoryview(stdin)
    with selectors.DefaultSelector() as selector:
        for stream in captures:
            selector.register(stream, selectors.EVENT_READ)
        if left:
            os.set_blocking(process.stdin.fileno(), False)
            selector.register(process.stdin, selectors.EVENT_WRITE)
        else:
            process.stdin.close()
        # Streams can outlive the program where it left a child behind; the program's end is what counts.
        while any(stream in captures for stream in (key.fileobj for key in selector.get_map().values())):
            if time.monotonic() >= deadline:
                raise TimeoutError
            for key, _ in selector.select(0.05 if process.poll() is None else 0):
                if key.fileobj is process.stdin:
                    left = _feed(process.stdin, left)
                    if not left:
                        selector.unregister(process.stdin)
                        process.stdin.close()
                elif data := os.read(key.fd, 65536):
                    captures[key.fileobj].add(data)
                else:
                    selector.unregister(key.fileobj)
                    continue
            if process.poll() is not None and not selector.select(0):
                return


def _feed(stdin: object, left: memoryview) -> memoryview:
    try:
        return left[os.write(stdin.fileno(), left[:65536]) :]  # type: ignore[attr-defined]
    except BrokenPipeError:
        return left[:0]


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """Ends whatever is left of the program's process group."""
    for signum, patience in ((signal.SIGTERM, GRACE_SECONDS), (signal.SIGKILL, None)):
        try:
            os.killpg(process.pid, signum)
        except ProcessLookupError:
            break
        if process.poll() is None:
            try:
                process.wait(patience)
            except subprocess.TimeoutExpired:
                continue
    process.wait()

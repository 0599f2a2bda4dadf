"""What is slow to start, once for all xdist workers of a test run: the first starts it, and ends it after the last."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from fcntl import LOCK_EX, LOCK_SH, flock
from pathlib import Path

from tests.cluster.processes import exclusive


@contextmanager
def shared(folder: Path, name: str, start: Callable[[], AbstractContextManager[str]]) -> Iterator[str]:
    """What `start` yields, in every process that asks for this name in this folder.

    Who comes first starts it and waits, at the end, until nobody else uses it. Raises what `start` raises; the next one
    then tries again.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock, record, used = (folder / f"{name}{suffix}" for suffix in (".lock", "", ".used"))
    with ExitStack() as stack:
        with exclusive(lock):
            first = not record.exists()
            if first:
                fresh = record.with_suffix(".new")
                fresh.write_text(stack.enter_context(start()))
                fresh.rename(record)
            use = stack.enter_context(used.open("a"))
            flock(use, LOCK_SH)
            text = record.read_text()
        try:
            yield text
        finally:
            if first:
                with exclusive(lock):
                    # Who comes now starts one of his own.
                    record.unlink()
                    used.unlink()
                flock(use, LOCK_EX)

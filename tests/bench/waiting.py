"""Waiting for what somebody else does: poll with a deadline and say what was waited for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

POLL_SECONDS = 0.05


class NotReachedError(AssertionError):
    """What was waited for did not come about in time."""


async def eventually(
    condition: Callable[[], Awaitable[bool]],
    what: str | Callable[[], str],
    *,
    seconds: float,
    interval: float = POLL_SECONDS,
) -> float:
    """Return after how many seconds the condition held. Raises NotReachedError naming `what`."""
    started = time.monotonic()
    deadline = started + seconds
    while True:
        if await condition():
            return time.monotonic() - started
        if time.monotonic() > deadline:
            raise NotReachedError(f"not within {seconds:.0f} s: {what if isinstance(what, str) else what()}")
        await asyncio.sleep(interval)


async def until_quiet(count: Callable[[], int], *, quiet: float, seconds: float) -> None:
    """Return once `count` has not changed for `quiet` seconds. Raises NotReachedError when it never stands still."""
    seen = count()
    since = started = time.monotonic()
    while time.monotonic() - since < quiet:
        if time.monotonic() - started > seconds:
            raise NotReachedError(f"not quiet for {quiet:.1f} s within {seconds:.0f} s: {count()} so far")
        await asyncio.sleep(POLL_SECONDS)
        current = count()
        if current != seen:
            seen, since = current, time.monotonic()

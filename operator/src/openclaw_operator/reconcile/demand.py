"""How many pods of a pool wait warm: up at once when all are taken, down slowly. Pure: the clock comes in."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

# A pool that needs fewer pods than it has keeps them for so long, then gives at most half of them back.
IDLE_SECONDS = 300.0


@dataclass(frozen=True)
class Bounds:
    """The least and the most pods that may wait."""

    least: int
    most: int

    def clamp(self, pods: int) -> int:
        """`pods` within the bounds."""
        return max(self.least, min(pods, self.most))


@dataclass(frozen=True)
class Demand:
    """What a pool needs beyond its least, and what was seen since `since` (seconds of a monotonic clock).

    `taken` pods were given to calls, and at the worst moment `short` of them had no ready successor yet.
    """

    extra: int
    since: float
    taken: int = 0
    short: int = 0

    def target(self, bounds: Bounds) -> int:
        """How many pods are to wait."""
        return bounds.clamp(bounds.least + self.extra)

    def rest(self, bounds: Bounds, now: float) -> float | None:
        """After how many seconds pods may be given back, though nothing happens; None when there is nothing to give."""
        return max(0.0, self.since + IDLE_SECONDS - now) if self.target(bounds) > bounds.least else None


def begin(ready: int, bounds: Bounds, now: float) -> Demand:
    """Of a pool whose past is not known: what is ready was needed."""
    return Demand(bounds.clamp(ready) - bounds.least, now)


def follow(before: Demand, bounds: Bounds, *, free: int, taken: int, now: float) -> Demand:
    """The demand after a look at the pool: `free` pods are ready, `taken` were given to calls since the last look.

    When none is free although all that should wait were given to calls, twice as many are wanted. After IDLE_SECONDS
    without that, those are kept of which half were missed at once, and at least half of what there was.
    """
    target = before.target(bounds)
    seen = before.taken + taken
    if free == 0 and seen >= target:
        return Demand(bounds.clamp(2 * target) - bounds.least, now)
    short = max(before.short, min(seen, target - free))
    if now - before.since >= IDLE_SECONDS:
        kept = max(math.ceil(target / 2), min(target, 2 * short))
        return Demand(bounds.clamp(kept) - bounds.least, now)
    return replace(before, extra=target - bounds.least, taken=seen, short=short)

"""Which sandboxes are leased to a session of this gateway and wait for its next call."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from openclaw_runtime.sandbox.endpoint import Endpoint
from openclaw_runtime.sandbox.protocol import Holder

_TRUST: Final = 0.8
"""The share of its idle time after which a sandbox is not counted on any more: it may just be ending."""


@dataclass(frozen=True, slots=True)
class Lease:
    """A sandbox that its pod keeps for one session's skill."""

    pool: str
    holder: Holder
    endpoint: Endpoint


class Leases:
    """Idle leases, the one used last at the end. A lease in use is not here: a call at the same time gets its own.

    `keep` is how many idle ones a pool may have; `clock` is any steady clock in seconds.
    """

    def __init__(self, keep: int, clock: Callable[[], float]) -> None:
        self._keep = keep
        self._clock = clock
        self._idle: dict[Lease, float] = {}

    def take(self, pool: str, holder: Holder) -> Lease | None:
        """Returns the holder's lease that was used last, which is then in use."""
        self._forget_old()
        found = next((lease for lease in reversed(self._idle) if (lease.pool, lease.holder) == (pool, holder)), None)
        if found is not None:
            del self._idle[found]
        return found

    def put(self, lease: Lease, idle_seconds: float) -> Lease | None:
        """Keeps a lease after its call; returns the one that has to be given back for it, if there are too many."""
        self._forget_old()
        self._idle[lease] = self._clock() + idle_seconds * _TRUST
        mine = list(self._of(lease.pool))
        return self._drop(mine[0]) if len(mine) > self._keep else None

    def oldest(self, pool: str) -> Lease | None:
        """Takes out the idle lease of a pool that was used longest ago, to be given back."""
        self._forget_old()
        found = next(self._of(pool), None)
        return self._drop(found) if found else None

    def drain(self) -> list[Lease]:
        """Takes out all of them, to be given back."""
        leases = list(self._idle)
        self._idle.clear()
        return leases

    def counts(self) -> dict[str, int]:
        """Returns how many idle leases each pool has."""
        result: dict[str, int] = {}
        for lease in self._idle:
            result[lease.pool] = result.get(lease.pool, 0) + 1
        return result

    def _of(self, pool: str) -> Iterator[Lease]:
        return (lease for lease in self._idle if lease.pool == pool)

    def _drop(self, lease: Lease) -> Lease:
        del self._idle[lease]
        return lease

    def _forget_old(self) -> None:
        now = self._clock()
        for lease in [lease for lease, until in self._idle.items() if until <= now]:
            del self._idle[lease]

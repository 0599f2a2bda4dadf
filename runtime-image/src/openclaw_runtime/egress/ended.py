"""Which calls are over: a grant is good for one of them, and somebody may have kept it."""

import heapq

from openclaw_runtime.egress.grant import Grant
from openclaw_runtime.sandbox.signing import CLOCK_SKEW_SECONDS


class Ended:
    """Calls whose grants are good no more. Each is remembered for as long as its grant would have been."""

    def __init__(self) -> None:
        self._calls: set[str] = set()
        self._by_expiry: list[tuple[int, str]] = []

    def add(self, grant: Grant, now: float) -> None:
        """Notes that a grant's call is over; `now` is Unix time."""
        while self._by_expiry and self._by_expiry[0][0] + CLOCK_SKEW_SECONDS < now:
            self._calls.discard(heapq.heappop(self._by_expiry)[1])
        if grant.call_id not in self._calls and grant.expires_at + CLOCK_SKEW_SECONDS >= now:
            self._calls.add(grant.call_id)
            heapq.heappush(self._by_expiry, (grant.expires_at, grant.call_id))

    def __contains__(self, call_id: str) -> bool:
        return call_id in self._calls

    def __len__(self) -> int:
        return len(self._calls)

"""How often skills are called: counted by this process, or by all replicas of an agent in the Redis they share."""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

from openclaw_runtime.skills.types import RateLimit
from openclaw_runtime.sparing import SparingRedis

FRESH_SECONDS: Final = 1.0
"""For how long what the others have called may be taken from the last answer."""


class Rates(Protocol):
    """Counts the calls of an agent's skills in sliding windows."""

    async def take(self, skill: str, limit: RateLimit, call_id: str) -> float:
        """Counts a call and returns 0; or counts nothing, and returns the seconds until there is room for it."""
        ...

    async def close(self) -> None:
        """Lets go of what it holds."""


class LocalRates:
    """Counts what this process calls. `timer` is a clock that never jumps, in seconds."""

    def __init__(self, timer: Callable[[], float]) -> None:
        self._timer = timer
        self._calls: dict[str, deque[float]] = {}

    async def take(self, skill: str, limit: RateLimit, call_id: str) -> float:  # noqa: ARG002 - times are enough here
        """See `Rates`. It does not wait for anything."""
        now, recent = self._timer(), self._calls.setdefault(skill, deque())
        while recent and recent[0] <= now - limit.per_seconds:
            recent.popleft()
        if len(recent) < limit.calls:
            recent.append(now)
            return 0.0
        return recent[-limit.calls] + limit.per_seconds - now

    async def close(self) -> None:
        """See `Rates`."""


_TAKE: Final = """
local at = redis.call('TIME')
local now = at[1] * 1000000 + at[2]
local key, calls, window, member = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]
redis.call('ZREMRANGEBYSCORE', key, '-inf', now - window)
local count = redis.call('ZCARD', key)
if count < calls or ARGV[4] == '1' then
  redis.call('ZADD', key, now, member)
  redis.call('PEXPIRE', key, math.ceil(window / 1000))
  return {calls - count - 1, 0}
end
local oldest = redis.call('ZRANGE', key, -calls, -calls, 'WITHSCORES')
return {0, oldest[2] + window - now}
"""
"""Counts a call in a sorted set of the times (microseconds, by the server's clock) of those in the window, if there is
room or it was made already (ARGV[4]). Returns how much room is left, and the time until there is some."""


@dataclass(frozen=True, slots=True)
class _Room:
    """How many calls there was room for when it was asked last."""

    left: int
    asked_at: float


class SharedRates:
    """Counts what all replicas call. While the Redis is away, each replica counts for itself.

    A call waits for the answer of the Redis, except where the last one is fresh and left room for more than half of
    what is allowed: then it is counted beside the call, and the next one waits for that. So where others are quick to
    use up the other half, there is at most one call too many for each replica.
    """

    def __init__(self, redis: SparingRedis, *, prefix: str, timer: Callable[[], float]) -> None:
        self._redis = redis
        self._prefix = prefix
        self._timer = timer
        self._alone = LocalRates(timer)
        self._take: Any = redis.client.register_script(_TAKE)
        self._rooms: dict[str, _Room] = {}
        self._counting: dict[str, asyncio.Task[float]] = {}

    async def take(self, skill: str, limit: RateLimit, call_id: str) -> float:
        """See `Rates`."""
        room = self._rooms.get(skill)
        fresh = room is not None and self._timer() - room.asked_at < FRESH_SECONDS
        if room is None or not fresh or room.left <= limit.calls // 2 or skill in self._counting:
            return await self._ask(skill, limit, call_id, made=False)
        task = asyncio.create_task(self._ask(skill, limit, call_id, made=True), name="count-skill-call")
        self._counting[skill] = task
        task.add_done_callback(lambda _: self._counting.pop(skill))
        return 0.0

    async def _ask(self, skill: str, limit: RateLimit, call_id: str, *, made: bool) -> float:
        """Counts a call, which was `made` already or waits for the answer. Returns what `take` does."""
        arguments = [limit.calls, int(limit.per_seconds * 1_000_000), call_id, int(made)]
        answer = await self._redis.tried(lambda: self._take(keys=[self._prefix + skill], args=arguments))
        if answer is None:
            self._rooms.pop(skill, None)
            return await self._alone.take(skill, limit, call_id)
        left, wait = map(int, answer)
        # One that is just being counted may not be in that number yet.
        self._rooms[skill] = _Room(left - (skill in self._counting), self._timer())
        return wait / 1_000_000

    async def close(self) -> None:
        """See `Rates`."""
        await asyncio.gather(*self._counting.values())
        await self._redis.close()

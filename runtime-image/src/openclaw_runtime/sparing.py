"""A Redis that may be away: what is asked of it is optional, and one that fails is left alone for a while."""

import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from redis.asyncio import Redis

PAUSE_SECONDS: Final = 10.0

logger = logging.getLogger(__name__)

T = TypeVar("T")


class SparingRedis:
    """Connections to a Redis; `user` names in the log who does without it, `timer` is a clock that never jumps."""

    def __init__(self, url: str, *, password: str | None, timer: Callable[[], float], user: str) -> None:
        from redis import asyncio as aioredis

        # What would be asked of it elsewhere is never far: a slow server is none.
        self.client: Redis = aioredis.Redis.from_url(url, password=password, socket_timeout=1, socket_connect_timeout=1)
        self._timer = timer
        self._user = user
        self._again_at = 0.0

    async def tried(self, request: Callable[[], Awaitable[T]]) -> T | None:
        """Returns what a request gives, and None for one that fails or is not made."""
        from redis.exceptions import RedisError

        if self._timer() < self._again_at:
            return None
        try:
            return await request()
        except (RedisError, OSError, TimeoutError) as error:
            logger.warning("%s does without Redis for now: %s", self._user, error)
            self._again_at = self._timer() + PAUSE_SECONDS
            return None

    async def close(self) -> None:
        """Closes the connections."""
        await self.client.aclose()

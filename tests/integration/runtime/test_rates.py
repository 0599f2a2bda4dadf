"""The rate limit of skills, counted by replicas that share a real Redis."""

import asyncio
import itertools
import time

import redis as sync_redis

from openclaw_runtime.config import RuntimeConfig
from openclaw_runtime.gateway import stores
from openclaw_runtime.skills.rates import Rates
from openclaw_runtime.skills.types import RateLimit

PREFIX = "openclaw:n:skill-calls:a:"
IDS = (f"call-{number}" for number in itertools.count())


def replica(url: str) -> Rates:
    config = {"claw": {"name": "a", "namespace": "n"}, "bus": {"provider": "redis", "url": url}}
    return stores.rates(RuntimeConfig.model_validate(config), time.monotonic)


async def test_replicas_have_one_limit_together(redis_url: str) -> None:
    replicas, limit = [replica(redis_url) for _ in range(3)], RateLimit(10, 3600)
    at_once = await asyncio.gather(*(each.take("burst", limit, next(IDS)) for each in replicas for _ in range(10)))
    assert at_once.count(0.0) == 10
    assert all(3500 < wait <= 3600 for wait in at_once if wait)

    in_turn = [await each.take("turns", limit, next(IDS)) for each in replicas * 6]
    allowed = in_turn.count(0.0)
    assert 10 <= allowed <= 10 + len(replicas)
    for each in replicas:
        await each.close()
    with sync_redis.Redis.from_url(redis_url) as client:
        assert client.zcard(f"{PREFIX}turns") == allowed
        assert 3_500_000 < int(client.pttl(f"{PREFIX}turns")) <= 3_600_000
    # A replica that starts anew has not forgotten.
    anew = replica(redis_url)
    assert await anew.take("turns", limit, next(IDS)) > 0
    await anew.close()


async def test_a_window_ends(redis_url: str) -> None:
    one, limit = replica(redis_url), RateLimit(1, 0.05)
    assert await one.take("short", limit, next(IDS)) == 0.0
    while (wait := await one.take("short", limit, next(IDS))) > 0:
        assert wait <= 0.05
        await asyncio.sleep(wait)
    await one.close()


async def test_without_the_redis_each_replica_counts_for_itself() -> None:
    one, two = (replica("redis://127.0.0.1:1/0") for _ in range(2))
    limit = RateLimit(1, 3600)
    assert [await one.take("s", limit, "1"), await two.take("s", limit, "2")] == [0.0, 0.0]
    assert await one.take("s", limit, "3") > 3500
    for each in (one, two):
        await each.close()

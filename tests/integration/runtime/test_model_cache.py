"""Answers that replicas share through a real Redis."""

import redis as sync_redis

from openclaw_runtime.models.cache import RedisLayer
from openclaw_runtime.sparing import SparingRedis

PREFIX = "openclaw:n:model-cache:a:"


def layer(url: str, clock: list[float]) -> RedisLayer:
    return RedisLayer(SparingRedis(url, password=None, timer=lambda: clock[0], user="the test"), prefix=PREFIX)


async def test_replicas_share_answers_until_they_expire(redis_url: str) -> None:
    one, two = (layer(redis_url, [0.0]) for _ in range(2))
    await one.put("key", b"value", 60)
    assert await two.get("key") == b"value"
    assert await two.get("other") is None
    with sync_redis.Redis.from_url(redis_url) as client:
        assert 0 < int(client.pttl(f"{PREFIX}key")) <= 60_000
    await one.close()
    await two.close()


async def test_a_redis_that_is_away_is_a_miss_and_left_alone_for_a_while(redis_url: str) -> None:
    clock = [0.0]
    away = layer("redis://127.0.0.1:1/0", clock)
    assert await away.get("key") is None
    away._redis.client = SparingRedis(redis_url, password=None, timer=lambda: 0.0, user="the test").client
    await away.put("key", b"value", 60)
    assert await away.get("key") is None
    clock[0] = 11.0
    await away.put("key", b"value", 60)
    assert await away.get("key") == b"value"
    await away.close()

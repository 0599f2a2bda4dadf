"""The rate limit of skills: the window slides, and a call waits for the others' count only where that may matter."""

import asyncio
from typing import Any

from openclaw_runtime.skills.rates import LocalRates, SharedRates
from openclaw_runtime.skills.types import RateLimit


async def test_the_window_slides() -> None:
    now = [0.0]
    rates, limit = LocalRates(lambda: now[0]), RateLimit(2, 10.0)
    taken = []
    for now[0] in (89.0, 95.0, 98.0, 99.0):
        taken.append(await rates.take("skill", limit, "id"))
    assert taken == [0.0, 0.0, 1.0, 0.0]
    assert await rates.take("other", limit, "id") == 0.0


class FakeRedis:
    """Answers when it is told to; the last of the arguments `asked` with is whether the call was made."""

    def __init__(self) -> None:
        self.client: Any = self
        self.asked: list[list[Any]] = []
        self.answers: asyncio.Queue[list[int] | None] = asyncio.Queue()

    def register_script(self, _: str) -> Any:
        return lambda keys, args: self.asked.append(args)  # noqa: ARG005 - there is one

    async def tried(self, request: Any) -> list[int] | None:
        request()
        return await self.answers.get()

    async def close(self) -> None: ...


async def test_a_call_waits_for_the_others_where_little_room_is_known() -> None:
    now, redis = [0.0], FakeRedis()
    fake: Any = redis
    rates, limit = SharedRates(fake, prefix="p:", timer=lambda: now[0]), RateLimit(10, 60.0)

    async def waits() -> bool:
        """Whether the next call waits for an answer that is late."""
        call = asyncio.ensure_future(rates.take("skill", limit, "id"))
        for _ in range(5):
            await asyncio.sleep(0)
        waited = not call.done()
        redis.answers.put_nowait([room, 0])
        assert await call == 0.0
        for _ in range(5):
            await asyncio.sleep(0)
        return waited

    room = 7
    assert await waits()  # nothing is known
    assert not await waits()
    room = 5
    assert not await waits()
    assert await waits()  # too little
    room = 7
    assert await waits()
    now[0] = 1.0
    assert await waits()  # too old
    assert [bool(args[-1]) for args in redis.asked] == [False, True, True, False, False, False]

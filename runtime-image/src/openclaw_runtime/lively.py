"""Signs of life: what a stream yields while it has nothing to say."""

import asyncio
from collections.abc import AsyncGenerator
from typing import TypeVar

_T = TypeVar("_T")


async def lively(items: AsyncGenerator[_T, None], seconds: float) -> AsyncGenerator[_T | None, None]:
    """Yields the items, and None whenever there was none for so long. To be closed before `items`."""
    upcoming: asyncio.Task[_T] | None = None
    try:
        while True:
            upcoming = upcoming or asyncio.ensure_future(anext(items))
            done, _ = await asyncio.wait([upcoming], timeout=seconds)
            if not done:
                yield None
                continue
            try:
                item = upcoming.result()
            except StopAsyncIteration:
                return
            upcoming = None
            yield item
    finally:
        if upcoming is not None:
            upcoming.cancel()
            await asyncio.gather(upcoming, return_exceptions=True)

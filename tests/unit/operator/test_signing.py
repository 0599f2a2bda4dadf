"""The key pair of a namespace."""

from __future__ import annotations

import asyncio
from typing import Any

from openclaw_operator.reconcile.signing import ensure_signing_key
from openclaw_operator.resources.secrets import SIGNING_SECRET
from tests.unit.operator.fake_api import Bench


async def test_agents_that_come_together_make_one_key_pair() -> None:
    bench = Bench()
    plain, asked = bench.api.create, 0

    async def slow(*args: Any, **options: Any) -> dict[str, Any]:
        nonlocal asked
        asked += 1
        # Everybody who would not wait asks as well before this is answered.
        await asyncio.sleep(0)
        return await plain(*args, **options)

    bench.api.create = slow  # type: ignore[method-assign]
    keys = await asyncio.gather(*(ensure_signing_key(bench.context, "demo") for _ in range(5)))
    assert len(set(keys)) == 1
    assert asked == 1
    assert bench.api.writes("Secret") == [("create", SIGNING_SECRET)]

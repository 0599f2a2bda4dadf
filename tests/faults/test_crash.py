"""The operator is killed after each single write, and a new one finishes what the first began."""

from __future__ import annotations

from typing import Any

import pytest

from tests.faults import world
from tests.faults.harness import Stage
from tests.faults.proxy import Write

# What a new operator may write besides what the first one left undone: the Event that did not come through, and what
# the first had sent but not yet heard about.
EXTRA_WRITES = 6
# There are some hundred writes: each part has every PARTS-th of them.
PARTS = 4


def chosen(writes: list[Write], text: str) -> list[int]:
    """The numbers of the writes that `--crash-points` names: `67`, `60-86`, or a part of a path; all where it is ""."""
    first, dash, last = text.partition("-")
    if first.isdecimal() and (last.isdecimal() or not dash):
        return [write.number for write in writes if int(first) <= write.number <= int(last or first)]
    return [write.number for write in writes if text in str(write)]


async def crash_after_writes(
    stage: Stage, expected: dict[str, Any], *, first: int, every: int, points: str = ""
) -> list[str]:
    """Kill -9 after write `first`, `first + every`, … of those chosen; what went wrong, one line per crash point."""
    await world.create(stage.api, world.resources())
    await stage.start()
    await stage.becomes(expected)
    total = len(stage.proxy.writes)
    failures: list[str] = []
    for point in chosen(stage.proxy.writes, points)[first - 1 :: every]:
        await stage.fresh()
        failures += await _crash_after(stage, expected, point, total)
    return failures


async def _crash_after(stage: Stage, expected: dict[str, Any], point: int, total: int) -> list[str]:
    last: list[Write] = []

    def kill(write: Write) -> None:
        if write.number == point and stage.operator is not None:
            last.append(write)
            stage.operator.running.kill()

    stage.proxy.on_write = kill
    await world.create(stage.api, world.resources())
    await stage.start()
    try:
        await stage.killed()
    except TimeoutError:
        if last:
            raise
        # This time it took fewer writes: there is nothing after which it could be killed.
        await stage.becomes(expected)
        return []
    await stage.start()
    try:
        await stage.becomes(expected)
    except AssertionError as error:
        return [f"killed after {last[0]}: {error}"]
    if len(stage.proxy.writes) > total + EXTRA_WRITES:
        return [f"killed after {last[0]}: {len(stage.proxy.writes)} writes in all instead of {total}"]
    return []


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("part", range(PARTS))
async def test_killed_after_each_write(
    stage: Stage, expected: dict[str, Any], part: int, request: pytest.FixtureRequest
) -> None:
    points = str(request.config.getoption("--crash-points", ""))
    assert await crash_after_writes(stage, expected, first=part + 1, every=PARTS, points=points) == []

"""The operator is killed after each single write, and a new one finishes what the first began.

Once for what is made from nothing, once for what changes and changes back, once for what is deleted.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.bench.api import Object
from tests.bench.waiting import eventually
from tests.faults import world
from tests.faults.harness import BASELINE_QUIET_SECONDS, CONVERGE_SECONDS, Stage
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


def _kill_after(stage: Stage, number: int) -> list[Write]:
    """Have the operator killed with that write; returns what will hold the write then."""
    last: list[Write] = []

    def kill(write: Write) -> None:
        if write.number == number and stage.operator is not None:
            last.append(write)
            stage.operator.running.kill()

    stage.proxy.on_write = kill
    return last


async def _crash_after(stage: Stage, expected: dict[str, Any], point: int, total: int) -> list[str]:
    last = _kill_after(stage, point)
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


@dataclass
class Kills:
    """How often the operator was killed, and what went wrong then."""

    count: int = 0
    failures: list[str] = field(default_factory=list)


async def _killed_while(
    stage: Stage, kills: Kills, point: int, items: list[Object], becomes: dict[str, Any], total: int
) -> None:
    """Change the resources to `items`, which takes `total` writes, kill -9 after so many, and start again."""
    before = len(stage.proxy.writes)
    last = _kill_after(stage, before + point)

    async def killed_or_done() -> bool:
        await world.collect_garbage(stage.api)
        return bool(last) or await stage.snapshot() == becomes

    await world.change(stage.api, items, CONVERGE_SECONDS)
    await eventually(killed_or_done, f"killed after {point} writes, or there", seconds=CONVERGE_SECONDS)
    stage.proxy.on_write = lambda _: None
    if last:
        kills.count += 1
        await stage.killed()
        await stage.start()
    await world.collect_garbage(stage.api)
    what = f"killed after {last[0]}" if last else "not killed"
    try:
        await stage.becomes(becomes)
    except AssertionError as error:
        kills.failures.append(f"{what}: {error}")
    writes = len(stage.proxy.writes) - before
    if writes > total + EXTRA_WRITES:
        kills.failures.append(f"{what}: {writes} writes in all instead of {total}")


async def _writes_of(stage: Stage, items: list[Object]) -> int:
    """How many writes it takes to change the resources to `items`."""
    before = len(stage.proxy.writes)
    await world.change(stage.api, items, CONVERGE_SECONDS)
    await stage.tidy(quiet=BASELINE_QUIET_SECONDS)
    return len(stage.proxy.writes) - before


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("part", range(PARTS))
async def test_killed_after_each_write_of_a_change(stage: Stage, expected: dict[str, Any], part: int) -> None:
    """Features are switched off, a skill is deleted, an agent suspended; then all of it is taken back."""
    # With one worker there is always more work than workers, and what is only told comes late.
    stage.settings = {"workers": "1"} if part % 2 else {}
    await world.create(stage.api, world.resources())
    await stage.start()
    await stage.becomes(expected)
    there = await _writes_of(stage, world.edited())
    edited = await stage.snapshot()
    back = await _writes_of(stage, world.resources())
    await stage.becomes(expected)
    kills = Kills()
    for point in range(part + 1, max(there, back) + 1, PARTS):
        await _killed_while(stage, kills, point, world.edited(), edited, there)
        await _killed_while(stage, kills, point, world.resources(), expected, back)
    assert kills.failures == []
    # It may take a few writes less than the first time.
    assert kills.count > (there + back) / PARTS * 0.7


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("part", range(PARTS))
async def test_killed_after_each_write_of_a_deletion(stage: Stage, expected: dict[str, Any], part: int) -> None:
    """Everything is deleted; a store that wants a last backup is held until it has one."""
    await world.create(stage.api, world.resources())
    await stage.start()
    await stage.becomes(expected)
    total = await _writes_of(stage, [])
    deleted = await stage.snapshot()
    assert "deletionTimestamp" in deleted["MemoryStore/archive"]["metadata"]
    kills = Kills()
    for point in range(part + 1, total + 1, PARTS):
        await stage.fresh()
        await world.create(stage.api, world.resources())
        await stage.start()
        await stage.becomes(expected)
        await _killed_while(stage, kills, point, [], deleted, total)
    assert kills.failures == []
    assert kills.count > 0

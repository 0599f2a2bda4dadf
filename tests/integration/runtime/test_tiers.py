"""Records go from tier to tier, none is lost on the way, and the last tier forgets the least important."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import MetaData, inspect

from openclaw_runtime.errors import MemoryStoreError
from openclaw_runtime.gateway.assembly import Gateway
from openclaw_runtime.memory import tables
from openclaw_runtime.memory.hot import Hot, fused
from openclaw_runtime.memory.records import RecordStore
from openclaw_runtime.memory.sections import Tier, Tiers
from openclaw_runtime.memory.tiers import TierStore
from openclaw_runtime.memory.types import Filters, Found, MemoryRecord, NewRecord, View
from tests.cluster.qdrant_front.app import create_app as create_front
from tests.fakes.llm.gateways import FakeSkills, House, Model
from tests.fakes.llm.serve import serving
from tests.integration.runtime.test_gateway import house, http, model
from tests.integration.runtime.test_summaries import Clock

__all__ = ["house", "model"]

HOUR, DAY = 3_600.0, 86_400.0
NOTES, SUMMARIES = Filters(kinds=("note",)), Filters(kinds=("summary",))


@pytest.fixture(params=["embedded", "server"])
async def clock(request: pytest.FixtureRequest, house: House, tmp_path: Path) -> AsyncIterator[Clock]:
    clock = Clock()
    house.now = clock
    house.memory = {"tiers": {}}
    if request.param == "embedded":
        yield clock
        return
    postgres = request.getfixturevalue("postgres_url")
    async with serving(create_front(tmp_path / "storage", tmp_path / "snapshots", None)) as qdrant:
        house.memory |= {"vector_store": {"url": qdrant}, "records": {"url": postgres}}
        yield clock


def limits(**tiers: tuple[int, float]) -> dict[str, Any]:
    return {name: {"records": records, "max_age": age} for name, (records, age) in tiers.items()}


def held(gateway: Gateway) -> dict[str, float]:
    registry = gateway.state.metrics.registry
    return {
        tier: registry.get_sample_value("openclaw_memory_records", {"tier": tier}) or 0
        for tier in ("hot", "warm", "cold")
    }


async def pass_days(gateway: Gateway, clock: Clock, days: int) -> None:
    """The agent is awake all the time."""
    await gateway.upkeep.tick()
    for _ in range(days):
        clock.time += DAY
        await gateway.upkeep.tick()


async def test_old_records_get_cold_and_are_there_as_before(house: House, clock: Clock, model: Model) -> None:
    house.memory["summarization"] = {"every_records": 3}
    async with house.gateway(house.config("cools"), FakeSkills()) as (gateway, client), http(client) as raw:
        await gateway.upkeep.tick()
        memory = gateway.state.memory
        old = [
            await memory.add(NewRecord(f"The ünicode release number {n} is on Friday", metadata={"n": n}, session="s"))
            for n in range(2)
        ]
        clock.time += DAY + 1
        new = await memory.add(NewRecord("The release after that is on Monday"))
        await gateway.upkeep.tick()
        assert held(gateway) == {"hot": 1, "warm": 1, "cold": 2}
        assert (await memory.recent(5))[0] == new
        assert sorted((await memory.recent(5))[1:], key=lambda record: record.text) == old
        # After a restore of older records it is in both.
        await gateway._memory._records.add(old[0], indexed=True)
        assert len(await memory.recent(5)) == 3
        await gateway.upkeep.tick()
        assert held(gateway)["warm"] == 1
        found = await memory.search("When is release number 1?")
        assert {item.record.id for item in found} == {record.id for record in [*old, new]}
        assert next(item.record for item in found if item.record.id == old[1].id) == old[1]
        verdict = await raw.post(f"/api/v1/memory/{old[0].id}/feedback", json={"useful": True})
        assert verdict.json()["useful"] == 1
        # What was recalled is hot again, and what is cold is still related to what is warm.
        clock.time += 60
        while await gateway.summarizer.tick():
            pass
        (summary,) = await memory.recent(only=SUMMARIES)
        assert set(summary.metadata["sources"]) == {record.id for record in [*old, new]}
        await gateway.upkeep.tick()
        assert held(gateway) == {"hot": 4, "warm": 2, "cold": 2}


async def test_warm_holds_no_more_than_its_records_and_keeps_what_has_no_vector(
    house: House, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.memory["tiers"] = limits(hot=(2, HOUR), warm=(2, DAY), cold=(10, 7 * DAY))
    async with house.gateway(house.config("counts"), FakeSkills()) as (gateway, _):
        await gateway.upkeep.tick()
        memory, index = gateway.state.memory, gateway.upkeep._index
        assert index is not None
        with monkeypatch.context() as patched:

            async def down(*_: object) -> None:
                raise MemoryStoreError("down")

            patched.setattr(index, "upsert", down)
            await memory.add(NewRecord("without a vector yet"))
        for number in range(4):
            clock.time += 1
            await memory.add(NewRecord(f"note {number}"))
        await gateway.upkeep.tick()
        # The oldest has to stay where it is.
        assert held(gateway) == {"hot": 2, "warm": 3, "cold": 2}
        await memory.search("note")
        await gateway.upkeep.tick()
        assert held(gateway)["warm"] == 2
        assert len(await memory.recent(100)) == 5


async def test_the_last_tier_forgets_the_least_important_for_good(house: House, clock: Clock) -> None:
    house.memory["tiers"] = limits(hot=(1, 1), warm=(1, 10), cold=(3, 7 * DAY))
    house.memory["summarization"] = {"enabled": False}
    async with house.gateway(house.config("forgets"), FakeSkills()) as (gateway, _):
        memory = gateway.state.memory
        texts = ["dull", "liked", "grave", "plain", "last"]
        made = {
            text: await memory.add(NewRecord(f"A {text} release", importance=0.9 if text == "grave" else 0.4))
            for text in texts
        }
        await memory.judge(made["liked"].id, useful=True)
        for text in ("plain", "last"):
            await memory.judge(made[text].id, useful=False)
        await memory.judge(made["dull"].id, useful=False)
        await memory.judge(made["dull"].id, useful=False)
        clock.time += 60
        await gateway.upkeep.tick()
        kept = {record.text.split()[1] for record in await memory.recent(10)}
        assert len(kept) == 3
        assert {"liked", "grave"} < kept
        assert "dull" not in kept
        found = await memory.search("A dull release", 10)
        assert {item.record.text.split()[1] for item in found} == kept
        assert await memory.judge(made["dull"].id, useful=True) is None
        # A week later only what its author thought important is left.
        clock.time += 1
        await pass_days(gateway, clock, 7)
        assert [record.text for record in await memory.recent(10)] == ["A grave release"]
        assert [item.record.text for item in await memory.search("release", 10)] == ["A grave release"]
        assert gateway.state.metrics.registry.get_sample_value("openclaw_memory_forgotten_total") == 4


async def test_what_another_replica_forgot_is_hot_no_longer(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.now = Clock()
    house.memory = {"tiers": {}}
    async with house.gateway(house.config("replicas"), FakeSkills()) as (gateway, _):
        memory, index = gateway.state.memory, gateway.upkeep._index
        gone, cold, kept = [await memory.add(NewRecord(f"code X{number}Y")) for number in range(3)]
        assert index is not None
        other = TierStore(gateway._memory._records, namespace="demo", agent="replicas")
        await index.delete([gone.id])
        await other.drop([gone.id])
        assert await other.cool(Tier(records=1, max_age=DAY), house.now()) == 1
        assert {item.record.id for item in await memory.search("code")} == {gone.id, cold.id, kept.id}
        await gateway.upkeep.tick()
        assert {item.record.id for item in await memory.search("code")} == {cold.id, kept.id}
        assert held(gateway)["hot"] == 2
        # What is forgotten next goes by what users taught, like what is recalled.
        judged, seen = await memory.judge(kept.id, useful=True), list[object]()

        async def surplus(_tiers: Tiers, weights: object, _now: float, *, vectors: bool) -> list[str]:
            seen.append(weights)
            return []

        monkeypatch.setattr(gateway.upkeep._store, "surplus", surplus)
        await gateway.upkeep.tick()
        assert judged is not None
        assert seen == [judged.weights] != [gateway._ranking.given]


async def test_a_vector_store_that_is_away_loses_no_record(
    house: House, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.memory["tiers"] = limits(hot=(1, 1), warm=(1, 1), cold=(1, 1))
    async with house.gateway(house.config("away"), FakeSkills()) as (gateway, _):
        for number in range(2):
            clock.time += 60
            await gateway.state.memory.add(NewRecord(f"old news {number}"))
        clock.time += 60
        index = gateway.upkeep._index
        assert index is not None

        async def down(_: object) -> None:
            raise MemoryStoreError("down")

        with monkeypatch.context() as patched:
            patched.setattr(index, "delete", down)
            with pytest.raises(MemoryStoreError):
                await gateway.upkeep.tick()
        assert len(await gateway.state.memory.recent(10)) == 2
        await gateway.upkeep.tick()
        assert [record.text for record in await gateway.state.memory.recent(10)] == ["old news 1"]


async def test_without_tiers_nothing_is_forgotten_and_another_agent_never_is(house: House, clock: Clock) -> None:
    del house.memory["tiers"]
    async with house.gateway(house.config("keeps"), FakeSkills()) as (gateway, _):
        memory = gateway.state.memory
        kept = await memory.add(NewRecord("an old note"))
        clock.time += 3_650 * DAY
        await gateway.upkeep.tick()
        assert await memory.recent() == [kept]
        records = gateway._memory._records
        other = TierStore(records, namespace="demo", agent="other")
        assert await other.cool(Tier(records=1, max_age=1), clock()) == 0
        weights, cold = gateway._ranking.given, Tiers().cold
        assert await other.surplus(cold, weights, clock(), vectors=False) == []
        assert await other.expired(cold, clock(), vectors=False, summarized=False) == []
        # Setting limits forgets nothing at once.
        await gateway.apply(house.config("keeps", memory=house.memory | {"tiers": {}}))
        await gateway.upkeep.tick()
        assert await memory.recent() == [kept]


async def test_nothing_is_too_old_before_it_is_summarised_and_the_agent_was_awake_for_a_day(
    house: House, clock: Clock
) -> None:
    house.memory["summarization"] = {"every_records": 2}
    async with house.gateway(house.config("sleeps"), FakeSkills()) as (gateway, _):
        await gateway.upkeep.tick()
        memory = gateway.state.memory
        for number in range(3):
            clock.time += 1
            await memory.add(NewRecord(f"note {number}"))
        # A month of sleep, or the restore of what was backed up a month ago.
        clock.time += 30 * DAY
        await pass_days(gateway, clock, 2)
        assert len(await memory.recent()) == 3
        while await gateway.summarizer.tick():
            pass
        await gateway.upkeep.tick()
        assert sorted(record.kind for record in await memory.recent()) == ["note", "summary"]
        assert (await memory.recent(only=NOTES))[0].text == "note 2"
        for number in range(3, 6):
            clock.time += 1
            await memory.add(NewRecord(f"note {number}"))
        clock.time += 60
        while await gateway.summarizer.tick():
            pass
        await pass_days(gateway, clock, 4)
        (recalled,) = [record for record in await memory.recent(only=NOTES) if record.text == "note 4"]
        gateway._ranking.recalled([(recalled.id, 1.0)])
        await gateway._ranking.save()
        await pass_days(gateway, clock, 4)
        # The others are as old, but were not recalled.
        assert [record.text for record in await memory.recent(only=NOTES)] == ["note 4"]
        clock.time += 4 * DAY
        await gateway.upkeep.tick()
        assert len(await memory.recent(only=NOTES)) == 1
        await pass_days(gateway, clock, 1)
        assert await memory.recent(only=NOTES) == []


async def test_memory_without_vectors_forgets_by_the_limits_of_cold(house: House) -> None:
    clock = house.now = Clock()
    house.memory = {"type": "file", "tiers": {}, "summarization": {"enabled": False}}
    async with house.gateway(house.config("words"), FakeSkills()) as (gateway, _):
        await gateway.upkeep.tick()
        await gateway.state.memory.add(NewRecord("old"))
        await pass_days(gateway, clock, 7)
        assert held(gateway) == {"hot": 0, "warm": 1, "cold": 0}
        clock.time += 1
        await gateway.upkeep.tick()
        assert await gateway.state.memory.recent() == []


async def test_a_gateway_begins_with_what_was_used_last(house: House) -> None:
    clock = house.now = Clock()
    async with house.gateway(house.config("again"), FakeSkills()) as (gateway, _):
        for number in range(3):
            await gateway.state.memory.add(NewRecord(f"code X{number}Y"))
    clock.time += DAY
    async with house.gateway(house.config("again"), FakeSkills()) as (gateway, _):
        await gateway.upkeep.tick()
        assert held(gateway)["hot"] == 3


async def test_a_database_of_an_older_version_gets_what_it_lacks(house: House, tmp_path: Path) -> None:
    clock = house.now = Clock()
    url = f"sqlite+aiosqlite:///{tmp_path}/old.db"
    house.memory = {"type": "file", "records": {"url": url}, "tiers": {}}
    old, store = MetaData(), RecordStore(url)
    older = tables.records.to_metadata(old)
    newer = next(index for index in older.indexes if index.name == "memory_records_by_group")
    older.indexes.remove(newer)
    await store.create(old)
    kept = replace(record("1", "an old note", agent="old"), namespace="demo", created_at=clock())
    await store.add(kept, indexed=False)
    await store.close()
    async with house.gateway(house.config("old"), FakeSkills()) as (gateway, _):
        assert [item.record for item in await gateway.state.memory.search("note")] == [kept]
        await gateway.upkeep.tick()
        judged = await gateway.state.memory.judge("1", useful=True)
        assert judged is not None
        assert await gateway.state.memory.recent() == [kept]
        async with gateway._memory._records.transaction() as connection:
            indexes = await connection.run_sync(lambda bind: inspect(bind).get_indexes("memory_records"))
        assert newer.name in {index["name"] for index in indexes}


def record(name: str, text: str, *, agent: str = "a", scope: Any = "private") -> MemoryRecord:
    return MemoryRecord(name, "n", agent, text, "note", scope, "", 0.5, {}, 0)


def test_hot_keeps_what_was_used_last_and_only_for_its_time() -> None:
    clock = Clock()
    hot = Hot(Tier(records=2, max_age=10), now=clock)
    hot.touch([record("1", "one red"), record("2", "two red")])
    clock.time += 5
    hot.touch([record("1", "one red")])
    hot.touch([record("3", "three red")])
    mine = View("n", "a", team=False)
    assert {item.record.id for item in hot.search("red", mine, 5)} == {"1", "3"}
    assert hot.search("RED three", mine, 5)[0] == Found(record("3", "three red"), 1.0)
    clock.time += 11
    assert hot.search("red", mine, 5) == []
    hot.touch([record("4", "red", agent="b"), record("5", "red", agent="b", scope="team")])
    assert hot.search("red", mine, 5) == []
    assert [item.record.id for item in hot.search("red", View("n", "a", team=True), 5)] == ["5"]
    hot.forget(["5"])
    assert len(hot) == 1


def test_words_find_what_vectors_miss_and_never_outdo_them_by_much() -> None:
    near = [Found(record("near", "x"), 0.6), Found(record("far", "y"), 0.2)]
    both = fused(near, [Found(record("code", "X17"), 1.0), Found(record("far", "y"), 0.5)])
    assert [(item.record.id, round(item.score, 2)) for item in both] == [("near", 0.6), ("code", 0.3), ("far", 0.25)]
    assert [item.record.id for item in fused([], [Found(record("code", "X17"), 1.0)])] == ["code"]

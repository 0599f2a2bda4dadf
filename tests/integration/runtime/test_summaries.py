"""What agents remember is summarised once, whichever replica does it, and nothing is lost where that fails."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from openclaw_runtime.agent.prompt import choose_recalled
from openclaw_runtime.agent.summaries import portions
from openclaw_runtime.config import RuntimeConfig
from openclaw_runtime.errors import ConfigError, MemoryStoreError
from openclaw_runtime.gateway.assembly import Gateway
from openclaw_runtime.memory.files import MemoryFiles
from openclaw_runtime.memory.summaries import HELD_SECONDS, SummaryStore, pause_after
from openclaw_runtime.memory.types import Filters, MemoryRecord, NewRecord
from tests.fakes.llm.gateways import FakeSkills, House, Model, answer, failure
from tests.integration.runtime.test_gateway import house, model

__all__ = ["house", "model"]

EVERY = 5


class Clock:
    """The time, as the test says it is."""

    def __init__(self) -> None:
        self.time = 1_790_000_000.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def clock(house: House) -> Clock:
    clock = Clock()
    house.now = clock
    house.memory = {"summarization": {"every_records": EVERY, "max_tokens": 77}}
    return clock


async def fill(gateway: Gateway, clock: Clock, count: int, **fields: Any) -> list[MemoryRecord]:
    made = []
    for number in range(count):
        clock.time += 1
        made.append(await gateway.state.memory.add(NewRecord(f"The build number {number} is green", **fields)))
    clock.time += 60
    return made


async def summaries(gateway: Gateway) -> list[MemoryRecord]:
    return await gateway.state.memory.recent(100, team=True, only=Filters(kinds=("summary",)))


async def summarize(*gateways: Gateway) -> None:
    async def all_of(gateway: Gateway) -> None:
        while await gateway.summarizer.tick():
            pass

    await asyncio.gather(*map(all_of, gateways))


def summarized_by(config: RuntimeConfig, name: str) -> RuntimeConfig:
    chosen = config.memory.summarization.model_copy(update={"model": name})
    return config.model_copy(update={"memory": config.memory.model_copy(update={"summarization": chosen})})


def counted(gateway: Gateway, outcome: str) -> float:
    labels = {"of": "records", "outcome": outcome}
    return gateway.state.metrics.registry.get_sample_value("openclaw_memory_summaries_total", labels) or 0


async def test_related_records_are_summarised_once_by_whichever_replica(
    house: House, clock: Clock, model: Model, postgres_url: str
) -> None:
    house.memory |= {"type": "file", "records": {"url": postgres_url}}
    config = house.config("twice")
    async with house.gateway(config, FakeSkills()) as (one, _), house.gateway(config, FakeSkills()) as (two, _):
        made = await fill(one, clock, 2 * EVERY + 1)
        await fill(one, clock, EVERY - 1, kind="commit", scope="team")
        await summarize(one, two)
        await summarize(one, two)
        found = sorted(await summaries(one), key=lambda record: record.metadata["from"])
        ids = [record.id for record in made]
        assert [record.metadata["sources"] for record in found] == [ids[:EVERY], ids[EVERY : 2 * EVERY]]
        assert [(record.metadata["of"], record.scope) for record in found] == [("note", "private")] * 2
        assert (found[0].metadata["from"], found[0].metadata["until"]) == (made[0].created_at, made[4].created_at)
        assert len(model.requests) == 2
        # Room to think beyond the 77 tokens of a summary, which is asked for in words.
        assert {request["max_completion_tokens"] for request in model.requests} == {3_077}
        assert "at most 51 words" in model.system(0)
        assert "never instructions" in model.system(0)
        assert made[0].text in str(model.requests[0]["messages"])
        assert counted(one, "made") + counted(two, "made") == 2
        # It was paid for, and every source is still there.
        assert sum(entry.requests for entry in await one.state.spending.by_model()) == 2
        assert len(await one.state.memory.recent(100, team=True)) == 2 * EVERY + 1 + EVERY - 1 + 2
        # Another scope of the same kind is not related.
        await fill(two, clock, 1, kind="commit")
        await summarize(two)
        assert len(await summaries(two)) == 2
        await fill(two, clock, 1, kind="commit", scope="team")
        await summarize(two)
        assert {(record.metadata["of"], record.scope) for record in await summaries(one)} == {
            ("note", "private"),
            ("commit", "team"),
        }


async def test_a_failure_is_tried_again_later_and_loses_nothing(house: House, clock: Clock, model: Model) -> None:
    async with house.gateway(house.config("a", models={"retry": {"retries": 0}}), FakeSkills()) as (gateway, _):
        await fill(gateway, clock, EVERY)
        model.failures = [failure(500, "down") for _ in range(2)]
        await summarize(gateway)
        await summarize(gateway)
        assert (len(model.requests), counted(gateway, "failed")) == (1, 1)
        clock.time += 901
        await summarize(gateway)
        assert counted(gateway, "failed") == 2
        clock.time += 901
        await summarize(gateway)
        (summary,) = await summaries(gateway)
        assert len(summary.metadata["sources"]) == EVERY


async def test_a_summary_that_was_cut_or_could_not_be_kept_is_a_failure(
    house: House, clock: Clock, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with house.gateway(house.config("a", models={"retry": {"retries": 0}}), FakeSkills()) as (gateway, _):
        await fill(gateway, clock, EVERY)
        with monkeypatch.context() as patched:

            async def down(*_: object) -> None:
                raise MemoryStoreError("down")

            patched.setattr(gateway.summarizer._store, "settle", down)
            await summarize(gateway)
        assert (len(model.requests), counted(gateway, "failed")) == (1, 1)
        clock.time += pause_after(1) + 1
        model.failures = [answer("The builds 0 to", "length")]
        await summarize(gateway)
        assert (len(model.requests), counted(gateway, "failed"), await summaries(gateway)) == (2, 2, [])
        clock.time += pause_after(2) + 1
        model.failures = [answer("All builds\0 are green", "stop")]
        await summarize(gateway)
        assert [record.text for record in await summaries(gateway)] == ["All builds are green"]


async def test_no_summary_is_made_beyond_the_budget(house: House, clock: Clock, model: Model) -> None:
    claw = house.config("a").claw.model_dump() | {"pricing": {"input_per_million": 1, "output_per_million": 1}}
    models = {"budget": {"per_day": 0.000001}}
    async with house.gateway(house.config("a", claw=claw, models=models), FakeSkills()) as (gateway, _):
        await fill(gateway, clock, EVERY)
        await summarize(gateway)
        assert model.requests == []
        assert counted(gateway, "failed") == 1


async def test_a_replica_that_came_too_late_keeps_no_second_summary(house: House, clock: Clock) -> None:
    async with house.gateway(house.config("a"), FakeSkills()) as (gateway, _):
        await fill(gateway, clock, EVERY)
        memory = gateway._memory
        slow, fast = (
            SummaryStore(memory._records, namespace="demo", agent="a", replica=replica) for replica in ("slow", "fast")
        )
        taken = await slow.take(EVERY, clock())
        assert taken is not None
        assert await fast.take(EVERY, clock()) is None
        again = await fast.take(EVERY, clock() + HELD_SECONDS)
        assert again is not None
        assert again.records == taken.records
        assert not await slow.settle(taken, memory.new(NewRecord("slow", kind="summary")))
        await slow.fail(taken, clock())
        assert await fast.settle(again, memory.new(NewRecord("fast", kind="summary")))
        assert [record.text for record in await summaries(gateway)] == ["fast"]
        assert await slow.take(EVERY, clock() + HELD_SECONDS) is None


async def test_the_cheapest_model_summarises_unless_another_is_named(house: House, clock: Clock, model: Model) -> None:
    dear, cheap = ({"input_per_million": price, "output_per_million": price} for price in (9, 1))
    claw = house.config("a").claw.model_dump() | {"pricing": dear}
    other = {"provider": "openai-compatible", "model": "small", "base_url": house.model_url, "pricing": cheap}
    config = house.config("a", claw=claw, models={"fallbacks": [other]})
    async with house.gateway(config, FakeSkills()) as (gateway, _):
        await fill(gateway, clock, EVERY)
        await summarize(gateway)
        await gateway.apply(summarized_by(config, "stand-in"))
        assert gateway.state.restart_needed == []
        await fill(gateway, clock, EVERY)
        await summarize(gateway)
        assert [request["model"] for request in model.requests] == ["small", "stand-in"]
        with pytest.raises(ConfigError, match=r"memory.summarization.model: nobody is none of the agent's models"):
            await gateway.apply(summarized_by(config, "nobody"))


async def test_a_long_memory_file_is_summarised_and_a_persons_lines_stay(
    house: House, clock: Clock, model: Model, tmp_path: Path
) -> None:
    folder = tmp_path / "files"
    house.memory |= {"type": "file", "file_memory": {"path": str(folder), "summary_interval": 6}}
    house.memory["summarization"] = {"enabled": False}
    async with house.gateway(house.config("a"), FakeSkills()) as (gateway, _):
        await fill(gateway, clock, 6, importance=0.9, kind="code review")
        file = folder / "MEMORY.md"
        file.write_text(file.read_text().replace("# Memory\n", "# Memory\n\n- Call me Ada.\n"))
        await summarize(gateway)
        assert model.requests == []
        await fill(gateway, clock, 1, importance=0.9)
        before = file.read_text().splitlines()
        await summarize(gateway)
        after = file.read_text().splitlines()
        assert len(model.requests) == 1
        assert after[:4] == before[:4]
        assert after[4].startswith("- 2026-09-21 summary: ")
        assert after[5:] == before[8:]
        archive = (folder / "MEMORY-archive.md").read_text().splitlines()
        assert archive[2:] == before[4:8]
        # What a person changed in between stays as it is.
        assert not await MemoryFiles(folder).summarize([f"{before[4]}\n"], "late", clock())
        assert file.read_text().splitlines() == after


def test_a_summary_stands_for_its_sources_that_match_less_well() -> None:
    def record(name: str, kind: str = "note", sources: tuple[str, ...] = ()) -> MemoryRecord:
        return MemoryRecord(name, "n", "a", name, kind, "private", "", 0.5, {"sources": list(sources)}, 0)

    found = [record("best"), record("sum", "summary", ("best", "covered", "newest")), record("covered"), record("x")]
    chosen = choose_recalled(found, [record("newest")], session="s")
    assert [each.id for each in chosen] == ["best", "sum", "x"]


def test_long_memories_are_summarised_in_portions_that_fit() -> None:
    texts = portions(["a" * 4, "b" * 5, "c" * 30, "d"], 10)
    assert texts == ["aaaa\nbbbbb", "c" * 10, "d"]
    assert portions([]) == []


def test_pauses_grow_and_end() -> None:
    assert [pause_after(failures) for failures in (1, 2, 3)] == [300, 600, 1_200]
    assert pause_after(10_000) == 6 * 3_600

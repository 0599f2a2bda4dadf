"""What runs at set times: once whichever replica runs it, made up after a pause, ended with its gateway."""

import asyncio
import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from openclaw_runtime.config import RuntimeConfig
from openclaw_runtime.errors import ConfigError
from openclaw_runtime.gateway.assembly import Gateway
from openclaw_runtime.schedules.store import LEASE_SECONDS, ScheduleStore, State
from openclaw_runtime.skills.audit import Audit, Record
from openclaw_runtime.skills.types import Trigger
from tests.fakes.llm.gateways import FakeSkills, House, Model
from tests.integration.runtime.test_gateway import house, http, model

__all__ = ["house", "model"]

CALL = {"name": "git-ai-helper", "action": "smartCommit", "input": {"emoji": False}}
NINE = {"name": "nine", "schedule": "0 9 * * *", "skill": CALL}
EVERY_MINUTE = {"name": "often", "schedule": "* * * * *", "skill": CALL}


def at(text: str) -> float:
    return datetime.fromisoformat(f"2026-11-{text}+00:00").timestamp()


class Clock:
    """The time of day, as the test says it is."""

    def __init__(self, text: str) -> None:
        self.time = at(text)

    def __call__(self) -> float:
        return self.time

    def set(self, text: str) -> None:
        self.time = at(text)


class Kept:
    """An audit sink that keeps what it is given."""

    def __init__(self) -> None:
        self.records: list[Any] = []

    async def write(self, record: Record) -> None:
        self.records.append(record)


@pytest.fixture
def clock(house: House) -> Clock:
    clock = Clock("27T08:00")
    house.now = clock
    house.memory = {"type": "file"}
    return clock


def timed(house: House, *schedules: dict[str, Any], name: str = "a") -> RuntimeConfig:
    return house.config(name, schedules=list(schedules))


async def run_due(*gateways: Gateway) -> None:
    """Has every gateway look at the clock at once, and waits until what is due has ended."""
    await asyncio.gather(*(gateway.scheduler.tick() for gateway in gateways))
    await asyncio.gather(*(gateway.scheduler.idle() for gateway in gateways))


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not true():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0)


def counted(gateway: Gateway, schedule: str, outcome: str) -> float | None:
    return gateway.state.metrics.registry.get_sample_value(
        "openclaw_schedule_runs_total", {"schedule": schedule, "outcome": outcome}
    )


async def test_of_two_replicas_one_runs_a_slot(house: House, clock: Clock, postgres_url: str) -> None:
    kept = Kept()
    house.audit = Audit([kept])
    house.memory = {"type": "file", "records": {"url": postgres_url}}
    fakes = [FakeSkills("git-ai-helper"), FakeSkills("git-ai-helper")]
    config = timed(house, NINE, name="twice")
    async with (
        house.gateway(config, fakes[0]) as (one, client),
        house.gateway(config, fakes[1]) as (two, _),
        http(client) as raw,
    ):
        await run_due(one, two)
        assert [fake.calls for fake in fakes] == [[], []]
        for day in range(27, 30):
            clock.set(f"{day}T09:00:01")
            await run_due(one, two)
            await run_due(one, two)
        session = "schedule/nine"
        calls = [call for fake in fakes for call in fake.calls]
        assert calls == [("git-ai-helper", "smartCommit", {"emoji": False}, session)] * 3
        assert sum(counted(each, "nine", "succeeded") or 0 for each in (one, two)) == 3
        (shown,) = (await raw.get("/api/v1/schedules")).json()
        assert (shown["last_run"]["slot"], shown["last_run"]["outcome"]) == (at("29T09:00"), "succeeded")
        assert (shown["next_run"], shown["running"], shown["session"]) == (at("30T09:00"), False, session)
        messages = (await raw.get(f"/api/v1/sessions/{session}")).json()["messages"]
        assert messages[0]["content"] == 'git-ai-helper smartCommit {"emoji": false}'
        assert "Committed abc1234" in messages[1]["content"]
        assert len(messages) == 6
    runs = [record for record in kept.records if record.event == "schedule run"]
    assert [(run.schedule, run.slot, run.outcome) for run in runs][-1] == ("nine", at("29T09:00"), "succeeded")
    assert json.loads(runs[0].line())["session"] == session


@pytest.mark.parametrize(
    ("deadline", "calls", "outcome"), [(None, 1, "succeeded"), (7200, 1, "succeeded"), (60, 0, "missed")]
)
async def test_a_slot_missed_while_no_gateway_was_there_is_made_up_once_and_in_time(
    house: House, clock: Clock, deadline: int | None, calls: int, outcome: str
) -> None:
    fake = FakeSkills("git-ai-helper")
    config = timed(house, NINE | {"starting_deadline_seconds": deadline})
    async with house.gateway(config, fake) as (gateway, _):
        await run_due(gateway)
    clock.set("29T10:30")
    for _ in range(2):
        async with house.gateway(config, fake) as (gateway, client), http(client) as raw:
            await run_due(gateway)
            (shown,) = (await raw.get("/api/v1/schedules")).json()
            assert (shown["last_run"]["slot"], shown["last_run"]["outcome"]) == (at("29T09:00"), outcome)
    assert len(fake.calls) == calls


async def test_schedules_come_change_and_go_with_the_configuration(house: House, clock: Clock) -> None:
    fake = FakeSkills("git-ai-helper")
    async with house.gateway(timed(house), fake) as (gateway, _):
        clock.set("27T10:00")
        await gateway.apply(timed(house, NINE))
        await run_due(gateway)
        assert fake.calls == [], "a new schedule begins now"
        clock.set("28T09:00")
        await run_due(gateway)
        assert len(fake.calls) == 1
        clock.set("28T12:00")
        await gateway.apply(timed(house, NINE | {"schedule": "0 11 * * *"}))
        await run_due(gateway)
        assert len(fake.calls) == 1, "what the new times would have had is not made up"
        await gateway.apply(timed(house, NINE | {"schedule": "0 11 * * *", "suspend": True}))
        clock.set("29T11:30")
        await run_due(gateway)
        await gateway.apply(timed(house, NINE | {"schedule": "0 11 * * *"}))
        await run_due(gateway)
        assert len(fake.calls) == 1, "nor is what was suspended"
        await gateway.apply(timed(house))
        clock.set("30T11:30")
        await run_due(gateway)
        assert len(fake.calls) == 1
        assert await gateway.scheduler.view() == []


@pytest.mark.parametrize(("policy", "calls"), [("Allow", 2), ("Forbid", 1)])
async def test_a_run_that_takes_long_and_the_next_slot(house: House, clock: Clock, policy: str, calls: int) -> None:
    fake = FakeSkills("git-ai-helper")
    fake.gate = asyncio.Event()
    config = timed(house, EVERY_MINUTE | {"concurrency_policy": policy})
    async with house.gateway(config, fake) as (gateway, _):
        await run_due(gateway)
        clock.set("27T08:01")
        await gateway.scheduler.tick()
        await fake.called.wait()
        fake.called.clear()
        clock.set("27T08:02")
        await gateway.scheduler.tick()
        if policy == "Allow":
            await fake.called.wait()
        else:
            await until(lambda: counted(gateway, "often", "skipped") == 1)
        (shown,) = await gateway.scheduler.view()
        assert shown["running"]
        fake.gate.set()
        await gateway.scheduler.idle()
        assert len(fake.calls) == calls
        assert counted(gateway, "often", "succeeded") == calls


@pytest.mark.parametrize("finishes", [True, False])
async def test_a_run_ends_with_its_gateway_in_time_or_is_interrupted_and_not_repeated(
    house: House, clock: Clock, finishes: bool
) -> None:
    fake = FakeSkills("git-ai-helper")
    fake.gate = asyncio.Event()
    config = timed(house, NINE)
    async with house.gateway(config, fake) as (gateway, _):
        await run_due(gateway)
        clock.set("27T09:00")
        await gateway.scheduler.tick()
        await fake.called.wait()
        closing = asyncio.create_task(gateway.close(60 if finishes else 0.05))
        if finishes:
            await until(lambda: gateway.state.draining)
            fake.gate.set()
        assert await closing is finishes
        assert counted(gateway, "nine", "succeeded" if finishes else "interrupted") == 1
    fake.gate.set()
    async with house.gateway(config, fake) as (gateway, _):
        await run_due(gateway)
        (shown,) = await gateway.scheduler.view()
        assert shown["last_run"]["outcome"] == ("succeeded" if finishes else "interrupted")
    assert len(fake.calls) == 1


async def test_a_gateway_that_ends_takes_no_slot(house: House, clock: Clock) -> None:
    fake = FakeSkills("git-ai-helper")
    config = timed(house, NINE)
    async with house.gateway(config, fake) as (gateway, _):
        await run_due(gateway)
        clock.set("27T09:00")
        gateway.state.draining = True
        await run_due(gateway)
    assert fake.calls == []
    async with house.gateway(config, fake) as (gateway, _):
        await run_due(gateway)
    assert len(fake.calls) == 1


async def test_the_run_of_a_gateway_that_was_killed_is_told_and_not_repeated(house: House, clock: Clock) -> None:
    fake = FakeSkills("git-ai-helper")
    config = timed(house, NINE)
    async with house.gateway(config, fake) as (gateway, _):
        await run_due(gateway)
        clock.set("27T09:00")
        # A process that dies between the two writes nothing more.
        store = gateway.scheduler._store
        assert await store.settle("nine", "0 9 * * * Etc/UTC", at("27T09:00"), clock(), "running", forbid=False)
    async with house.gateway(config, fake) as (gateway, _):
        await run_due(gateway)
        (shown,) = await gateway.scheduler.view()
        assert shown["last_run"]["outcome"] == "running"
        clock.time += LEASE_SECONDS + 1
        await run_due(gateway)
        (shown,) = await gateway.scheduler.view()
        assert (shown["last_run"]["outcome"], shown["running"]) == ("interrupted", False)
        assert counted(gateway, "nine", "interrupted") == 1
    assert fake.calls == []


async def test_a_prompt_is_a_turn_of_its_own_each_time(house: House, clock: Clock, model: Model) -> None:
    prompt = {"name": "brief", "schedule": "@hourly", "prompt": "What is new today?"}
    async with house.gateway(timed(house, prompt), FakeSkills()) as (gateway, _):
        await run_due(gateway)
        for hour in (9, 10):
            clock.set(f"27T{hour:02}:00")
            await run_due(gateway)
        assert [message["content"] for message in model.requests[-1]["messages"] if message["role"] == "user"] == [
            "What is new today?"
        ]
        assert "The schedule brief started this turn" in model.system()
        messages = await gateway.state.memory.session("schedule/brief")
        assert [message.role for message in messages] == ["user", "assistant"] * 2


async def test_a_run_that_fails_is_told_and_the_next_one_comes(house: House, clock: Clock) -> None:
    fake = FakeSkills("git-ai-helper")
    fake.fails = "the disk is full"
    async with house.gateway(timed(house, NINE), fake) as (gateway, _):
        await run_due(gateway)
        clock.set("27T09:00")
        await run_due(gateway)
        (shown,) = await gateway.scheduler.view()
        assert shown["last_run"]["outcome"] == "failed"
        assert "the disk is full" in shown["last_run"]["message"]
        fake.fails = None
        clock.set("28T09:00")
        await run_due(gateway)
        assert (counted(gateway, "nine", "failed"), counted(gateway, "nine", "succeeded")) == (1, 1)


async def test_the_cron_triggers_of_a_skill_run_in_utc(house: House, clock: Clock) -> None:
    fake = FakeSkills("git-ai-helper")
    fake.triggers = (
        Trigger("cron", "smartCommit", schedule="0 9,18 * * *"),
        Trigger("cron", "smartCommit", schedule="@weekly"),
    )
    async with house.gateway(timed(house), fake) as (gateway, _):
        await run_due(gateway)
        for time in ("27T09:00", "27T18:00", "29T00:00"):
            clock.set(time)
            await run_due(gateway)
        session = "schedule/git-ai-helper/smartCommit"
        # On Sunday that of Saturday evening is made up, too: nobody looked at the clock in between.
        assert sorted(call[3] for call in fake.calls) == [session, session, session, f"{session}/2"]
        shown = await gateway.scheduler.view()
        assert [(item["name"], item["trigger_of"]) for item in shown] == [
            ("git-ai-helper/smartCommit", "git-ai-helper"),
            ("git-ai-helper/smartCommit/2", "git-ai-helper"),
        ]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (CALL | {"name": "other"}, "schedules.0.skill.name: there is no skill 'other'; installed: git-ai-helper"),
        (
            CALL | {"action": "other"},
            "schedules.0.skill.action: git-ai-helper has no action 'other'; it has: smartCommit",
        ),
    ],
)
async def test_a_schedule_of_what_there_is_not_is_refused(
    house: House, tmp_path: Path, call: dict[str, Any], message: str
) -> None:
    del tmp_path
    gateway = Gateway(timed(house, NINE | {"skill": call}), house.around("a"), FakeSkills("git-ai-helper"))
    with pytest.raises(ConfigError) as refusal:
        await gateway.start()
    assert message in str(refusal.value)
    await gateway.close(0)


async def test_a_configuration_that_is_refused_changes_neither_skills_nor_schedules(
    house: House, clock: Clock, tmp_path: Path
) -> None:
    config = house.config("a", schedules=[NINE], skills={"directories": [str(tmp_path / "git-ai-helper")]})
    other = house.config("a", schedules=[NINE], skills={"directories": [str(tmp_path / "other")]})
    fake = FakeSkills("git-ai-helper")
    async with house.gateway(config, fake) as (gateway, _):
        loop = gateway.state.loop
        with pytest.raises(ConfigError, match=r"there is no skill 'git-ai-helper'; installed: other"):
            await gateway.apply(other)
        assert (fake.names, gateway.state.loop) == (("git-ai-helper",), loop)
        await run_due(gateway)
        clock.set("27T09:00")
        await run_due(gateway)
        assert counted(gateway, "nine", "succeeded") == 1


async def test_a_run_that_its_replica_does_not_know_of_ends_while_others_run(house: House, clock: Clock) -> None:
    """Its end was not noted, or the answer that it was taken got lost: with Forbid it would hold up all that follow."""
    fake = FakeSkills("git-ai-helper")
    fake.gate = asyncio.Event()
    other = NINE | {"name": "other", "schedule": "0 12 * * *"}
    async with house.gateway(timed(house, NINE, other), fake) as (gateway, _):
        await run_due(gateway)
        clock.set("27T09:00")
        await gateway.scheduler.tick()
        await fake.called.wait()
        store = gateway.scheduler._store
        assert await store.settle("other", "0 12 * * * Etc/UTC", at("27T08:30"), clock(), "running", forbid=True)
        for _ in range(2):
            clock.time += LEASE_SECONDS * 0.6
            await gateway.scheduler.tick()
        assert (counted(gateway, "other", "interrupted"), counted(gateway, "nine", "interrupted")) == (1, 0)
        fake.gate.set()


async def test_a_replica_that_hears_late_of_a_schedule_undoes_no_slot(house: House, clock: Clock) -> None:
    fake = FakeSkills("git-ai-helper")
    async with house.gateway(timed(house, NINE), fake) as (gateway, _):
        await run_due(gateway)
        clock.set("27T09:00")
        await run_due(gateway)
        store = gateway.scheduler._store
        settled = await store.states()

        async def before(_connection: object) -> dict[str, State]:
            return {"nine": State("another", 0)}

        late = ScheduleStore(store._records, namespace=store._namespace, agent=store._agent, replica="late")
        late._states = before  # type: ignore[assignment, method-assign]
        await late.adopt({"nine": settled["nine"].definition}, at("27T08:59"))
        assert await store.states() == settled

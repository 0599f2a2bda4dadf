"""One suite for both transports of the bus, then what only Redis Streams can do."""

import asyncio
import itertools
import time
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any
from unittest.mock import AsyncMock

import pytest
from redis import asyncio as aioredis

from openclaw_runtime.bus.bus import MessageBus
from openclaw_runtime.bus.local import LocalBroker, LocalTransport
from openclaw_runtime.bus.messages import Message, Transport
from openclaw_runtime.bus.streams import RedisTransport
from openclaw_runtime.errors import BusError, BusTimeoutError, RemoteAgentError

LEASE_MS = 300
_ids = itertools.count(1)


def wall_ms() -> int:
    return int(time.time() * 1000)


class Agents:
    """Makes buses on one shared transport medium and closes them at the end."""

    def __init__(self, make_transport: Callable[[], Transport]) -> None:
        self.make_transport = make_transport
        self.buses: list[MessageBus] = []

    async def join(self, name: str, handler: Callable[[Message], Any] | None = None) -> MessageBus:
        async def echo(message: Message) -> dict[str, Any]:
            return {"agent": name, "echo": message.payload}

        bus = MessageBus(name, self.make_transport(), now_ms=wall_ms, new_id=lambda: uuid.uuid4().hex)
        await bus.start(handler or echo)
        self.buses.append(bus)
        return bus


def redis_transport(url: str) -> RedisTransport:
    return RedisTransport(url, namespace="test", replica=f"r{next(_ids)}", now_ms=wall_ms, lease_ms=LEASE_MS)


@pytest.fixture(params=["local", "redis"])
async def agents(request: pytest.FixtureRequest) -> AsyncIterator[Agents]:
    if request.param == "local":
        broker = LocalBroker()
        made = Agents(lambda: LocalTransport(broker))
    else:
        url = request.getfixturevalue("redis_url")
        made = Agents(lambda: redis_transport(url))
    yield made
    for bus in made.buses:
        await bus.close()


async def test_a_request_gets_its_answer(agents: Agents) -> None:
    asker = await agents.join("coordinator")
    await agents.join("code-expert")
    assert await asker.request("code-expert", {"task": "commit"}) == {
        "agent": "code-expert",
        "echo": {"task": "commit"},
    }


async def test_many_requests_at_once_do_not_mix(agents: Agents) -> None:
    asker = await agents.join("coordinator")
    await agents.join("code-expert")
    answers = await asyncio.gather(*(asker.request("code-expert", {"n": n}) for n in range(50)))
    assert [answer["echo"]["n"] for answer in answers] == list(range(50))


async def test_an_expected_failure_reaches_the_asker_with_its_reason(agents: Agents) -> None:
    async def fails(message: Message) -> dict[str, Any]:
        raise BusError("the branch is protected")

    asker = await agents.join("coordinator")
    await agents.join("code-expert", fails)
    with pytest.raises(RemoteAgentError, match="the branch is protected"):
        await asker.request("code-expert", {})


async def test_an_unexpected_failure_hides_its_details(agents: Agents) -> None:
    async def crashes(message: Message) -> dict[str, Any]:
        raise RuntimeError("password=hunter2")

    asker = await agents.join("coordinator")
    await agents.join("code-expert", crashes)
    with pytest.raises(RemoteAgentError, match="code-expert failed") as caught:
        await asker.request("code-expert", {})
    assert "hunter2" not in str(caught.value)


async def test_silence_is_a_timeout(agents: Agents) -> None:
    asker = await agents.join("coordinator")
    with pytest.raises(BusTimeoutError, match="agent nobody did not answer within 50 ms"):
        await asker.request("nobody", {}, timeout_ms=50)


async def test_a_message_sent_before_the_agent_starts_is_delivered(agents: Agents) -> None:
    asker = await agents.join("coordinator")
    answer = asyncio.create_task(asker.request("late", {"n": 1}))
    await asyncio.sleep(0)
    await agents.join("late")
    assert (await answer)["agent"] == "late"


async def test_a_stale_request_is_not_executed(agents: Agents) -> None:
    seen: list[str] = []

    async def record(message: Message) -> dict[str, Any]:
        seen.append(message.payload["name"])
        return {}

    asker = await agents.join("coordinator")
    with pytest.raises(BusTimeoutError):
        await asker.request("late", {"name": "stale"}, timeout_ms=20)
    await agents.join("late", record)
    await asker.request("late", {"name": "fresh"})
    assert seen == ["fresh"]


async def test_a_broadcast_gathers_every_answer_and_an_error_stops_nobody(agents: Agents) -> None:
    async def fails(message: Message) -> dict[str, Any]:
        raise BusError("no disk")

    async def silent(message: Message) -> dict[str, Any]:
        await asyncio.Event().wait()
        return {}

    asker = await agents.join("coordinator")
    await agents.join("a")
    await agents.join("b", fails)
    await agents.join("c", silent)
    answers = await asker.broadcast({"ping": 1}, timeout_ms=400)
    assert [(answer.agent, answer.payload is not None) for answer in answers] == [
        ("a", True),
        ("b", False),
        ("c", False),
    ]
    assert answers[0].payload == {"agent": "a", "echo": {"ping": 1}}
    assert answers[1].error == "no disk"
    assert "no answer within 400 ms" in (answers[2].error or "") or "needed more than 400 ms" in (
        answers[2].error or ""
    )


async def test_a_send_to_many_reaches_each_without_an_answer(agents: Agents) -> None:
    seen: asyncio.Queue[tuple[str, Any]] = asyncio.Queue()

    def recorder(name: str) -> Callable[[Message], Any]:
        async def record(message: Message) -> dict[str, Any]:
            seen.put_nowait((name, message.payload["n"]))
            return {}

        return record

    asker = await agents.join("coordinator")
    await agents.join("a", recorder("a"))
    await agents.join("b", recorder("b"))
    await asker.send(["a", "b"], {"n": 7})
    assert sorted([await seen.get(), await seen.get()]) == [("a", 7), ("b", 7)]


async def test_one_replica_of_an_agent_handles_a_message(agents: Agents) -> None:
    seen: list[int] = []

    async def count(message: Message) -> dict[str, Any]:
        seen.append(message.payload["n"])
        return {}

    asker = await agents.join("coordinator")
    await agents.join("code-expert", count)
    await agents.join("code-expert", count)
    await asyncio.gather(*(asker.request("code-expert", {"n": n}) for n in range(20)))
    assert sorted(seen) == list(range(20))


async def test_the_same_message_id_is_handled_once(agents: Agents) -> None:
    seen: list[str] = []

    async def record(message: Message) -> dict[str, Any]:
        seen.append(message.id)
        return {}

    asker = await agents.join("coordinator")
    await agents.join("code-expert", record)
    repeated = Message(
        id="one", sender="coordinator", to="code-expert", type="request", payload={}, timestamp=wall_ms()
    )
    for _ in range(3):
        await agents.buses[0]._transport.publish("code-expert", repeated)
    await asker.request("code-expert", {})
    assert seen.count("one") == 1


async def test_closing_lets_a_running_handler_finish(agents: Agents) -> None:
    started, release = asyncio.Event(), asyncio.Event()

    async def slow(message: Message) -> dict[str, Any]:
        started.set()
        await release.wait()
        return {"done": True}

    asker = await agents.join("coordinator")
    worker = await agents.join("code-expert", slow)
    answer = asyncio.create_task(asker.request("code-expert", {}))
    await started.wait()
    closing = asyncio.create_task(worker.close(drain_seconds=30))
    release.set()
    agents.buses.remove(worker)
    assert await answer == {"done": True}
    await closing


@pytest.mark.parametrize("timeout_ms", [1, 2, 3, 5])
async def test_redis_keeps_to_a_timeout_that_ends_while_it_connects(redis_url: str, timeout_ms: int) -> None:
    for _ in range(5):
        crowd = Agents(lambda: redis_transport(redis_url))
        asker = await crowd.join("coordinator")
        with pytest.raises(BusTimeoutError):
            await asker.request("nobody", {}, timeout_ms=timeout_ms)
        await asker.close()


async def test_redis_takes_over_what_a_dead_replica_left(redis_url: str) -> None:
    taken = asyncio.Event()

    async def hangs(message: Message) -> dict[str, Any]:
        taken.set()
        await asyncio.Event().wait()
        return {}

    crowd = Agents(lambda: redis_transport(redis_url))
    asker = await crowd.join("coordinator")
    dying = await crowd.join("code-expert", hangs)
    answer = asyncio.create_task(asker.request("code-expert", {"task": "commit"}))
    await taken.wait()
    for task in [*dying._transport._loops, *dying._transport._running.values()]:  # type: ignore[attr-defined]
        task.cancel()
    crowd.buses.remove(dying)
    await crowd.join("code-expert")
    assert (await answer)["echo"] == {"task": "commit"}
    for bus in crowd.buses:
        await bus.close()


async def test_redis_keeps_a_long_call_with_its_replica(redis_url: str) -> None:
    calls: list[str] = []

    def handler(name: str) -> Callable[[Message], Any]:
        async def slow(message: Message) -> dict[str, Any]:
            calls.append(name)
            await asyncio.sleep(4 * LEASE_MS / 1000)
            return {}

        return slow

    crowd = Agents(lambda: redis_transport(redis_url))
    asker = await crowd.join("coordinator")
    await crowd.join("code-expert", handler("one"))
    await crowd.join("code-expert", handler("two"))
    await asker.request("code-expert", {})
    assert len(calls) == 1
    for bus in crowd.buses:
        await bus.close()


async def test_redis_keeps_long_calls_with_their_replica_when_it_is_full(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One replica is full and finds the entry of a dead one: the lease of what it handles must not end over that."""
    monkeypatch.setattr("openclaw_runtime.bus.streams._MAX_RUNNING", 1)
    calls: list[str] = []
    taken, held = asyncio.Event(), asyncio.Event()

    async def full(message: Message) -> dict[str, Any]:
        calls.append(f"full {message.payload['n']}")
        taken.set()
        await held.wait()
        return {}

    async def free(message: Message) -> dict[str, Any]:
        calls.append(f"free {message.payload['n']}")
        return {}

    crowd = Agents(lambda: redis_transport(redis_url))
    asker = await crowd.join("coordinator")
    first = await crowd.join("code-expert", full)
    one = asyncio.create_task(asker.request("code-expert", {"n": 1}))
    await taken.wait()
    # A replica that died with an entry: delivered to a consumer that is not there any more.
    redis = aioredis.Redis.from_url(redis_url)
    transport = first._transport
    assert isinstance(transport, RedisTransport)
    await transport.pause()
    two = asyncio.create_task(asker.request("code-expert", {"n": 2}))
    while not await redis.xreadgroup("replicas", "dead", {transport._stream: ">"}, count=1, block=1000):
        pass
    transport._paused = False
    await asyncio.sleep(5 * LEASE_MS / 1000)  # several leases, with nobody else to take anything over
    await crowd.join("code-expert", free)
    await two
    await asyncio.sleep(2 * LEASE_MS / 1000)  # the free replica would take over what is not renewed
    held.set()
    await one
    assert sorted(calls) == ["free 2", "full 1"]
    for bus in crowd.buses:
        await bus.close()
    await redis.aclose()


async def test_redis_takes_nothing_over_while_it_drains(redis_url: str) -> None:
    calls: list[str] = []

    async def never(message: Message) -> dict[str, Any]:
        calls.append(message.id)
        return {}

    crowd = Agents(lambda: redis_transport(redis_url))
    asker = await crowd.join("coordinator")
    draining = await crowd.join("code-expert", never)
    transport = draining._transport
    assert isinstance(transport, RedisTransport)
    await draining.pause()
    redis = aioredis.Redis.from_url(redis_url)
    await asker.send("code-expert", {})
    assert await redis.xreadgroup("replicas", "dead", {transport._stream: ">"}, count=1, block=1000)
    await asyncio.sleep(3 * LEASE_MS / 1000)  # the lease of the dead replica is over for long
    assert calls == []
    for bus in crowd.buses:
        await bus.close()
    await redis.aclose()


async def test_redis_leaves_nothing_behind(redis_url: str) -> None:
    crowd = Agents(lambda: redis_transport(redis_url))
    asker = await crowd.join("coordinator")
    await crowd.join("code-expert")
    for n in range(10):
        await asker.request("code-expert", {"n": n})
    client = aioredis.Redis.from_url(redis_url)
    stream = "{openclaw:test}:agent:code-expert"
    pending = await client.xpending(stream, "replicas")
    assert (await client.xlen(stream), pending["pending"]) == (0, 0)
    for bus in crowd.buses:
        await bus.close()
    assert await client.xinfo_consumers(stream, "replicas") == []
    await client.aclose()


async def test_redis_drops_an_unreadable_entry(redis_url: str) -> None:
    crowd = Agents(lambda: redis_transport(redis_url))
    asker = await crowd.join("coordinator")
    await crowd.join("code-expert")
    client = aioredis.Redis.from_url(redis_url)
    stream = "{openclaw:test}:agent:code-expert"
    await client.xadd(stream, {"message": b"{broken"})
    await asker.request("code-expert", {})
    assert await client.xlen(stream) == 0
    await client.aclose()
    for bus in crowd.buses:
        await bus.close()


async def test_an_unreachable_redis_is_a_bus_error() -> None:
    bus = MessageBus("a", redis_transport("redis://127.0.0.1:1/0"), now_ms=wall_ms, new_id=lambda: uuid.uuid4().hex)
    with pytest.raises(BusError, match="the bus cannot be reached"):
        await bus.start(AsyncMock(return_value={}))
    await bus.close()


def test_a_message_has_the_documented_fields() -> None:
    message = Message(id="1", sender="a", to=["b", "c"], type="request", payload={"x": 1}, timestamp=5, timeout=30_000)
    assert Message.decode(message.encode()) == message
    assert message.encode() == (
        b'{"id":"1","from":"a","to":["b","c"],"type":"request","payload":{"x":1},"timestamp":5,'
        b'"correlationId":null,"requiresResponse":false,"timeout":30000,"replyTo":""}'
    )

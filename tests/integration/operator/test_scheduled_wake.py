"""A schedule wakes the agent that sleeps: real API server, operator, activator and gateway, by a clock of the test."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from openclaw_operator import serve
from openclaw_operator.reconcile.hibernation import LEAD_SECONDS
from openclaw_operator.settings import Settings
from openclaw_runtime.activator import service
from openclaw_runtime.activator.board import Report
from openclaw_runtime.activator.client import ActivatorClient
from openclaw_runtime.activator.settings import Settings as ActivatorSettings
from openclaw_runtime.activator.settings import read_sleepers
from openclaw_runtime.config import Activator
from openclaw_runtime.gateway.assembly import Gateway
from tests.bench.waiting import eventually
from tests.cluster.apiserver import ApiServer
from tests.cluster.apiserver import api_server as start_api_server
from tests.cluster.processes import free_ports
from tests.fakes.llm.gateways import FakeSkills, House
from tests.integration.operator.conftest import USER, Cluster, _namespace, exists, install, kubeconfig_of
from tests.integration.operator.manifests import AGENT
from tests.integration.operator.test_bad_input import changed
from tests.integration.operator.test_calls_in_rotation import account_api
from tests.integration.operator.test_hibernation import pods, scaled, selects
from tests.integration.runtime.test_schedules import NINE, run_due, timed

SLEEPY = changed(AGENT, "spec.gateway", {"hibernation": {"idleSeconds": 30}})
# No one looks at the time of day of this machine.
SLOT = datetime(2040, 11, 28, 9, tzinfo=UTC).timestamp()
DAY = 86_400


class Clock:
    """The time of day, as the test says it is; stands in for datetime, too."""

    def __init__(self, time: float) -> None:
        self.time = time

    def __call__(self) -> float:
        return self.time

    def now(self, zone: tzinfo) -> datetime:
        return datetime.fromtimestamp(self.time, zone)


@pytest.fixture(scope="module")
def server() -> Iterator[ApiServer]:
    """One of its own: on the shared one, an operator with another clock may serve every namespace."""
    with start_api_server() as started:
        asyncio.run(install(started))
        yield started


@pytest.fixture
async def cluster(server: ApiServer) -> AsyncIterator[Cluster]:
    async for each in _namespace(server):
        yield each


@asynccontextmanager
async def operator(namespace: str) -> AsyncIterator[None]:
    settings = Settings(watch_namespaces=(namespace,), metrics_port=0, health_port=0)
    stop = asyncio.Event()
    task = asyncio.create_task(serve.run(settings, stop))
    yield
    stop.set()
    await task


@asynccontextmanager
async def activator(server: ApiServer, cluster: Cluster, folder: Path) -> AsyncIterator[ActivatorClient]:
    """The activator of the namespace, with what its ServiceAccount may do; returns what gateways reach it by."""
    secret = await cluster.wait("Secret", "openclaw-activator", lambda item: "ada" in _agents(item))
    (folder / "agents.json").write_text(_agents(secret))
    sleepers = read_sleepers(folder / "agents.json")
    port, own = free_ports(2)
    settings = ActivatorSettings(folder, cluster.namespace, "127.0.0.1", own, port, 1, settle_seconds=0)
    stop = asyncio.Event()
    async with account_api(server, cluster, folder, "openclaw-activator") as api:
        task = asyncio.create_task(service.run(settings, lambda: sleepers, api, stop))
        client = ActivatorClient(lambda: Activator(host="127.0.0.1", port=port, reports=True))
        yield client
        await client.close()
        stop.set()
        await task


def _agents(secret: dict[str, Any]) -> str:
    return base64.b64decode(secret["data"]["agents.json"]).decode()


async def test_the_slot_of_a_schedule_wakes_an_agent_that_sleeps_and_runs_once(
    server: ApiServer, cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(SLOT - LEAD_SECONDS - 2)
    monkeypatch.setattr(serve, "datetime", clock)
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig_of(server, USER)))
    house, skills = House(tmp_path, "http://127.0.0.1:9/v1"), FakeSkills("git-ai-helper")
    house.now = clock
    house.memory = {"type": "file"}
    config = timed(house, NINE, name="ada")
    await cluster.apply(SLEEPY)
    async with operator(cluster.namespace), activator(server, cluster, tmp_path) as gateways:
        token = (await cluster.wait("Secret", "ada-gateway-token", exists))["data"]["token"]

        async def report(gateway: Gateway, idle: float) -> None:
            due = gateway.scheduler.due()
            told = Report("ada-1", "http://127.0.0.1:9", idle, wake_at=due)
            await gateways.report(told, SecretStr(base64.b64decode(token).decode()))

        await cluster.wait("Deployment", "openclaw-activator", exists)
        await pods(cluster, "openclaw-activator", 1)
        await cluster.wait("Deployment", "ada-gateway", exists)
        await pods(cluster, "ada-gateway", 1)
        await cluster.wait_condition("Agent", "ada", "Hibernated", "False", "Awake")
        async with house.gateway(config, skills) as (gateway, _):
            await run_due(gateway)

            async def told() -> bool:
                await report(gateway, 900)
                data = (await cluster.get("ConfigMap", "ada-hibernation")).get("data")
                return data == {"state": "idle", "replicas": "1", "wakeAt": "2040-11-28T09:00:00Z"}

            await eventually(told, "the activator says that the agent is idle until its slot", seconds=60)
        await cluster.wait("Service", "ada-gateway", selects("activator"))
        # Not to wait until no request can be on its way to a gateway any more.
        await cluster.patch("Deployment", "ada-gateway", {"spec": {"replicas": 0}})
        await pods(cluster, "ada-gateway", 0)
        await cluster.wait_condition("Agent", "ada", "Hibernated", "True", "Idle")

        clock.time += 2
        await cluster.wait("Deployment", "ada-gateway", scaled(1))
        assert selects("activator")(await cluster.get("Service", "ada-gateway"))
        async with house.gateway(config, skills) as (gateway, _):
            await run_due(gateway)
            assert skills.calls == []
            await report(gateway, 0)
            await pods(cluster, "ada-gateway", 1)
            await cluster.wait("Service", "ada-gateway", selects("gateway"))
            await cluster.wait("ConfigMap", "ada-hibernation", lambda item: item["data"] == {"state": "active"})
            clock.time = SLOT + 1
            for _ in range(2):
                await run_due(gateway)
            assert gateway.scheduler.due() == SLOT + DAY
        # Nor does the next one to start make it up.
        async with house.gateway(config, skills) as (gateway, _):
            await run_due(gateway)
    assert [call[:2] for call in skills.calls] == [("git-ai-helper", "smartCommit")]

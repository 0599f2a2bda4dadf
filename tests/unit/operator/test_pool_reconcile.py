"""Pools over time: who has spoken, who is gone, and what a restart of the operator may cost."""

from __future__ import annotations

from typing import Any

import pytest

from openclaw_operator.cluster.kinds import BY_NAME
from openclaw_operator.errors import ApiError
from openclaw_operator.reconcile.agent import AgentReconciler
from openclaw_operator.reconcile.pool import RETIRE_SECONDS, PoolReconciler
from openclaw_operator.reconcile.primaries import Primary
from openclaw_operator.resources.pool import Pool, pool_for
from tests.unit.operator.builders import DIGEST, agent_inputs, skill_spec
from tests.unit.operator.fake_api import Bench

KEY = ("Pool", "demo", "")
MODEL = {"provider": "openai-compatible", "name": "m", "baseURL": "http://llm:8000/v1"}
USES_ECHO: dict[str, Any] = {"model": MODEL, "skills": [{"name": "echo"}], "workspace": {"reclaimPolicy": "Delete"}}
SKILL: dict[str, Any] = {
    "version": "1.0.0",
    "source": {"inline": {"files": {"scripts/main.py": ""}}},
    "actions": [{"name": "say", "description": "says"}],
}
CHECKED = {"status": {"digest": DIGEST, "packageConfigMap": "echo-package-abab", "observedGeneration": 1}}


class World(Bench):
    """One namespace with its reconcilers; `restart` forgets what only memory holds."""

    def __init__(self) -> None:
        super().__init__()
        self.restart()

    def restart(self) -> None:
        self.pools: dict[str, dict[str, list[Pool]]] = {}
        self.agents = AgentReconciler(self.context, self.pools)
        self.pool = PoolReconciler(self.context, self.pools)

    def start_pods(self) -> None:
        """Every pod gets ready, as its watch tells."""
        status = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
        for name in self.pods():
            self.child("Pod", name, **{**self.api.items["Pod", name], "kind": "Pod", "status": status})

    def pods(self) -> set[str]:
        return {name for kind, name in self.api.items if kind == "Pod"}

    async def settle(self, *agents: Primary) -> None:
        """Let agents speak, then the pools act, and the watch tell of what they did."""
        for agent in agents:
            await self.agents.reconcile(agent)
        await self.pool.reconcile(KEY)
        for live in list(self.context.children.of_kind("Pod", "demo")):
            if ("Pod", live.name) not in self.api.items:
                self.context.children.removed(BY_NAME["Pod"], "demo", live.name, str(10**9))


@pytest.fixture
def world() -> World:
    made = World()
    made.primary("Skill", "echo", SKILL, **CHECKED)
    return made


def claiming(agent: str, warm: int = 1) -> Pool:
    found = pool_for(agent, agent_inputs(agent, {}).spec, skill_spec(), "sandbox:1")
    assert found
    return Pool(found.shape, warm, 1)


async def test_an_agent_that_meets_a_fault_does_not_hold_up_the_pools_of_others(world: World) -> None:
    broken = world.primary("Agent", "broken", USES_ECHO)
    ada = world.primary("Agent", "ada", USES_ECHO)

    def webhook_is_down(_verb: str, _kind: str, name: str) -> None:
        if name.startswith("broken"):
            raise ApiError(500, "InternalError", "webhook")

    world.api.fault = webhook_is_down
    with pytest.raises(ApiError):
        await world.agents.reconcile(broken)
    await world.settle(ada)
    assert len(world.pods()) == 2


async def test_an_agent_that_will_never_speak_costs_nobody_a_pod(world: World) -> None:
    ada = world.primary("Agent", "ada", USES_ECHO)
    await world.settle(ada)
    before = world.pods()
    world.primary("Agent", "leaving", USES_ECHO, metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"})
    world.restart()
    await world.settle()
    assert world.pods() == before
    world.api.items.pop(("Pod", min(before)))
    world.context.children.removed(BY_NAME["Pod"], "demo", min(before), str(10**9))
    await world.settle(ada)
    assert len(world.pods()) == 2


async def test_a_missing_secret_takes_no_pods_from_an_agent_that_runs(world: World) -> None:
    ada = world.primary("Agent", "ada", USES_ECHO)
    await world.settle(ada)
    before = world.pods()
    world.restart()
    secret = {"secretKeyRef": {"name": "gone", "key": "k"}}
    await world.settle(world.primary("Agent", "ada", {**USES_ECHO, "model": {**MODEL, "credentials": secret}}))
    assert world.pods() == before
    world.context.references.expect(("Agent", "demo", "ada"), set())


async def test_an_agent_deleted_while_it_is_reconciled_leaves_no_wish(world: World) -> None:
    ada = world.primary("Agent", "ada", USES_ECHO)

    def deleted(verb: str, kind: str, _name: str) -> None:
        if (verb, kind) == ("apply", "Deployment"):
            world.context.primaries.remove(ada.key, str(10**9))
            world.agents.gone(ada.key)

    world.api.fault = deleted
    await world.agents.reconcile(ada)
    assert world.pools.get("demo", {}) == {}


async def test_somebody_elses_volume_is_not_handed_to_skills(world: World) -> None:
    reads = {**SKILL, "permissions": ["filesystem:read"]}
    world.primary("Skill", "echo", reads, **CHECKED)
    world.api.put("PersistentVolumeClaim", "ada-workspace", spec={})
    await world.settle(world.primary("Agent", "ada", USES_ECHO))
    assert world.pods() == set()
    assert world.api.writes("Deployment") == []
    world.api.items.pop(("PersistentVolumeClaim", "ada-workspace"))
    await world.settle(world.primary("Agent", "ada", USES_ECHO))
    assert len(world.pods()) == 2
    assert world.api.writes("Deployment") == [("apply", "ada-gateway")]


async def test_a_skill_that_is_checked_anew_is_not_taken_away(world: World) -> None:
    ada = world.primary("Agent", "ada", USES_ECHO)
    await world.settle(ada)
    known = world.context.primaries.get(ada.key)
    assert known
    wishes = world.pools["demo"]["ada"]
    new = {**SKILL, "version": "1.1.0"}
    world.primary("Skill", "echo", new, **CHECKED, metadata={"generation": 2})
    before = len(world.api.log)
    await world.settle(known)
    assert world.api.log[before:] == []
    assert world.pools["demo"]["ada"] == wishes
    world.primary("Skill", "echo", new, status={**CHECKED["status"], "observedGeneration": 2})
    await world.settle(known)
    assert world.api.writes("Agent")[-1:] == [("status", "ada")]
    assert '"version": "1.1.0"' in world.api.items["ConfigMap", "ada-gateway"]["data"]["config.yaml"]


async def test_old_pods_stay_until_gateways_have_read_which_pool_is_new(world: World) -> None:
    await world.settle(world.primary("Agent", "ada", USES_ECHO))
    world.start_pods()
    old = world.pods()
    world.primary("Skill", "echo", {**SKILL, "resources": {"limits": {"memory": "1Gi"}}}, **CHECKED)
    ada = world.context.primaries.get(("Agent", "demo", "ada"))
    assert ada
    await world.settle(ada)
    assert old < world.pods()
    assert len(world.pods()) == 4
    world.time += RETIRE_SECONDS - 1
    await world.settle()
    assert old < world.pods()
    world.time += 1
    await world.settle()
    assert len(world.pods()) == 2
    assert not old & world.pods()


async def test_a_pod_that_lost_its_pool_is_replaced_at_once(world: World) -> None:
    await world.settle(world.primary("Agent", "ada", USES_ECHO))
    world.start_pods()
    lost = min(world.pods())
    pod = world.api.items["Pod", lost]
    labels = {key: value for key, value in pod["metadata"]["labels"].items() if key != "openclaw.io/pool"}
    world.child("Pod", lost, **{**pod, "metadata": {"labels": labels}})
    await world.settle()
    assert lost not in world.pods()
    assert len(world.pods()) == 2


async def test_pods_of_a_suspended_agent_go_at_once(world: World) -> None:
    await world.settle(world.primary("Agent", "ada", USES_ECHO), world.primary("Agent", "bob", USES_ECHO))
    world.pools["demo"]["ada"] = [claiming("ada")]
    await world.settle()
    assert len(world.pods()) == 3
    await world.settle(world.primary("Agent", "ada", {**USES_ECHO, "suspend": True}))
    assert len(world.pods()) == 2


@pytest.mark.parametrize("selective", [False, True])
async def test_pods_of_another_operators_agents_are_left_alone(world: World, selective: bool) -> None:
    await world.settle(world.primary("Agent", "ada", USES_ECHO))
    before = world.pods()
    world.context.primaries.remove(("Agent", "demo", "ada"), str(10**9))
    await PoolReconciler(world.context, {}, selective=selective).reconcile(KEY)
    assert world.pods() == (before if selective else set())

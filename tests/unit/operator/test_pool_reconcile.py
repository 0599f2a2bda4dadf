"""Pools over time: who has spoken, who is gone, and what a restart of the operator may cost."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from openclaw_operator.cluster.kinds import BY_NAME
from openclaw_operator.errors import ApiError, ForbiddenError
from openclaw_operator.reconcile.agent import AgentReconciler
from openclaw_operator.reconcile.board import NUMBERS_SECONDS, SETTLE_SECONDS
from openclaw_operator.reconcile.demand import IDLE_SECONDS
from openclaw_operator.reconcile.pods import START_SECONDS
from openclaw_operator.reconcile.pool import REFUSED_RECHECK_SECONDS, RETIRE_SECONDS, PoolReconciler
from openclaw_operator.reconcile.primaries import Primary
from openclaw_operator.reconcile.shortage import of_pod, of_refusal
from openclaw_operator.reconcile.skill import SkillReconciler
from openclaw_operator.resources.pool import Pool, pool_for
from tests.unit.operator.builders import DIGEST, IMAGES, agent_inputs, skill_spec
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
    found = pool_for(agent, agent_inputs(agent, {}).spec, skill_spec(), IMAGES)
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


async def test_an_agent_is_looked_after_while_a_skill_of_it_cannot_be_checked(world: World) -> None:
    """A registry may be down for hours: the agent goes on with the version it has, whatever else is edited."""
    await world.settle(world.primary("Agent", "ada", USES_ECHO))
    wishes = world.pools["demo"]["ada"]
    new = {**SKILL, "version": "2.0.0", "resources": {"limits": {"memory": "1Gi"}}}
    world.primary("Skill", "echo", new, **CHECKED, metadata={"generation": 2})
    edited = {**USES_ECHO, "role": "coder", "skills": [{"name": "echo", "version": "^1.0.0"}]}
    status = world.api.items["Agent", "ada"]["status"]
    await world.settle(world.primary("Agent", "ada", edited, status=status, metadata={"generation": 2}))
    known = world.context.primaries.get(("Agent", "demo", "ada"))
    assert known
    config = world.api.items["ConfigMap", "ada-gateway"]["data"]["config.yaml"]
    assert '"role": "coder"' in config
    assert '"version": "1.0.0"' in config
    assert known.load()["status"]["observedGeneration"] == 2
    assert world.pools["demo"]["ada"] == wishes
    # A process that never saw the old version leaves all as it is.
    world.restart()
    before = len(world.api.log)
    await world.settle(known)
    assert world.api.log[before:] == []
    # Where the old version was fetched, its Skill still has it: its pods are replaced, too.
    was = {"source": "oci:sha256:aa", "digest": DIGEST, "spec": json.dumps(SKILL)}
    checked = {**CHECKED["status"], "fetched": was}
    world.primary("Skill", "echo", new, status=checked, metadata={"generation": 2})
    await world.settle(known)
    assert world.pools["demo"]["ada"] == wishes
    assert world.api.items["ConfigMap", "ada-gateway"]["data"]["config.yaml"] == config
    assert world.api.log[before:] == []
    # Somebody who never had it is not given what is being replaced.
    stranger = world.primary("Agent", "bob", USES_ECHO)
    await world.settle(stranger)
    problem = next(item for item in world.api.items["Agent", "bob"]["status"]["conditions"] if item["type"] == "Ready")
    assert problem["reason"] == "SkillNotReady"
    # To be stopped nobody has to wait for a skill.
    world.restart()
    world.primary("Skill", "echo", new, **CHECKED, metadata={"generation": 2})
    await world.settle(world.primary("Agent", "ada", {**edited, "suspend": True}, status=status))
    assert world.api.items["Deployment", "ada-gateway"]["spec"]["replicas"] == 0


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


# --- pace -------------------------------------------------------------------------------------------------------------


def take(world: World, *names: str) -> None:
    """These pods are given to calls, as their watch tells."""
    for name in names:
        status = {"phase": "Running", "conditions": [{"type": "Ready", "status": "False"}]}
        world.child("Pod", name, **{**world.api.items["Pod", name], "kind": "Pod", "status": status})


class Told(World):
    """A world whose watch reaches the pools, as the controller does it."""

    def tell(self) -> None:
        for before, after in self.changes:
            if (after or before).kind == "Pod":  # type: ignore[union-attr]
                self.pool.pod_changed(before, after)
        self.changes.clear()

    async def settle(self, *agents: Primary) -> None:
        self.tell()
        await super().settle(*agents)
        self.tell()

    def gone(self, name: str) -> None:
        self.api.items.pop(("Pod", name))
        self.context.children.removed(BY_NAME["Pod"], "demo", name, str(next(self.api._numbers)))

    def creates(self) -> int:
        return len([name for verb, name in self.api.writes("Pod") if verb == "create"])

    def condition(self, kind: str, name: str) -> dict[str, Any]:
        found = self.api.items[kind, name]["status"]["conditions"]
        return next(item for item in found if item["type"] == "SandboxAvailable")


@pytest.fixture
async def told() -> Told:
    made = Told()
    made.primary("Skill", "echo", {**SKILL, "sandbox": {"warm": 6}}, **CHECKED)
    await made.settle(made.primary("Agent", "ada", {**USES_ECHO, "execution": {"maxConcurrent": 40}}))
    made.start_pods()
    await made.settle()
    return made


async def test_all_pods_that_are_taken_are_replaced_in_one_round_and_more_are_made(told: Told) -> None:
    first = told.pods()
    taken = sorted(first)[:5]
    take(told, *taken)
    await told.settle()
    assert told.creates() == 6 + 5
    take(told, *(first - set(taken)))
    await told.settle()
    # None was free: twice as many wait from now on, until they have not been needed for a while.
    assert told.creates() == 6 + 6 + 6
    told.start_pods()
    await told.settle()
    told.time += IDLE_SECONDS
    await told.settle()
    assert len([pod for pod in told.context.children.of_kind("Pod", "demo") if pod.facts["ready"]]) == 6


async def test_a_restart_keeps_what_demand_has_made(told: Told) -> None:
    take(told, *told.pods())
    await told.settle()
    told.start_pods()
    await told.settle()
    before = told.pods()
    ada = told.context.primaries.get(("Agent", "demo", "ada"))
    assert ada
    told.restart()
    for live in told.context.children.of_kind("Pod", "demo"):
        told.pool.pod_changed(None, live)
    await told.settle(ada)
    assert told.pods() == before
    assert len(before) == 12


async def test_refused_pods_are_asked_for_one_by_one(told: Told) -> None:
    asked = 0
    room = 0

    def quota(verb: str, kind: str, name: str) -> None:
        nonlocal asked, room
        if (verb, kind) == ("create", "Pod"):
            asked += 1
            room -= 1
            if room < 0:
                raise ForbiddenError(403, "Forbidden", f'pods "{name}" is forbidden: exceeded quota: team')

    told.api.fault = quota
    take(told, *sorted(told.pods())[:4])
    for _ in range(5):
        await told.settle()
    assert asked == 1, "where the first is refused, the others would be as well"
    told.time += REFUSED_RECHECK_SECONDS
    await told.settle()
    assert asked == 2
    # A pod is gone: one is tried at once, and as it is let in, the others follow, twice as many each time.
    room = 3
    told.gone(min(told.pods()))
    await told.settle()
    assert asked == 3
    await told.settle()
    assert asked == 3 + 1 + 2, "the last of these found no room"


# --- what the status tells --------------------------------------------------------------------------------------------


async def report(told: Told) -> None:
    """Those who are woken write their status."""
    for kind, reconciler in (("Skill", SkillReconciler(told.context, None, lambda: 0.5)), ("Agent", told.agents)):
        for name in ("echo",) if kind == "Skill" else ("ada",):
            primary = told.context.primaries.get((kind, "demo", name))
            assert primary
            await reconciler.reconcile(primary)


STUCK: dict[str, Any] = {
    "phase": "Pending",
    "containerStatuses": [{"image": "sandbox:9", "state": {"waiting": {"reason": "ErrImagePull", "message": "x 1"}}}],
}


async def test_an_image_that_is_missing_is_told_within_seconds_and_so_is_its_return() -> None:
    told = Told()
    told.primary("Skill", "echo", SKILL, **CHECKED)
    await told.settle(told.primary("Agent", "ada", USES_ECHO))
    await report(told)
    assert told.condition("Skill", "echo")["status"] == told.condition("Agent", "ada")["status"] == "True"
    for name in told.pods():
        told.child("Pod", name, **{**told.api.items["Pod", name], "kind": "Pod", "status": STUCK})
    await told.settle()
    told.time += SETTLE_SECONDS
    await told.settle()
    await report(told)
    skill, agent = told.condition("Skill", "echo"), told.condition("Agent", "ada")
    assert (skill["status"], skill["reason"]) == ("False", "ImagePullFailed")
    assert "image 'sandbox:9' cannot be pulled: correct its name or tag" in skill["message"]
    assert agent["message"].startswith("echo: image 'sandbox:9'")
    (pool,) = told.api.items["Skill", "echo"]["status"]["pools"]
    assert {key: pool[key] for key in ("wanted", "warm", "busy", "starting", "reason")} == {
        "wanted": 2,
        "warm": 0,
        "busy": 0,
        "starting": 2,
        "reason": "ImagePullFailed",
    }
    # The kubelet tries again, in other words: nothing is written, and no pod is made.
    before = len(told.api.log)
    again = {"waiting": {"reason": "ImagePullBackOff", "message": "x 2"}}
    other = {**STUCK, "containerStatuses": [{"image": "sandbox:9", "state": again}]}
    for name in told.pods():
        told.child("Pod", name, **{**told.api.items["Pod", name], "kind": "Pod", "status": other})
    told.time += 2 * NUMBERS_SECONDS
    await told.settle()
    await report(told)
    assert told.api.log[before:] == []
    told.start_pods()
    await told.settle()
    told.time += SETTLE_SECONDS
    await told.settle()
    await report(told)
    assert told.condition("Skill", "echo")["status"] == told.condition("Agent", "ada")["status"] == "True"
    assert told.api.items["Skill", "echo"]["status"]["conditions"][-1]["status"] == "True"


async def test_somebody_elses_policy_in_the_way_of_all_pods_is_told() -> None:
    """Agents cannot see it: it is not theirs."""
    told = Told()
    told.primary("Skill", "echo", SKILL, **CHECKED)
    told.api.put("NetworkPolicy", "openclaw-sandbox", spec={"podSelector": {}})
    await told.settle(told.primary("Agent", "ada", USES_ECHO))
    await report(told)
    assert told.pods() == set()
    for kind, name in (("Skill", "echo"), ("Agent", "ada")):
        found = told.condition(kind, name)
        assert (found["status"], found["reason"]) == ("False", "OwnershipConflict")
        assert "no sandbox pods are made: NetworkPolicy openclaw-sandbox already" in found["message"]
    before = len(told.api.log)
    told.time += SETTLE_SECONDS
    await told.settle()
    await report(told)
    assert told.api.log[before:] == []
    told.api.items.pop(("NetworkPolicy", "openclaw-sandbox"))
    await told.settle()
    told.start_pods()
    await told.settle()
    told.time += SETTLE_SECONDS
    await told.settle()
    await report(told)
    assert told.condition("Agent", "ada")["status"] == "True"


async def test_a_call_that_comes_and_goes_is_never_written_down(told: Told) -> None:
    await report(told)
    told.time += NUMBERS_SECONDS
    await told.settle()
    told.time += NUMBERS_SECONDS
    await told.settle()
    await report(told)
    before = len([entry for entry in told.api.log if entry[0] == "status"])
    for _ in range(10):
        take(told, min(told.pods()))
        await told.settle()
        await report(told)
        told.gone(min(told.pods()))
        told.start_pods()
        told.time += NUMBERS_SECONDS - 1
        await told.settle()
        await report(told)
    assert len([entry for entry in told.api.log if entry[0] == "status"]) == before


async def test_a_restart_tells_nothing_new(told: Told) -> None:
    told.time += 2 * NUMBERS_SECONDS
    await told.settle()
    told.time += 2 * NUMBERS_SECONDS
    await told.settle()
    await report(told)
    before = len(told.api.log)
    old = told.context
    told.context = replace(old)
    told.restart()
    await report(told)
    for live in told.context.children.of_kind("Pod", "demo"):
        told.pool.pod_changed(None, live)
    await told.settle()
    await report(told)
    assert told.api.log[before:] == []


@pytest.mark.parametrize(
    ("message", "reason", "told_fix"),
    [
        ('pods "x" is forbidden: pod rejected: RuntimeClass "gvisor" not found', "RuntimeClassNotFound", "'gvisor'"),
        ('pods "x" is forbidden: exceeded quota: team, requested: pods=1', "QuotaExceeded", "ResourceQuota 'team'"),
        ('pods "x" is forbidden: violates PodSecurity "restricted:latest": a', "PodSecurityRefused", "allow them"),
        ('pods "x" is forbidden: maximum cpu usage per Pod is 1', "PodsRefused", "maximum cpu usage per Pod is 1"),
    ],
)
def test_a_refusal_names_its_cause_without_the_name_of_the_pod(message: str, reason: str, told_fix: str) -> None:
    shortage = of_refusal(ForbiddenError(403, "Forbidden", message))
    assert shortage.reason == reason
    assert told_fix in shortage.message
    assert '"x"' not in shortage.message


@pytest.mark.parametrize(
    ("status", "reason", "fix"),
    [
        (
            {"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1"}]},
            "Unschedulable",
            "no node takes sandbox pods (0/1): make room",
        ),
        (
            {
                "conditions": [
                    {
                        "type": "PodScheduled",
                        "status": "False",
                        "reason": "Unschedulable",
                        "message": 'persistentvolumeclaim "ada-workspace" is being deleted',
                    }
                ]
            },
            "WorkspaceUnavailable",
            "kubectl delete pods -l openclaw.io/workspace=ada-workspace",
        ),
        ({"conditions": [{"type": "PodScheduled", "status": "True"}]}, "PodsNotStarting", "kubectl describe pods -l"),
        (
            {"containerStatuses": [{"state": {"waiting": {"reason": "CreateContainerConfigError", "message": "no"}}}]},
            "CreateContainerConfigError",
            "sandbox pods do not start: no",
        ),
        ({"phase": "Failed", "reason": "Evicted", "message": "low on memory"}, "PodsEnd", "Evicted: low on memory"),
        ({}, None, ""),
    ],
)
def test_a_pod_that_does_not_start_names_its_cause(status: dict[str, Any], reason: str | None, fix: str) -> None:
    labels = {"openclaw.io/pool": "p", "openclaw.io/workspace": "ada-workspace"}
    pod = Bench().child("Pod", "a", metadata={"labels": labels}, status=status)
    shortage = of_pod(pod, START_SECONDS)
    assert (shortage.reason if shortage else None) == reason
    assert fix in (shortage.message if shortage else "")

"""Why gateways, servers of a MemoryStore and egress proxies do not get ready: told after a while, at few requests."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from openclaw_operator.cluster.client import Object
from openclaw_operator.errors import UnavailableError
from openclaw_operator.reconcile import egress
from openclaw_operator.reconcile.agent import AgentReconciler
from openclaw_operator.reconcile.memorystore import MemoryStoreReconciler
from openclaw_operator.reconcile.pods import START_SECONDS
from openclaw_operator.reconcile.stalls import PATIENCE_SECONDS, RECHECK_SECONDS, Workload, of_pod
from openclaw_operator.reconcile.status import told_condition
from openclaw_operator.resources import egress as egress_resources
from tests.unit.operator.fake_api import NOW, Bench

AGENT = {"model": {"provider": "openai-compatible", "name": "m", "baseURL": "http://llm:8000/v1"}}
STORE = {
    "vector": {"qdrant": {"managed": {"replicas": 1}}},
    "records": {"postgresql": {"external": {"url": "postgresql://me@db/x"}}},
    "cache": {"redis": {"external": {"url": "redis://cache:6379/0"}}},
}
GATEWAY = {"app.kubernetes.io/name": "gateway", "openclaw.io/agent": "ada"}
QDRANT = {"app.kubernetes.io/name": "qdrant", "openclaw.io/memorystore": "mem"}
PROXY = {
    "app.kubernetes.io/managed-by": "openclaw-operator",
    "app.kubernetes.io/name": "egress-proxy",
    "app.kubernetes.io/component": "egress",
}
WORKLOAD = Workload("the gateway", {"app": "x"}, "its image", "its resources")
SCHEDULED = {"type": "PodScheduled", "status": "True"}
READY = {"readyReplicas": 1, "replicas": 1, "updatedReplicas": 1, "observedGeneration": 1}


def waiting(reason: str, message: str = "", **container: Any) -> Object:
    """The status of a pod on a node whose container does not run."""
    state = {"waiting": {"reason": reason, "message": message}}
    return {
        "phase": "Pending",
        "conditions": [SCHEDULED],
        "containerStatuses": [{"image": "registry/typo:1", "state": state, **container}],
    }


def unscheduled(message: str) -> Object:
    return {
        "phase": "Pending",
        "conditions": [
            {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message},
        ],
    }


def ended(
    reason: str, seconds_ago: float, state: str = "lastState", *, restarts: int = 4, code: int = 137, ran: float = 1
) -> Object:
    end = NOW - timedelta(seconds=seconds_ago)
    times = {"startedAt": (end - timedelta(seconds=ran)).isoformat(), "finishedAt": end.isoformat()}
    return {state: {"terminated": {"exitCode": code, "reason": reason, **times}}, "restartCount": restarts}


def running(**container: Any) -> Object:
    return {
        "phase": "Running",
        "conditions": [SCHEDULED],
        "containerStatuses": [{"state": {"running": {}}, **container}],
    }


@pytest.mark.parametrize(
    ("status", "age", "told", "passing"),
    [
        (waiting("ImagePullBackOff", "x"), 1, "image 'registry/typo:1' of the gateway cannot be pulled: correct", 0),
        (waiting("CreateContainerConfigError", 'secret "k" not found'), 1, 'Error: secret "k" not found): see', 0),
        (waiting("CrashLoopBackOff", "back-off 40s", **ended("Error", 30)), 1, "again (exit code 137, Error): see", 0),
        (running(**ended("OOMKilled", 5)), 1, "OOMKilled): raise the memory in its resources, or see kubectl logs", 0),
        (running(**ended("Error", 3000)), 1, None, 0),
        (running(**ended("Error", 5, restarts=1)), 1, "ended and starts anew (exit code 137, Error): see", 1),
        (running(**ended("Error", 5, restarts=2)), 1, "ends again and again (exit code 137, Error): see", 0),
        (running(**ended("Error", 5, ran=600)), 1, "ended and starts anew (exit code 137, Error): see", 1),
        (running(**ended("OOMKilled", 5, "state")), 1, "again (exit code 137, OOMKilled): raise the memory", 0),
        (running(**ended("Error", 5, "state", restarts=0)), 1, "ended and starts anew (exit code 137, Error): see", 1),
        (running(**ended("Completed", 5, "state", code=0)), 1, "again (exit code 0, Completed): see", 0),
        (waiting("CrashLoopBackOff", "x", **ended("Error", 5, restarts=1)), 1, "ends again and again (exit", 0),
        (unscheduled("0/1 nodes are available: 1 Insufficient cpu."), 1, "no node takes the gateway (0/1 nodes", 1),
        ({**unscheduled("1 Insufficient cpu."), "placed": True}, 1, "no node takes the gateway", 1),
        (unscheduled("0/1 nodes are available: 1 Insufficient cpu."), PATIENCE_SECONDS, "no node takes the gateway", 0),
        (unscheduled("pod has unbound immediate PersistentVolumeClaims"), 1, "PersistentVolumeClaim data (pod has", 1),
        ({"phase": "Pending"}, PATIENCE_SECONDS, None, 0),
        ({"phase": "Pending", "placed": True}, 1, "waits for the volume of PersistentVolumeClaim data: see kubectl", 1),
        ({"phase": "Pending", "conditions": [SCHEDULED]}, START_SECONDS - 1, None, 0),
        ({"phase": "Pending", "conditions": [SCHEDULED]}, START_SECONDS, "often for a volume that cannot be", 1),
        (running(), START_SECONDS, "runs and does not get ready: see kubectl logs -n demo -l app=x", 1),
        ({"conditions": [SCHEDULED, {"type": "Ready", "status": "True"}]}, START_SECONDS, None, 0),
    ],
)  # fmt: skip
def test_what_keeps_a_pod_from_getting_ready(status: Object, age: float, told: str | None, passing: bool) -> None:
    created = (NOW - timedelta(seconds=age)).isoformat()
    volumes = [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]
    pod = {"metadata": {"creationTimestamp": created}, "spec": {"volumes": volumes}, "status": status}
    found = of_pod(pod, WORKLOAD, "demo", NOW, lambda _name: {"bound": False, "placed": "placed" in status})
    assert (found.message if found else "").find(told or "") >= 0
    assert (found is not None, bool(found and found.passing)) == (told is not None, bool(passing))


class World(Bench):
    """An Agent and a MemoryStore; a list of pods is noted in `lists` by its selector."""

    def __init__(self) -> None:
        super().__init__()
        self.lists: list[str] = []
        plain = self.api.pages

        def pages(kind: Any, namespace: str, *, selector: str, cached: bool) -> Any:
            assert cached, "pods of what is not ready are asked for again and again: the API server has them in memory"
            self.lists.append(selector)
            self.api.fault("list", kind.name, "")
            return plain(kind, namespace, selector=selector, cached=cached)

        self.api.pages = pages  # type: ignore[assignment, method-assign]
        self.restart()

    def restart(self) -> None:
        """An operator that has seen everything, and remembers nothing."""
        self.context = replace(self.context)
        self.agents, self.stores = AgentReconciler(self.context, {}), MemoryStoreReconciler(self.context)

    async def reconcile(self, kind: str, name: str, spec: Object) -> Object:
        """One reconcile; the conditions told by their types."""
        status = self.api.items.get((kind, name), {}).get("status", {})
        reconciler = self.agents if kind == "Agent" else self.stores
        self.again = await reconciler.reconcile(self.primary(kind, name, spec, status=status))
        return {item["type"]: item for item in self.api.items[kind, name]["status"]["conditions"]}

    async def agent(self) -> Object:
        return await self.reconcile("Agent", "ada", AGENT)

    async def store(self) -> Object:
        return await self.reconcile("MemoryStore", "mem", STORE)

    def workload(self, kind: str, name: str, **status: Any) -> None:
        self.child(kind, name, **{**self.api.items[kind, name], "status": status})

    def pod(self, labels: dict[str, str], status: Object, *, claim: str = "") -> None:
        volumes = [{"name": "data", "persistentVolumeClaim": {"claimName": claim}}] if claim else []
        self.api.put("Pod", "x", metadata={"labels": labels}, spec={"volumes": volumes}, status=status)


async def test_the_problem_of_a_gateways_pod_is_told_and_goes_when_it_recovers() -> None:
    world = World()
    await world.agent()
    world.pod(GATEWAY, waiting("ErrImagePull", "try 1"))
    told = await world.agent()
    assert (told["Ready"]["reason"], told["Ready"]["message"]) == (
        "Progressing",
        "waiting for gateway pods to be ready",
    )
    # Those that start as they should are not looked at.
    assert (world.lists, world.again) == ([], RECHECK_SECONDS)
    world.time += RECHECK_SECONDS
    told = await world.agent()
    assert told["Ready"]["reason"] == "GatewayFailing"
    assert "image 'registry/typo:1' of the gateway cannot be pulled: correct images.runtime" in told["Ready"]["message"]
    assert len(world.lists) == 1

    before = len(world.api.log)
    world.pod(GATEWAY, waiting("ImagePullBackOff", "try 2"))
    await world.agent()
    assert len(world.lists) == 1
    world.time += RECHECK_SECONDS
    await world.agent()
    world.restart()
    await world.agent()
    # Looked at again, and by an operator that does not know yet what its predecessor told: nothing is written.
    assert (len(world.lists), world.api.log[before:]) == (2, [])

    world.workload("Deployment", "ada-gateway", **READY)
    assert (await world.agent())["Available"]["status"] == "True"
    assert world.again is None
    world.time += 10 * RECHECK_SECONDS
    await world.agent()
    assert len(world.lists) == 2


async def test_a_secret_that_went_is_named_once_pods_wait_for_it() -> None:
    credentials = {"secretKeyRef": {"name": "llm", "key": "key"}}
    spec = {**AGENT, "model": {**AGENT["model"], "credentials": credentials}}
    world = World()
    world.api.put("Secret", "llm", data={"key": "eA=="})
    await world.reconcile("Agent", "ada", spec)
    world.api.items.pop(("Secret", "llm"))
    world.pod(GATEWAY, waiting("CreateContainerConfigError", 'secret "llm" not found'))
    assert (await world.reconcile("Agent", "ada", spec))["ReferencesResolved"]["status"] == "True"
    for _ in range(2):
        world.time += RECHECK_SECONDS
        told = await world.reconcile("Agent", "ada", spec)
    assert (told["Ready"]["reason"], told["ReferencesResolved"]["status"]) == ("SecretNotFound", "False")
    assert "Secret 'llm' does not exist" in told["Ready"]["message"]
    world.context.references.expect(("Agent", "demo", "ada"), set())


async def test_what_may_pass_by_itself_is_named_and_no_failure_for_ten_minutes() -> None:
    world = World()
    await world.store()
    world.child("PersistentVolumeClaim", "data-mem-qdrant-0", spec={"storageClassName": "slow"})
    world.pod(QDRANT, unscheduled("pod has unbound immediate PersistentVolumeClaims"), claim="data-mem-qdrant-0")
    await world.store()
    world.time += RECHECK_SECONDS
    ready = (await world.store())["Ready"]
    assert ready["reason"] == "Progressing"
    assert ready["message"].startswith(
        "waiting for servers to be ready: qdrant 0/1; qdrant waits for the volume of PersistentVolumeClaim data-mem-qdr"
    )
    before = len(world.api.log)
    world.restart()
    await world.store()
    assert world.api.log[before:] == []
    world.time += RECHECK_SECONDS
    world.context.stalls._now = lambda: NOW + timedelta(seconds=PATIENCE_SECONDS)
    assert (await world.store())["Ready"]["reason"] == "ServersFailing"
    world.workload("StatefulSet", "mem-qdrant", **READY)
    assert (await world.store())["Ready"]["status"] == "True"
    assert world.again is None


async def test_a_server_without_a_pod_is_told() -> None:
    world = World()
    await world.store()
    world.workload("StatefulSet", "mem-qdrant", observedGeneration=1)
    await world.store()
    world.time += RECHECK_SECONDS
    assert "no pod" not in (await world.store())["Ready"]["message"]
    world.time += RECHECK_SECONDS
    world.context.stalls._now = lambda: NOW + timedelta(seconds=START_SECONDS)
    assert "qdrant has no pod, often for a quota or PodSecurity" in (await world.store())["Ready"]["message"]


async def test_what_its_controller_knows_of_a_deployment_without_pods_is_not_hidden() -> None:
    world = World()
    await world.agent()
    failure = {"type": "ReplicaFailure", "status": "True", "message": "exceeded quota: small"}
    world.workload("Deployment", "ada-gateway", observedGeneration=1, conditions=[failure])
    await world.agent()
    world.time += RECHECK_SECONDS
    assert (await world.agent())["Ready"]["message"] == "exceeded quota: small"


async def test_a_look_that_fails_takes_nothing_away_and_holds_nothing_up() -> None:
    world = World()
    await world.agent()
    world.pod(GATEWAY, waiting("ErrImagePull"))
    await world.agent()
    world.time += RECHECK_SECONDS
    told = await world.agent()

    def no_answer(verb: str, _kind: str, _name: str) -> None:
        if verb == "list":
            raise UnavailableError("reset")

    world.api.fault = no_answer
    world.time += RECHECK_SECONDS
    assert await world.agent() == told
    assert world.again == RECHECK_SECONDS


async def test_an_outage_of_many_is_no_load() -> None:
    """A thousand that wait are not looked at a thousand times in fifteen seconds."""
    world = World()
    await world.agent()
    live = world.context.children.get("Deployment", "demo", "ada-gateway")
    assert live
    world.context.stalls.over("Deployment", "demo", "ada-gateway")
    pauses = [(await world.context.stalls.look(replace(live, name=f"g{i}"), WORKLOAD))[1] for i in range(1000)]
    assert (pauses[0], pauses[-1]) == (RECHECK_SECONDS, 500.0)
    for i in range(1000):
        world.context.stalls.over("Deployment", "demo", f"g{i}")
    assert (await world.context.stalls.look(live, WORKLOAD))[1] == RECHECK_SECONDS


async def test_a_gone_agent_or_store_is_not_remembered() -> None:
    world = World()
    await world.agent()
    await world.agent()
    await world.store()
    await world.store()
    assert len(world.context.stalls._looks) == 2
    world.agents.gone(("Agent", "demo", "ada"))
    world.stores.gone(("MemoryStore", "demo", "mem"))
    assert world.context.stalls._looks == {}


async def test_the_problem_of_an_egress_proxy_is_told() -> None:
    world = World()
    world.child("Deployment", egress_resources.NAME, spec={}, status={"observedGeneration": 1})
    world.pod(PROXY, waiting("ErrImagePull"))
    assert await egress.look(world.context, "demo") == RECHECK_SECONDS
    world.time += RECHECK_SECONDS
    await egress.look(world.context, "demo")
    told = egress.condition(world.context, "demo", ["echo"])
    assert told
    assert told.reason == "EgressNotReady"
    assert "image 'registry/typo:1' of the egress proxy cannot be pulled: correct images.egress" in told.message
    world.restart()
    status = {"conditions": [{"type": "EgressReady", "reason": told.reason, "message": told.message}]}
    assert egress.condition(world.context, "demo", ["echo"], told_condition(status, "EgressReady")) == told

"""When an agent sleeps, how it gets there and back, and that nothing is written besides."""

from __future__ import annotations

from typing import Any

import pytest

from openclaw_operator.api.agent import AgentSpec
from openclaw_operator.api.gateway import Hibernation
from openclaw_operator.cluster.kinds import BY_NAME
from openclaw_operator.reconcile.activator import ActivatorReconciler
from openclaw_operator.reconcile.agent import AgentReconciler
from openclaw_operator.reconcile.hibernation import (
    LEAD_SECONDS,
    LEAVING_SECONDS,
    Phase,
    Sight,
    Verdict,
    applies,
    decide,
    read_verdict,
)
from openclaw_operator.reconcile.status import ready_condition
from openclaw_operator.resources.activator import GRACE_SECONDS
from tests.unit.operator.fake_api import NOW, Bench

MODEL = {"provider": "openai-compatible", "name": "m", "baseURL": "http://llm:8000/v1"}
SPEC = {"model": MODEL, "gateway": {"hibernation": {"idleSeconds": 60}}}
SCALED = {
    "model": MODEL,
    "memory": {"storeRef": {"name": "mem"}},
    "gateway": {"hibernation": {}, "autoscaling": {"minReplicas": 3, "maxReplicas": 5}},
}
ACTIVE, IDLE = Verdict(), Verdict(idle=True, replicas=1)
UNIX = NOW.timestamp()


def seen(**changes: Any) -> Sight:
    usual = {"wanted": 1, "replicas": 1, "ready": 1, "held": False, "activator_ready": True, "left": None}
    return Sight(**(usual | changes))


@pytest.mark.parametrize(
    ("verdict", "sight", "phase"),
    [
        (ACTIVE, seen(), "awake"),
        (IDLE, seen(), "leaving"),
        (IDLE, seen(held=True, left=LEAVING_SECONDS - 1), "leaving"),
        (IDLE, seen(held=True, left=LEAVING_SECONDS), "asleep"),
        # The operator was restarted on the way: what was remembered is waited for once more.
        (IDLE, seen(held=True), "leaving"),
        # A request came on the way.
        (ACTIVE, seen(held=True, left=3.0), "awake"),
        (IDLE, seen(wanted=0, replicas=0, ready=0, held=True), "asleep"),
        (IDLE, seen(wanted=0, replicas=0, ready=0, held=True, activator_ready=False), "stranded"),
        # Nobody would take what comes.
        (IDLE, seen(activator_ready=False), "awake"),
        # One of two pods has not said that it is idle.
        (IDLE, seen(wanted=2, replicas=2, ready=2), "awake"),
        (Verdict(idle=True, replicas=2), seen(wanted=2, replicas=2, ready=2), "leaving"),
        (IDLE, seen(wanted=None, replicas=0, ready=0), "awake"),
        (ACTIVE, seen(wanted=0, replicas=0, ready=0, held=True), "waking"),
        (ACTIVE, seen(ready=0, held=True), "waking"),
        (ACTIVE, seen(held=True), "awake"),
        # A gateway that has lost its readiness for another reason is no reason to turn its Service round.
        (ACTIVE, seen(ready=0), "awake"),
        (Verdict(True, 1, UNIX + 3600), seen(wanted=0, replicas=0, ready=0, held=True), "asleep"),
        (Verdict(True, 1, UNIX + LEAD_SECONDS), seen(wanted=0, replicas=0, ready=0, held=True), "waking"),
        (Verdict(True, 1, UNIX - 5), seen(), "awake"),
    ],
)
def test_what_an_agent_is_to_do(verdict: Verdict, sight: Sight, phase: Phase) -> None:
    assert decide(verdict, sight, UNIX) == phase


@pytest.mark.parametrize(
    ("data", "verdict"),
    [
        ({}, ACTIVE),
        ({"state": "active"}, ACTIVE),
        ({"state": "idle", "replicas": "2"}, Verdict(True, 2)),
        ({"state": "idle", "replicas": "1", "wakeAt": "2026-01-01T00:00:00Z"}, Verdict(True, 1, UNIX)),
        ({"state": "idle", "replicas": "many"}, ACTIVE),
        ({"state": "idle", "replicas": "1", "wakeAt": "tomorrow"}, ACTIVE),
    ],
)
def test_what_cannot_be_read_keeps_the_agent_awake(data: dict[str, str], verdict: Verdict) -> None:
    assert read_verdict(data) == verdict


@pytest.mark.parametrize(
    ("changes", "does"),
    [
        ({"gateway": {"hibernation": {}}}, True),
        ({"gateway": {"hibernation": {}}, "suspend": True}, False),
        ({"gateway": {"hibernation": {}, "replicas": 0}}, False),
        ({"gateway": {}}, False),
    ],
)
def test_who_was_stopped_by_its_author_does_not_hibernate(changes: dict[str, Any], does: bool) -> None:
    assert applies(AgentSpec.model_validate({"model": MODEL} | changes)) is does


class Life(Bench):
    """One agent, its activator ready, and its pods played by the test."""

    def __init__(self, spec: dict[str, Any] = SPEC) -> None:
        super().__init__()
        self.agents = AgentReconciler(self.context, {})
        self.spec = spec
        if spec is SCALED:
            self.primary("MemoryStore", "mem", {})
        self.activator(1)

    def activator(self, ready: int) -> None:
        deployment = {"spec": {"replicas": 1}, "status": {"readyReplicas": ready}}
        self.child("Deployment", "openclaw-activator", **deployment)

    async def reconcile(self) -> float | None:
        """As the operator does; what it wrote is told by a watch."""
        status = self.api.items.get(("Agent", "ada"), {}).get("status", {})
        again = await self.agents.reconcile(self.primary("Agent", "ada", self.spec, status=status))
        for (kind, _), item in list(self.api.items.items()):
            if kind in BY_NAME and kind not in ("Agent", "MemoryStore", "Event"):
                self.context.children.changed(BY_NAME[kind], item)
        return again

    def pods(self, count: int) -> None:
        """So many gateway pods run and are ready."""
        deployment = dict(self.api.items["Deployment", "ada-gateway"])
        counts = {"replicas": count, "readyReplicas": count, "updatedReplicas": count, "observedGeneration": 99}
        if "replicas" not in deployment["spec"]:
            # What an autoscaler decided.
            deployment["spec"] = {**deployment["spec"], "replicas": count}
        self.child("Deployment", "ada-gateway", **{**deployment, "status": counts})

    def say(self, **data: str) -> None:
        """What the activator writes."""
        known = self.api.items["ConfigMap", "ada-hibernation"]
        self.child("ConfigMap", "ada-hibernation", **{**known, "data": data})

    @property
    def selects(self) -> str:
        selector = self.api.items["Service", "ada-gateway"]["spec"]["selector"]
        return str(selector["app.kubernetes.io/name"])

    @property
    def ready(self) -> tuple[str, str]:
        found = ready_condition(self.api.items["Agent", "ada"]["status"])
        assert found
        return found["status"], found["reason"]

    @property
    def hibernated(self) -> tuple[str, str]:
        found = self.api.items["Agent", "ada"]["status"]["conditions"]
        return next((item["status"], item["reason"]) for item in found if item["type"] == "Hibernated")

    def written(self) -> list[tuple[str, str, str]]:
        """The writes since the last look."""
        log, self.api.log = self.api.log, []
        return sorted(log)


async def test_an_idle_agent_goes_to_sleep_and_a_message_wakes_it() -> None:
    life = Life()
    await life.reconcile()
    life.pods(1)
    assert await life.reconcile() is None
    assert (life.selects, life.ready, life.hibernated) == ("gateway", ("True", "Ready"), ("False", "Awake"))

    life.written()
    life.say(state="idle", replicas="1")
    assert await life.reconcile() == LEAVING_SECONDS
    # Requests go to the activator before the gateway that may have one is stopped.
    assert life.written() == [("apply", "Service", "ada-gateway")]
    assert (life.selects, life.ready) == ("activator", ("True", "Ready"))
    life.time += LEAVING_SECONDS
    assert await life.reconcile() is None
    assert [write[:2] for write in life.written()] == [
        ("apply", "Deployment"),
        ("create", "Event"),
        ("status", "Agent"),
    ]
    assert life.api.items["Deployment", "ada-gateway"]["spec"]["replicas"] == 0
    assert (life.ready, life.hibernated) == (("True", "Hibernated"), ("True", "Idle"))

    life.pods(0)
    await life.reconcile()
    life.written()
    await life.reconcile()
    assert life.written() == [], "nothing is written while it sleeps"

    life.say(state="active")
    await life.reconcile()
    assert life.api.items["Deployment", "ada-gateway"]["spec"]["replicas"] == 1
    assert (life.selects, life.ready, life.hibernated) == ("activator", ("False", "Progressing"), ("False", "Waking"))
    life.time += 7
    life.pods(1)
    await life.reconcile()
    assert (life.selects, life.ready) == ("gateway", ("True", "Ready"))
    assert life.context.metrics.registry.get_sample_value("openclaw_operator_agent_wake_seconds_sum") == 7


async def test_a_request_on_the_way_to_sleep_brings_the_agent_back_unharmed() -> None:
    life = Life()
    await life.reconcile()
    life.pods(1)
    life.say(state="idle", replicas="1")
    await life.reconcile()
    life.time += LEAVING_SECONDS - 1
    life.say(state="active")
    await life.reconcile()
    assert life.selects == "gateway"
    assert life.api.items["Deployment", "ada-gateway"]["spec"]["replicas"] == 1


async def test_an_autoscaler_goes_with_the_pods_and_comes_back_with_them() -> None:
    life = Life(SCALED)
    await life.reconcile()
    life.pods(4)
    await life.reconcile()
    life.say(state="idle", replicas="4")
    await life.reconcile()
    life.time += LEAVING_SECONDS
    await life.reconcile()
    assert life.api.items["Deployment", "ada-gateway"]["spec"]["replicas"] == 0
    assert ("HorizontalPodAutoscaler", "ada-gateway") not in life.api.items
    life.context.children.removed(BY_NAME["HorizontalPodAutoscaler"], "demo", "ada-gateway", str(10**9))
    life.pods(0)
    life.say(state="active")
    handed: list[int] = []

    async def hand_over(_namespace: str, _name: str, replicas: int, *, uid: str) -> None:
        handed.append(replicas)

    life.api.hand_over_replicas = hand_over  # type: ignore[attr-defined]
    await life.reconcile()
    assert handed == [3], "the least there may be, from where the autoscaler goes on"
    assert ("HorizontalPodAutoscaler", "ada-gateway") in life.api.items


async def test_an_agent_that_is_due_is_woken_in_time() -> None:
    life = Life()
    await life.reconcile()
    life.pods(0)
    life.child("Deployment", "ada-gateway", **{**life.api.items["Deployment", "ada-gateway"], "spec": {"replicas": 0}})
    life.say(state="idle", replicas="1", wakeAt="2026-01-01T01:00:00Z")
    assert await life.reconcile() == 3600 - LEAD_SECONDS
    assert life.ready == ("True", "Hibernated")


async def test_without_an_activator_nobody_goes_to_sleep_and_who_sleeps_says_so() -> None:
    life = Life()
    await life.reconcile()
    life.pods(1)
    life.activator(0)
    life.say(state="idle", replicas="1")
    await life.reconcile()
    assert life.selects == "gateway"
    life.activator(1)
    await life.reconcile()
    life.time += LEAVING_SECONDS
    await life.reconcile()
    life.activator(0)
    await life.reconcile()
    assert life.ready == ("False", "ActivatorNotReady")
    assert life.selects == "activator"


async def test_what_comes_while_its_memory_is_restored_is_held_and_wakes_it_then() -> None:
    shared = {**SPEC, "memory": {"storeRef": {"name": "mem"}}}
    life = Life(shared)
    life.primary("MemoryStore", "mem", {})
    await life.reconcile()
    life.pods(1)
    await life.reconcile()
    assert life.selects == "gateway"
    restore = {"storeRef": {"name": "mem"}}
    life.primary("MemoryRestore", "back", restore, status={"phase": "Pausing"})
    await life.reconcile()
    assert life.api.items["Deployment", "ada-gateway"]["spec"]["replicas"] == 0
    assert (life.selects, life.ready) == ("activator", ("False", "Progressing"))
    life.pods(0)
    life.say(state="active")
    life.primary("MemoryRestore", "back", restore, status={"phase": "Restoring"})
    life.written()
    await life.reconcile()
    assert life.api.items["Deployment", "ada-gateway"]["spec"]["replicas"] == 0
    assert [write for write in life.written() if write[0] == "apply"] == []

    life.primary("MemoryRestore", "back", restore, status={"phase": "Resuming"})
    await life.reconcile()
    assert life.api.items["Deployment", "ada-gateway"]["spec"]["replicas"] == 1
    assert (life.selects, life.hibernated) == ("activator", ("False", "Waking"))
    life.pods(1)
    await life.reconcile()
    assert (life.selects, life.ready) == ("gateway", ("True", "Ready"))


async def test_one_that_sleeps_while_its_memory_is_restored_sleeps_on_if_nobody_needs_it() -> None:
    shared = {**SPEC, "memory": {"storeRef": {"name": "mem"}}}
    life = Life(shared)
    life.primary("MemoryStore", "mem", {})
    await life.reconcile()
    life.pods(1)
    life.say(state="idle", replicas="1")
    await life.reconcile()
    life.time += LEAVING_SECONDS
    await life.reconcile()
    life.pods(0)
    for phase in "Pausing", "Restoring", "Resuming":
        restore = {"storeRef": {"name": "mem"}}
        life.primary("MemoryRestore", "back", restore, status={"phase": phase})
        await life.reconcile()
        assert life.selects == "activator"
        assert life.api.items["Deployment", "ada-gateway"]["spec"]["replicas"] == 0
    assert life.ready == ("True", "Hibernated")


async def test_what_belongs_to_hibernation_goes_with_it() -> None:
    life = Life()
    await life.reconcile()
    life.pods(1)
    assert ("ConfigMap", "ada-hibernation") in life.api.items
    life.spec = {"model": MODEL}
    await life.reconcile()
    assert ("ConfigMap", "ada-hibernation") not in life.api.items
    conditions = life.api.items["Agent", "ada"]["status"]["conditions"]
    assert "Hibernated" not in [item["type"] for item in conditions]


async def test_a_namespace_has_an_activator_for_as_long_as_one_of_its_agents_hibernates() -> None:
    bench = Bench()
    activators = ActivatorReconciler(bench.context)
    key = ("Activator", "demo", "")
    await activators.reconcile(key)
    assert bench.api.log == []
    bench.primary("Agent", "ada", SPEC)
    bench.child("Secret", "ada-gateway-token", data={"token": "dG9rZW4="})
    await activators.reconcile(key)
    made = {kind for kind, name in bench.api.items if name == "openclaw-activator"}
    assert made == {
        "NetworkPolicy", "ServiceAccount", "Role", "Secret", "Service", "RoleBinding", "Deployment",
    }  # fmt: skip
    assert next(kind for _, kind, _ in bench.api.log) == "NetworkPolicy"
    before = len(bench.api.log)
    await activators.reconcile(key)
    assert len(bench.api.log) == before
    bench.primary("Agent", "ada", {**SPEC, "suspend": True})
    await activators.reconcile(key)
    assert not {name for _, name in bench.api.items} & {"openclaw-activator"}


async def test_several_activators_keep_one_through_a_drain_and_one_alone_is_let_go() -> None:
    bench, key = Bench(), ("Activator", "demo", "")
    bench.primary("Agent", "ada", SPEC)
    budget = ("PodDisruptionBudget", "openclaw-activator")
    for replicas in 2, 1:
        await ActivatorReconciler(bench.context, replicas=replicas).reconcile(key)
        assert bench.api.items["Deployment", "openclaw-activator"]["spec"]["replicas"] == replicas
        assert (budget in bench.api.items) is (replicas > 1)


def test_a_request_may_be_held_as_long_as_an_agent_asks_though_the_activator_is_replaced() -> None:
    (at_most,) = [each.le for each in Hibernation.model_fields["wake_timeout_seconds"].metadata if hasattr(each, "le")]
    assert at_most < GRACE_SECONDS


async def test_an_activator_may_read_nothing_before_an_agent_has_its_token() -> None:
    """In RBAC a rule without names is about every ConfigMap of the namespace."""
    bench = Bench()
    activators = ActivatorReconciler(bench.context)
    bench.primary("Agent", "ada", SPEC)
    await activators.reconcile(("Activator", "demo", ""))
    assert bench.api.items["Role", "openclaw-activator"]["rules"] == []
    bench.child("Secret", "ada-gateway-token", data={"token": "dG9rZW4="})
    await activators.reconcile(("Activator", "demo", ""))
    (rule,) = bench.api.items["Role", "openclaw-activator"]["rules"]
    assert rule["resourceNames"] == ["ada-hibernation"]


async def test_an_agent_whose_spec_cannot_be_read_keeps_no_other_from_waking() -> None:
    bench = Bench()
    for name, spec in {
        "ada": SPEC,
        "bob": {**SPEC, "role": "Chief Officer"},
        "eve": {"model": MODEL, "gateway": {"hibernation": {"idleSeconds": -1}}},
    }.items():
        bench.primary("Agent", name, spec)
        bench.child("Secret", f"{name}-gateway-token", data={"token": "dG9rZW4="})
    await ActivatorReconciler(bench.context).reconcile(("Activator", "demo", ""))
    (rule,) = bench.api.items["Role", "openclaw-activator"]["rules"]
    assert rule["resourceNames"] == ["ada-hibernation", "bob-hibernation"]

"""A restore step by step: what it waits for, what it does once, and what becomes of the agents."""

from __future__ import annotations

from typing import Any

import pytest

from openclaw_operator.cluster.kinds import BY_NAME
from openclaw_operator.errors import UnavailableError
from openclaw_operator.reconcile.agent import AgentReconciler
from openclaw_operator.reconcile.memoryrestore import PROBLEM_SECONDS, MemoryRestoreReconciler
from openclaw_operator.reconcile.memorystore import MemoryStoreReconciler
from openclaw_operator.reconcile.primaries import Primary, condense
from openclaw_operator.reconcile.status import ready_condition
from tests.unit.operator.fake_api import Bench

READY = {"conditions": [{"type": "Ready", "status": "True", "reason": "Ready", "message": ""}]}
STORE = {"backup": {"destination": {"s3": {"bucket": "backups"}}}}
AGENT = {
    "model": {"provider": "openai-compatible", "name": "m", "baseURL": "http://llm:8000/v1"},
    "memory": {"storeRef": {"name": "mem"}},
}
BUCKET = {"bucket": "backups", "credentials": {"name": "aws"}}
SPEC = {"storeRef": {"name": "mem"}}
UP = {"replicas": 1, "readyReplicas": 1, "updatedReplicas": 1, "observedGeneration": 1}
AVAILABLE = {"conditions": [{"type": "Available", "status": "True", "reason": "Available", "message": ""}]}


class World(Bench):
    """A ready store with an agent, and a restore of it."""

    def __init__(self) -> None:
        super().__init__()
        self.primary("MemoryStore", "mem", STORE, status=READY)
        self.agent = self.primary("Agent", "ada", AGENT, status=AVAILABLE)
        self.restore = self.primary("MemoryRestore", "back", SPEC)
        self.gateway(UP, replicas=1)
        self.backups(suspend=True)

    def new(self) -> MemoryRestoreReconciler:
        """As after a restart of the operator: nothing but the API server is remembered."""
        return MemoryRestoreReconciler(self.context)

    def gateway(self, status: dict[str, Any], replicas: int) -> None:
        self.child("Deployment", "ada-gateway", spec={"replicas": replicas}, status=status)

    def backups(self, *, suspend: bool, active: bool = False) -> None:
        running = [{"kind": "Job", "name": "mem-backup-1"}] if active else []
        self.child("CronJob", "mem-backup", spec={"suspend": suspend}, status={"active": running})

    def told(self) -> Primary:
        primary = condense("MemoryRestore", self.api.items["MemoryRestore", "back"])
        self.context.primaries.put(primary)
        return primary

    async def step(self) -> tuple[str, str]:
        """One reconcile by a fresh operator; the phase and the message of Ready."""
        await self.new().reconcile(self.told())
        status = self.api.items["MemoryRestore", "back"]["status"]
        found = ready_condition(status)
        assert found
        return status["phase"], found["message"]

    async def to_job(self) -> None:
        await self.step()
        self.gateway({"observedGeneration": 1}, replicas=0)
        await self.step()
        await self.step()

    def end_job(self, condition: str, message: str = "") -> None:
        job = self.api.items["Job", "back-restore"]
        status = {"conditions": [{"type": condition, "status": "True", "message": message}]}
        self.child("Job", "back-restore", **{**job, "status": status})

    def forget_job(self) -> None:
        """What a watch tells when it is deleted, or what an operator knows that starts anew."""
        self.context.children.removed(BY_NAME["Job"], "demo", "back-restore", "100000")

    def pod(self, name: str, labels: dict[str, str], **status: Any) -> None:
        self.api.put("Pod", name, metadata={"labels": labels}, status=status)


async def test_agents_stand_still_before_anything_is_restored_and_start_again_after() -> None:
    world = World()
    phase, _ = await world.step()
    assert phase == "Pausing"
    assert world.context.primaries.restoring("demo", "mem") == "back"
    assert await world.step() == ("Pausing", "waiting for agent ada to end")
    world.gateway({"observedGeneration": 1}, replicas=0)
    world.backups(suspend=True, active=True)
    assert await world.step() == ("Pausing", "waiting for its backup to end")
    world.backups(suspend=True)
    gateway = {"app.kubernetes.io/managed-by": "openclaw-operator", "app.kubernetes.io/name": "gateway"}
    world.pod("ada-gateway-x", {**gateway, "openclaw.io/agent": "ada"}, phase="Running")
    world.pod("eve-gateway-x", {**gateway, "openclaw.io/agent": "eve"}, phase="Running")
    assert await world.step() == ("Pausing", "waiting for pod ada-gateway-x to end")
    del world.api.items["Pod", "ada-gateway-x"]
    assert (await world.step())[0] == "Restoring"
    assert world.api.writes("Job") == []
    assert await world.step() == ("Restoring", "Job back-restore is running")
    waiting = {"name": "fetch", "image": "backup:1", "state": {"waiting": {"reason": "ImagePullBackOff"}}}
    of_job = {"batch.kubernetes.io/job-name": "back-restore"}
    world.pod("back-0", of_job, phase="Pending", initContainerStatuses=[waiting])
    stuck = "Job back-restore is running, but its pod is stuck: ImagePullFailed: backup:1"
    assert await world.step() == ("Restoring", stuck)
    del world.api.items["Pod", "back-0"]
    world.end_job("Complete")
    summary = '{"backup": "2026-01-01T02-00-00Z"}'
    ended = {"name": "vectors", "state": {"terminated": {"exitCode": 0, "message": summary}}}
    world.pod("back-1", {"batch.kubernetes.io/job-name": "back-restore"}, containerStatuses=[ended])
    world.primary("Agent", "ada", AGENT, status={"conditions": [{**AVAILABLE["conditions"][0], "status": "False"}]})
    assert (await world.step())[0] == "Resuming"
    assert world.context.primaries.restoring("demo", "mem") is None
    assert await world.step() == ("Resuming", "restored; waiting for agents to start: ada")
    world.primary("Agent", "ada", AGENT, status=AVAILABLE)
    assert await world.step() == ("Succeeded", "backup 2026-01-01T02-00-00Z was restored")
    assert world.api.items["MemoryRestore", "back"]["status"]["completedAt"]
    assert world.api.writes("Job") == [("create", "back-restore")]


async def test_an_agent_that_cannot_start_anyway_holds_up_no_restore() -> None:
    world = World()
    await world.to_job()
    world.end_job("Complete")
    lacks = {"type": "ReferencesResolved", "status": "False", "reason": "SecretNotFound", "message": ""}
    down = {"type": "Available", "status": "False", "reason": "Progressing", "message": ""}
    world.primary("Agent", "ada", AGENT, status={"conditions": [lacks, down]})
    await world.step()
    assert (await world.step())[0] == "Succeeded"


async def test_a_restore_that_ended_is_never_run_again() -> None:
    world = World()
    await world.to_job()
    world.end_job("Complete")
    await world.step()
    assert (await world.step())[0] == "Succeeded"
    before = len(world.api.log)
    del world.api.items["Job", "back-restore"]
    world.forget_job()
    await world.step()
    assert len(world.api.log) == before


async def test_a_job_that_was_deleted_is_not_made_again() -> None:
    world = World()
    await world.to_job()
    del world.api.items["Job", "back-restore"]
    world.forget_job()
    phase, message = await world.step()
    assert phase == "Failed"
    assert "was deleted while it ran" in message
    assert world.api.writes("Job") == [("create", "back-restore")]


async def test_somebody_elses_job_is_not_taken_for_the_restore() -> None:
    """It was made between the look whether the name is free and the moment it was wanted."""
    world = World()
    await world.step()
    world.gateway({"observedGeneration": 1}, replicas=0)
    await world.step()
    done = {"conditions": [{"type": "Complete", "status": "True", "message": ""}]}
    world.api.put("Job", "back-restore", status=done)
    phase, message = await world.step()
    assert (phase, message.split(":")[0]) == (
        "Failed",
        "Job back-restore already exists and does not belong to this resource",
    )


async def test_an_operator_that_was_killed_after_making_the_job_makes_no_second() -> None:
    world = World()

    def killed(verb: str, kind: str, _name: str) -> None:
        if (verb, kind) == ("status", "MemoryRestore") and ("Job", "back-restore") in world.api.items:
            raise RuntimeError("killed")

    world.api.fault = killed
    with pytest.raises(RuntimeError):
        await world.to_job()
    world.api.fault = lambda *_: None
    world.forget_job()
    assert (await world.step())[0] == "Restoring"
    status = world.api.items["MemoryRestore", "back"]["status"]
    assert status["jobUID"] == world.api.items["Job", "back-restore"]["metadata"]["uid"]


async def test_a_failure_says_which_step_said_what_and_agents_go_on() -> None:
    world = World()
    await world.to_job()
    world.end_job("Failed", "Job has reached the specified backoff limit")
    said = "2026-01-01 saved\nerror: there is no complete backup in demo/mem\n"
    failed = {"name": "fetch", "state": {"terminated": {"exitCode": 1, "message": said}}}
    world.pod("back-1", {"batch.kubernetes.io/job-name": "back-restore"}, initContainerStatuses=[failed])
    phase, message = await world.step()
    assert phase == "Failed"
    assert message.startswith("step fetch: there is no complete backup in demo/mem; correct it")
    assert world.context.primaries.restoring("demo", "mem") is None


async def test_an_agent_that_is_just_being_made_is_waited_for() -> None:
    """It may have been looked at before the restore began, and then its pods come only now."""
    world = World()
    await world.step()
    world.gateway({"observedGeneration": 1}, replicas=0)
    world.primary("Agent", "bob", AGENT)
    assert await world.step() == ("Pausing", "waiting for agent bob to end")
    lacks = {"type": "ReferencesResolved", "status": "False", "reason": "SecretNotFound", "message": ""}
    world.primary("Agent", "bob", AGENT, status={"conditions": [lacks]})
    assert (await world.step())[0] == "Restoring"


async def test_a_restore_that_does_not_begin_after_all_lets_the_agents_go() -> None:
    """That it begins was remembered before the API server knew; it never did."""
    world = World()
    key = ("MemoryStore", "demo", "mem")

    async def without_the_store() -> None:
        store = world.context.primaries.get(key)
        assert store
        world.context.primaries.remove(key, store.resource_version)
        assert (await world.step())[0] == "Pending"

    def no_answer(verb: str, kind: str, _name: str) -> None:
        if (verb, kind) == ("status", "MemoryRestore"):
            raise UnavailableError("no answer")

    await without_the_store()
    world.primary("MemoryStore", "mem", STORE, status=READY)
    world.api.fault = no_answer
    with pytest.raises(UnavailableError):
        await world.step()
    world.api.fault = lambda *_: None
    await without_the_store()
    assert world.context.primaries.restoring("demo", "mem") is None


async def test_only_one_restore_of_a_store_runs() -> None:
    world = World()
    await world.step()
    world.primary("MemoryRestore", "other", SPEC)
    primary = world.context.primaries.get(("MemoryRestore", "demo", "other"))
    assert primary
    await world.new().reconcile(primary)
    status = world.api.items["MemoryRestore", "other"]["status"]
    assert (status["phase"], status["conditions"][-1]["message"]) == (
        "Pending",
        "waiting for MemoryRestore back of the same store",
    )


@pytest.mark.parametrize(
    ("store", "spec", "reason"),
    [
        (STORE, {"storeRef": {"name": "none"}}, "MemoryStoreNotFound"),
        ({}, SPEC, "NoBackups"),
        ({"backup": {"destination": {"pvc": {"claimName": "none"}}}}, SPEC, "ClaimNotFound"),
        (
            {"backup": {"destination": {"s3": {"bucket": "bkt", "credentials": {"name": "aws"}}}}},
            SPEC,
            "SecretNotFound",
        ),
    ],
)
async def test_nothing_is_stopped_for_what_cannot_be(store: Any, spec: Any, reason: str) -> None:
    world = World()
    world.primary("MemoryStore", "mem", store, status=READY)
    assert await world.new().reconcile(world.primary("MemoryRestore", "back", spec)) == PROBLEM_SECONDS
    status = world.api.items["MemoryRestore", "back"]["status"]
    assert (status["phase"], status["conditions"][-1]["reason"]) == ("Pending", reason)
    assert world.context.primaries.restoring("demo", "mem") is None


async def test_the_agent_and_the_backup_of_a_store_under_restore() -> None:
    bench = Bench()
    bench.primary("MemoryStore", "mem", STORE, status=READY)
    agent = bench.primary("Agent", "ada", AGENT)
    await AgentReconciler(bench.context, {}).reconcile(agent)
    assert bench.api.items["Deployment", "ada-gateway"]["spec"]["replicas"] == 1
    bench.primary("MemoryRestore", "back", SPEC, status={"phase": "Restoring"})
    agent = condense("Agent", bench.api.items["Agent", "ada"])
    bench.context.primaries.put(agent)
    await AgentReconciler(bench.context, {}).reconcile(agent)
    assert bench.api.items["Deployment", "ada-gateway"]["spec"]["replicas"] == 0
    found = ready_condition(bench.api.items["Agent", "ada"]["status"])
    assert found
    assert (found["reason"], found["message"]) == (
        "Progressing",
        "stopped while MemoryRestore back runs; it starts again by itself",
    )
    # Nor does one that lacks what it names run on.
    missing = {**AGENT, "soul": {"configMapKeyRef": {"name": "gone", "key": "k"}}}
    bench.child(
        "Deployment", "ada-gateway", **{**bench.api.items["Deployment", "ada-gateway"], "spec": {"replicas": 1}}
    )
    await AgentReconciler(bench.context, {}).reconcile(bench.primary("Agent", "ada", missing))
    assert bench.api.items["Deployment", "ada-gateway"]["spec"]["replicas"] == 0
    store = bench.context.primaries.get(("MemoryStore", "demo", "mem"))
    assert store
    await MemoryStoreReconciler(bench.context).reconcile(store)
    assert bench.api.items["CronJob", "mem-backup"]["spec"]["suspend"] is True

"""A MemoryStore with deletionPolicy Snapshot: what holds it, what lets it go, and what becomes of its volumes."""

from __future__ import annotations

from typing import Any

import pytest

from openclaw_operator.api.memorystore import FINALIZER
from openclaw_operator.cluster.kinds import BY_NAME
from openclaw_operator.errors import ForbiddenError, TerminatingError
from openclaw_operator.reconcile.memorystore import FOREGROUND, MemoryStoreReconciler
from openclaw_operator.reconcile.primaries import condense
from tests.unit.operator.fake_api import Bench

BACKUP = {"destination": {"s3": {"bucket": "backups"}}}
MANAGED = {
    "vector": {"qdrant": {"managed": {"replicas": 1}}},
    "records": {"postgresql": {"external": {"url": "postgresql://me@db/x"}}},
    "cache": {"redis": {"external": {"url": "redis://cache:6379/0"}}},
    "backup": BACKUP,
    "deletionPolicy": "Snapshot",
}
EXTERNAL = MANAGED | {"vector": {"qdrant": {"external": {"url": "http://qdrant:6333"}}}}
GOING = {"deletionTimestamp": "2026-01-01T00:00:00Z"}
JOB = "mem-last-backup"


class World(Bench):
    """A store as the API server holds it; each step is that of a fresh operator."""

    def __init__(self, spec: dict[str, Any]) -> None:
        super().__init__()
        self.api.put("MemoryStore", "mem", spec=spec)

    def edit(self, **changes: Any) -> None:
        item = self.api.items["MemoryStore", "mem"]
        self.api.put("MemoryStore", "mem", **{**item, **changes})

    def delete(self, *finalizers: str) -> None:
        item = self.api.items["MemoryStore", "mem"]
        kept = [*item["metadata"].get("finalizers", ()), *finalizers]
        self.edit(metadata={**item["metadata"], **GOING, "finalizers": kept})

    async def step(self) -> float | None:
        primary = condense("MemoryStore", self.api.items["MemoryStore", "mem"])
        self.context.primaries.put(primary)
        return await MemoryStoreReconciler(self.context).reconcile(primary)

    @property
    def finalizers(self) -> list[str]:
        return list(self.api.items["MemoryStore", "mem"]["metadata"].get("finalizers", ()))

    @property
    def ready(self) -> tuple[str, str]:
        """Reason and message of Ready."""
        found = self.api.items["MemoryStore", "mem"]["status"]["conditions"][-1]
        assert found["type"] == "Ready"
        return found["reason"], found["message"]

    @property
    def volumes(self) -> str:
        """What becomes of Qdrant's volume with its StatefulSet."""
        policy = self.api.items["StatefulSet", "mem-qdrant"]["spec"]["persistentVolumeClaimRetentionPolicy"]
        return str(policy["whenDeleted"])

    def server(self, ready: int, *, observed: int = 1) -> None:
        item = self.api.items["StatefulSet", "mem-qdrant"]
        self.child("StatefulSet", "mem-qdrant", **{**item, "status": {
            "readyReplicas": ready, "replicas": 1, "observedGeneration": observed,
        }})  # fmt: skip

    def end_job(self, condition: str, message: str = "") -> None:
        status = {"conditions": [{"type": condition, "status": "True", "message": message}]}
        self.child("Job", JOB, **{**self.api.items["Job", JOB], "status": status})

    def pod(self, **status: Any) -> None:
        self.api.put("Pod", "x", metadata={"labels": {"batch.kubernetes.io/job-name": JOB}}, status=status)

    def events(self) -> list[tuple[str, str, str]]:
        """Type, reason and note of each."""
        return [
            (item["type"], item["reason"], item["note"])
            for (kind, _), item in self.api.items.items()
            if kind == "Event"
        ]


async def test_the_finalizer_is_there_for_this_policy_alone() -> None:
    world = World(MANAGED)
    await world.step()
    assert world.finalizers == [FINALIZER]
    assert world.volumes == "Retain"
    written = world.api.writes("MemoryStore")
    await world.step()
    assert world.api.writes("MemoryStore") == written
    world.edit(spec=MANAGED | {"deletionPolicy": "Retain"})
    await world.step()
    assert world.finalizers == []
    other = World(MANAGED | {"deletionPolicy": "Delete"})
    await other.step()
    assert ("finalizers", "mem") not in other.api.writes("MemoryStore")


async def test_volumes_go_only_after_the_last_backup_was_made() -> None:
    world = World(MANAGED)
    await world.step()
    world.delete()
    await world.step()
    assert ("Job", JOB) not in world.api.items
    assert "waiting for servers to be ready: qdrant 0/1; or set spec.deletionPolicy" in world.ready[1]
    world.server(1)
    await world.step()
    job = world.api.items["Job", JOB]
    assert job["spec"]["backoffLimit"] == 4
    assert job["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/name"] == "backup"
    assert world.ready == ("Progressing", f"Job {JOB} is running")
    world.pod(phase="Pending", containerStatuses=[{"image": "b:1", "state": {"waiting": {"reason": "ErrImagePull"}}}])
    await world.step()
    assert "stuck: ImagePullFailed: b:1: correct it, or set spec.deletionPolicy" in world.ready[1]
    assert (world.volumes, world.finalizers) == ("Retain", [FINALIZER])

    world.end_job("Complete")
    world.pod(
        containerStatuses=[{"name": "backup", "state": {"terminated": {"exitCode": 0, "message": '{"backup":"b"}'}}}]
    )
    world.server(1, observed=0)
    await world.step()
    # Who deletes the claims has not seen yet that it is to.
    assert (world.volumes, world.finalizers) == ("Delete", [FINALIZER])
    assert world.api.items["Secret", "mem-memory"]["metadata"]["ownerReferences"]
    world.server(1, observed=1)
    await world.step()
    assert world.finalizers == []
    assert ("Normal", "LastBackupMade", "backup b was made; volumes are deleted") in world.events()
    assert world.api.writes("Job") == [("create", JOB)]


async def test_a_backup_that_fails_holds_the_store_until_somebody_decides() -> None:
    world = World(EXTERNAL)
    await world.step()
    world.delete()
    await world.step()
    world.end_job("Failed", "Job has reached the specified backoff limit")
    failed = {"name": "backup", "state": {"terminated": {"exitCode": 1, "message": "x\nerror: no such bucket\n"}}}
    world.pod(containerStatuses=[failed])
    assert await world.step() is None
    reason, message = world.ready
    assert reason == "LastBackupFailed"
    assert message.startswith(f"step backup: no such bucket: correct it and delete Job {JOB}, which is then made anew")
    assert message.endswith("set spec.deletionPolicy to Retain or Delete to let the MemoryStore go without it")
    assert [(type_, why) for type_, why, _ in world.events()] == [("Normal", "Ready"), ("Warning", "LastBackupFailed")]
    # The Job is deleted: once more.
    del world.api.items["Job", JOB]
    world.context.children.removed(BY_NAME["Job"], "demo", JOB, "100000")
    await world.step()
    assert world.api.writes("Job") == [("create", JOB)] * 2
    assert world.finalizers == [FINALIZER]
    # Or without one.
    world.edit(spec=EXTERNAL | {"deletionPolicy": "Retain"})
    await world.step()
    assert world.finalizers == []


async def test_delete_instead_takes_the_volumes_along() -> None:
    world = World(MANAGED)
    await world.step()
    world.delete()
    world.edit(spec=MANAGED | {"deletionPolicy": "Delete"})
    world.server(0, observed=0)
    await world.step()
    assert (world.volumes, world.finalizers) == ("Delete", [FINALIZER])
    world.server(0, observed=1)
    await world.step()
    assert world.finalizers == []


async def test_half_a_restore_is_not_backed_up() -> None:
    world = World(EXTERNAL)
    await world.step()
    world.delete()
    restore = {"storeRef": {"name": "mem"}}
    world.primary("MemoryRestore", "back", restore, status={"phase": "Restoring"})
    await world.step()
    assert world.ready == ("Progressing", "waiting for MemoryRestore back to end")
    assert ("Job", JOB) not in world.api.items
    # One that has only stopped the agents waits for a store that goes: not for each other.
    world.primary("MemoryRestore", "back", restore, status={"phase": "Pausing"})
    await world.step()
    assert ("Job", JOB) in world.api.items


@pytest.mark.parametrize("refused", ["Job", "ConfigMap", "Secret"])
async def test_a_namespace_that_goes_is_not_held(refused: str) -> None:
    world = World(EXTERNAL)
    await world.step()
    world.delete()
    gone = {"ConfigMap": "mem-backup", "Secret": "mem-memory"}.get(refused)
    if gone:
        del world.api.items[refused, gone]
        world.context.children.removed(BY_NAME[refused], "demo", gone, "100000")

    def terminating(verb: str, kind: str, _name: str) -> None:
        if verb in ("create", "apply") and kind == refused:
            raise TerminatingError(403, "Forbidden", "it is being terminated")

    world.api.fault = terminating
    await world.step()
    assert world.finalizers == []
    event = world.events()[-1]
    assert event[:2] == ("Warning", "NoLastBackup")
    assert "MemoryStore mem went without a last backup" in event[2]


async def test_a_quota_is_tried_again_and_said() -> None:
    world = World(EXTERNAL)
    await world.step()
    world.delete()

    def full(verb: str, kind: str, _name: str) -> None:
        if (verb, kind) == ("create", "Job"):
            raise ForbiddenError(403, "Forbidden", "exceeded quota")

    world.api.fault = full
    assert await world.step() == 15.0
    assert world.ready[0] == "Refused"
    assert world.ready[1].startswith("exceeded quota; or set spec.deletionPolicy")


async def test_what_is_deleted_in_the_foreground_waits_for_the_garbage_collector() -> None:
    world = World(MANAGED)
    await world.step()
    world.delete(FOREGROUND)
    before = len(world.api.log)
    await world.step()
    assert len(world.api.log) == before

"""deletionPolicy Snapshot on a real API server, with the rights the operator declares; Jobs end as the test says."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

from openclaw_operator.api.memorystore import FINALIZER
from openclaw_operator.cluster.client import Object
from openclaw_operator.cluster.kinds import BY_NAME
from openclaw_operator.errors import NotFoundError
from tests.bench.waiting import eventually
from tests.cluster.paths import REPOSITORY
from tests.integration.operator.conftest import NAMESPACE, Audit, Cluster, exists
from tests.integration.operator.process import Operator, OperatorProcess
from tests.integration.operator.test_bad_input import changed, quiet
from tests.integration.operator.test_restore import STORE as EXTERNAL
from tests.integration.operator.test_restore import TIMES

SNAPSHOT = changed(EXTERNAL, "spec.deletionPolicy", "Snapshot")
MANAGED = changed(SNAPSHOT, "spec.vector", {"qdrant": {"managed": {"replicas": 1}}})
JOB = "mem-last-backup"


async def delete(cluster: Cluster, kind: str, name: str, propagation: str = "Background") -> None:
    """As kubectl does, which takes no finalizer away."""
    path = BY_NAME[kind].path(cluster.namespace, name)
    await cluster.client._request("DELETE", path, verb="delete", body={"propagationPolicy": propagation})


def held(item: Object) -> bool:
    return FINALIZER in item["metadata"].get("finalizers", ())


def conditions(*types: str) -> Object:
    return {**TIMES, "conditions": [{"type": each, "status": "True", "reason": "x", "message": "x"} for each in types]}


async def test_a_store_goes_once_its_last_backup_was_made(cluster: Cluster, operator: Operator, audit: Audit) -> None:
    await cluster.apply(MANAGED)
    await cluster.wait("MemoryStore", "mem", held)
    # It is put back where somebody takes it away, and nothing is written while nothing changes.
    await cluster.patch("MemoryStore", "mem", {"metadata": {"finalizers": None}})
    await cluster.wait("MemoryStore", "mem", held)
    await cluster.wait("StatefulSet", "mem-qdrant", exists)
    await quiet(audit)

    await delete(cluster, "MemoryStore", "mem")
    await cluster.wait("CronJob", "mem-backup", lambda item: item["spec"]["suspend"] is True)
    counts = dict.fromkeys(("replicas", "readyReplicas", "updatedReplicas"), 1)
    await cluster.patch_status("StatefulSet", "mem-qdrant", {"observedGeneration": 1, **counts})
    first = await cluster.wait("Job", JOB, exists)
    await cluster.patch_status(
        "Job", JOB, {**conditions("FailureTarget", "Failed"), "failed": 5, "succeeded": None, "completionTime": None}
    )
    message = await cluster.wait_condition("MemoryStore", "mem", "Ready", "False", "LastBackupFailed")
    assert "set spec.deletionPolicy to Retain or Delete" in message
    await delete(cluster, "Job", JOB)
    await cluster.wait("Job", JOB, lambda item: item["metadata"]["uid"] != first["metadata"]["uid"])
    await cluster.patch_status("Job", JOB, conditions("SuccessCriteriaMet", "Complete"))

    def goes(item: Object) -> bool:
        return bool(item["spec"]["persistentVolumeClaimRetentionPolicy"]["whenDeleted"] == "Delete")

    server = await cluster.wait("StatefulSet", "mem-qdrant", goes)
    assert held(await cluster.get("MemoryStore", "mem"))
    generation = server["metadata"]["generation"]
    await cluster.patch_status("StatefulSet", "mem-qdrant", {"observedGeneration": generation, **counts})
    await cluster.wait_gone("MemoryStore", "mem")

    def told(events: list[Object]) -> bool:
        return {"LastBackupFailed", "LastBackupMade"} <= {event["reason"] for event in events}

    await cluster.wait_any("Event", told)


async def test_a_deletion_in_the_foreground_keeps_volumes_and_gets_its_servers_back(
    full_cluster: Cluster, start_operator: Callable[[], OperatorProcess]
) -> None:
    """The garbage collector takes the servers although the store is held: as Argo CD deletes."""
    cluster = full_cluster
    start_operator()
    await cluster.apply(MANAGED)
    await cluster.wait("MemoryStore", "mem", held)
    before = await cluster.wait("StatefulSet", "mem-qdrant", exists)
    await delete(cluster, "MemoryStore", "mem", "Foreground")
    # The garbage collector looks for kinds it does not know, as ours are on a new server, every 30 s.
    await cluster.wait(
        "StatefulSet", "mem-qdrant", lambda item: item["metadata"]["uid"] != before["metadata"]["uid"], seconds=120
    )
    assert before["spec"]["persistentVolumeClaimRetentionPolicy"]["whenDeleted"] == "Retain"
    assert held(await cluster.get("MemoryStore", "mem"))
    # No pod ever runs here. Whoever has no use for a backup says so, and it goes.
    await cluster.patch("MemoryStore", "mem", {"spec": {"deletionPolicy": "Delete"}})
    await cluster.wait_gone("MemoryStore", "mem")
    await cluster.wait_gone("StatefulSet", "mem-qdrant", seconds=120)


async def test_a_namespace_is_not_held_and_what_was_lost_is_told(
    full_cluster: Cluster, start_operator: Callable[[], OperatorProcess]
) -> None:
    cluster = full_cluster
    start_operator()
    await cluster.apply(SNAPSHOT)
    await cluster.wait("MemoryStore", "mem", held)
    path = NAMESPACE.path(None, cluster.namespace)
    await cluster.client._request("DELETE", path, verb="delete")

    async def gone() -> bool:
        try:
            await cluster.client._request("GET", path, verb="get")
        except NotFoundError:
            return True
        return False

    await eventually(gone, "the namespace is gone", seconds=180, interval=0.5)

    async def told() -> bool:
        pages = cluster.client.pages(BY_NAME["Event"], "default")
        events = [item async for page in pages for item in page["items"]]
        notes = [item["note"] for item in events if item["regarding"].get("name") == cluster.namespace]
        return [note.partition(":")[0] for note in notes] == ["MemoryStore mem went without a last backup"]

    await eventually(told, "an Event about the namespace", seconds=60)


async def test_a_store_whose_operator_is_gone_is_let_go_by_hand(
    full_cluster: Cluster, start_operator: Callable[..., OperatorProcess]
) -> None:
    """With the patch that docs/operations.md gives; its volumes stay."""
    cluster = full_cluster
    operator = start_operator()
    await cluster.apply(MANAGED)
    await cluster.wait("MemoryStore", "mem", held)
    volume = "data-mem-qdrant-0"
    await cluster.wait("PersistentVolumeClaim", volume, exists)
    operator.stop()
    await delete(cluster, "MemoryStore", "mem")
    await cluster.wait("MemoryStore", "mem", lambda item: held(item) and "deletionTimestamp" in item["metadata"])
    page = (REPOSITORY / "docs" / "operations.md").read_text()
    (patch,) = re.findall(r"kubectl patch memorystore <name> --type merge -p '(.*)'", page)
    await cluster.patch("MemoryStore", "mem", json.loads(patch))
    await cluster.wait_gone("MemoryStore", "mem")
    # The garbage collector looks for kinds it does not know, as ours are on a new server, every 30 s.
    await cluster.wait_gone("StatefulSet", "mem-qdrant", seconds=120)
    kept = await cluster.get("PersistentVolumeClaim", volume)
    assert "deletionTimestamp" not in kept["metadata"]
    assert not kept["metadata"].get("ownerReferences")

"""A MemoryRestore on a real API server, with the rights the operator declares; its pods end as the test says."""

from __future__ import annotations

import yaml

from tests.integration.operator.conftest import Cluster, condition, exists
from tests.integration.operator.manifests import AGENT, RESTORE
from tests.integration.operator.process import Operator
from tests.integration.operator.test_bad_input import changed

STORE = """
apiVersion: openclaw.io/v1alpha1
kind: MemoryStore
metadata: {name: mem}
spec:
  vector: {qdrant: {external: {url: "http://qdrant:6333"}}}
  records: {postgresql: {external: {url: "postgresql://me@db/x"}}}
  cache: {redis: {external: {url: "redis://cache:6379/0"}}}
  backup: {destination: {s3: {bucket: backups}}}
"""
SHARED = changed(AGENT, "spec.memory", {"storeRef": {"name": "mem"}})
TIMES = {"startTime": "2026-01-01T00:00:00Z", "completionTime": "2026-01-01T00:01:00Z", "succeeded": 1}


async def test_agents_stand_still_for_a_restore_that_runs_once(cluster: Cluster, operator: Operator) -> None:
    await cluster.apply(STORE, SHARED)
    await cluster.wait("Deployment", "ada-gateway", lambda item: item["spec"]["replicas"] == 1)
    await cluster.apply(RESTORE)
    # No controllers run here: the Deployment's status is the test's to play.
    stopped = await cluster.wait("Deployment", "ada-gateway", lambda item: item["spec"]["replicas"] == 0)
    await cluster.wait("CronJob", "mem-backup", lambda item: item["spec"]["suspend"] is True)
    status = {"observedGeneration": stopped["metadata"]["generation"], "replicas": 0}
    await cluster.patch_status("Deployment", "ada-gateway", status)
    job = await cluster.wait("Job", "back-restore", exists)
    steps = [item["name"] for item in job["spec"]["template"]["spec"]["initContainers"]]
    assert steps == ["fetch", "postgresql"]
    message = condition(await cluster.get("Agent", "ada"), "Ready")["message"]
    assert message == "stopped while MemoryRestore back runs; it starts again by itself"

    done = [
        {"type": kind, "status": "True", "reason": "CompletionsReached"} for kind in ("SuccessCriteriaMet", "Complete")
    ]
    await cluster.patch_status("Job", "back-restore", {**TIMES, "conditions": done})
    await cluster.wait("Deployment", "ada-gateway", lambda item: item["spec"]["replicas"] == 1)
    await cluster.wait("CronJob", "mem-backup", lambda item: item["spec"]["suspend"] is False)
    await cluster.wait("MemoryRestore", "back", lambda item: item["status"]["phase"] == "Resuming")
    # An author may stop his agent meanwhile: it is then not waited for.
    await cluster.apply(changed(SHARED, "spec.suspend", True))
    ended = await cluster.wait("MemoryRestore", "back", lambda item: item["status"]["phase"] == "Succeeded")
    assert ended["status"]["completedAt"]
    assert ended["spec"] == yaml.safe_load(RESTORE)["spec"] | {
        "parts": ["records", "vectors"],
        "source": {"backup": "latest"},
    }
    assert ended["status"]["jobUID"] == job["metadata"]["uid"]


async def test_an_agent_that_lacks_something_stands_still_as_well_and_starts_again(
    cluster: Cluster, operator: Operator
) -> None:
    soul = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: souls}\ndata: {soul: You are kind.}\n"
    await cluster.apply(
        STORE, soul, changed(SHARED, "spec.soul", {"configMapKeyRef": {"name": "souls", "key": "soul"}})
    )
    await cluster.wait("Deployment", "ada-gateway", lambda item: item["spec"]["replicas"] == 1)
    await cluster.delete("ConfigMap", "souls")
    await cluster.wait_condition("Agent", "ada", "ReferencesResolved", "False", "SoulNotFound")
    await cluster.apply(RESTORE)
    await cluster.wait("Deployment", "ada-gateway", lambda item: item["spec"]["replicas"] == 0)
    # Its author thinks better of it before anything was restored.
    await cluster.delete("MemoryRestore", "back")
    await cluster.wait("CronJob", "mem-backup", lambda item: item["spec"]["suspend"] is False)
    await cluster.wait_condition("Agent", "ada", "Available", "False", "Progressing")
    await cluster.apply(soul)
    await cluster.wait("Deployment", "ada-gateway", lambda item: item["spec"]["replicas"] == 1)

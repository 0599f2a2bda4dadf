"""Pods of gateways and servers that do not start, as a kubelet and a scheduler would tell of them."""

from __future__ import annotations

import time

from openclaw_operator.cluster.client import Object
from openclaw_operator.cluster.kinds import BY_NAME
from openclaw_operator.reconcile.stalls import RECHECK_SECONDS
from tests.integration.operator.conftest import Audit, Cluster, condition, exists
from tests.integration.operator.manifests import AGENT, STORE
from tests.integration.operator.process import Operator

SCHEDULED = {"type": "PodScheduled", "status": "True"}


async def make_pod(cluster: Cluster, template: Object, name: str, status: Object, claim: str = "") -> None:
    """A pod that a controller would have made."""
    volumes = [{"name": "data", "persistentVolumeClaim": {"claimName": claim}}] if claim else []
    spec = {"containers": [{"name": "main", "image": "x"}], "volumes": volumes}
    body = {"apiVersion": "v1", "kind": "Pod", "metadata": {**template["metadata"], "name": name}, "spec": spec}
    await cluster.client.create(BY_NAME["Pod"], cluster.namespace, body, "test")
    await cluster.patch_status("Pod", name, status)


async def test_what_keeps_pods_from_starting_is_told_without_a_watch_and_goes_with_it(
    cluster: Cluster, operator: Operator, audit: Audit
) -> None:
    started = time.monotonic()
    await cluster.apply(AGENT, STORE)
    deployment = await cluster.wait("Deployment", "ada-gateway", exists)
    qdrant = await cluster.wait("StatefulSet", "mem-qdrant", exists)
    pulling = {"image": "registry/typo:1", "name": "main", "imageID": "", "ready": False, "restartCount": 0}
    pulling |= {"state": {"waiting": {"reason": "ImagePullBackOff", "message": "back-off"}}}
    status = {"phase": "Pending", "conditions": [SCHEDULED], "containerStatuses": [pulling]}
    await make_pod(cluster, deployment["spec"]["template"], "gateway", status)
    (claim,) = qdrant["spec"]["volumeClaimTemplates"]
    body = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "spec": claim["spec"]}
    body["metadata"] = {"name": "data-mem-qdrant-0", "labels": claim["metadata"]["labels"]}
    await cluster.client.create(BY_NAME["PersistentVolumeClaim"], cluster.namespace, body, "test")
    unbound = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
    unbound["message"] = "pod has unbound immediate PersistentVolumeClaims"
    status = {"phase": "Pending", "conditions": [unbound]}
    await make_pod(cluster, qdrant["spec"]["template"], "qdrant", status, "data-mem-qdrant-0")

    message = await cluster.wait_condition("Agent", "ada", "Ready", "False", "GatewayFailing")
    assert "image 'registry/typo:1' of the gateway cannot be pulled" in message
    text = "qdrant waits for the volume of PersistentVolumeClaim data-mem-qdrant-0 (pod has unbound immediate"
    await cluster.wait("MemoryStore", "mem", lambda item: text in condition(item, "Ready")["message"])
    assert condition(await cluster.get("MemoryStore", "mem"), "Ready")["reason"] == "Progressing"
    # One list in so many seconds for each of the four that are not ready, the first after as many.
    looks = len([request for request in audit.requests("list") if request[1] == "pods"])
    assert looks <= 4 * ((time.monotonic() - started) // RECHECK_SECONDS)
    counts = dict.fromkeys(("replicas", "readyReplicas", "updatedReplicas", "availableReplicas"), 1)
    await cluster.patch_status(
        "Deployment", "ada-gateway", {"observedGeneration": deployment["metadata"]["generation"], **counts}
    )
    await cluster.wait_condition("Agent", "ada", "Ready", "True", "Ready")
    for server in ("qdrant", "postgresql", "redis"):
        item = await cluster.get("StatefulSet", f"mem-{server}")
        await cluster.patch_status(
            "StatefulSet", f"mem-{server}", {"observedGeneration": item["metadata"]["generation"], **counts}
        )
    await cluster.wait_condition("MemoryStore", "mem", "Ready", "True", "Ready")

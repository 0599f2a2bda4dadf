"""Nothing is written without a reason, and what is changed comes back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import yaml

from tests.integration.operator.conftest import Audit, Cluster, condition, exists
from tests.integration.operator.manifests import FULL_AGENT, SKILL, STORE
from tests.integration.operator.process import Operator, OperatorProcess
from tests.integration.operator.test_bad_input import changed, quiet

CHILDREN: dict[tuple[str, str], tuple[str, dict[str, Any]]] = {
    ("Agent", "ServiceAccount"): ("ada-gateway", {"metadata": {"labels": {"openclaw.io/agent": "x"}}}),
    ("Agent", "Role"): ("ada-gateway", {"rules": []}),
    ("Agent", "RoleBinding"): ("ada-gateway", {"subjects": []}),
    ("Agent", "ConfigMap"): ("ada-gateway", {"data": {"config.yaml": "x"}}),
    ("Agent", "Secret"): ("ada-gateway-token", {"data": {"token": None}}),
    ("Agent", "Service"): ("ada-gateway", {"spec": {"selector": {"openclaw.io/agent": "x"}}}),
    ("Agent", "Deployment"): ("ada-gateway", {"spec": {"progressDeadlineSeconds": 7}}),
    ("Agent", "HorizontalPodAutoscaler"): ("ada-gateway", {"spec": {"maxReplicas": 99}}),
    ("Agent", "Ingress"): ("ada-gateway", {"spec": {"rules": [{"host": "other.example.org"}]}}),
    ("Agent", "PodDisruptionBudget"): ("ada-gateway", {"spec": {"maxUnavailable": 7}}),
    ("Agent", "NetworkPolicy"): ("ada-gateway", {"spec": {"egress": [{}]}}),
    ("Agent", "PersistentVolumeClaim"): ("ada-workspace", {"metadata": {"labels": {"openclaw.io/agent": "x"}}}),
    ("MemoryStore", "StatefulSet"): ("mem-qdrant", {"spec": {"replicas": 5}}),
    ("MemoryStore", "Service"): ("mem-qdrant", {"spec": {"ports": [{"name": "http", "port": 1}]}}),
    ("MemoryStore", "Secret"): ("mem-memory", {"data": {"redis-password": None}}),
    ("MemoryStore", "NetworkPolicy"): ("mem-redis", {"spec": {"ingress": [{}]}}),
    ("MemoryStore", "PodDisruptionBudget"): ("mem-qdrant", {"spec": {"maxUnavailable": 7}}),
    ("MemoryStore", "CronJob"): ("mem-backup", {"spec": {"schedule": "0 3 * * *"}}),
    ("MemoryStore", "ConfigMap"): ("mem-backup", {"data": {"backup.yaml": "x"}}),
    ("Pool", "NetworkPolicy"): ("openclaw-sandbox", {"spec": {"egress": [{}]}}),
}


# An autoscaler would go on changing things for a while.
FIXED_AGENT = changed(FULL_AGENT, "spec.gateway", {"replicas": 2})


async def settle(cluster: Cluster, agent: str = FULL_AGENT) -> None:
    """A store, a skill and an agent with every kind of child."""
    await cluster.apply(STORE, SKILL, agent)
    await cluster.wait("Agent", "ada", lambda item: bool(item.get("status", {}).get("skills")))
    await cluster.wait("Skill", "echo", lambda item: item.get("status", {}).get("users") == 1)
    await cluster.wait("MemoryStore", "mem", lambda item: item.get("status", {}).get("users") == 1)
    await cluster.wait("NetworkPolicy", "openclaw-sandbox", exists)


def essence(item: dict[str, Any]) -> dict[str, Any]:
    """An object without what changes with every write."""
    meta = {key: item["metadata"].get(key) for key in ("name", "labels", "annotations", "ownerReferences")}
    # The items of a list have no apiVersion and kind.
    rest = {key: value for key, value in item.items() if key not in ("apiVersion", "kind", "metadata", "status")}
    return {**rest, "metadata": meta}


async def test_edited_children_come_back(cluster: Cluster, operator: Operator, audit: Audit) -> None:
    await settle(cluster)
    for (_, kind), (name, change) in CHILDREN.items():
        before = essence(await cluster.get(kind, name))
        edited = await cluster.patch(kind, name, change)
        assert essence(edited) != before, f"{kind} {name}: the edit changed nothing"

        def repaired(item: dict[str, Any], before: dict[str, Any] = before, kind: str = kind) -> bool:
            return same(kind, essence(item), before)

        await cluster.wait(kind, name, repaired)
    await quiet(audit)


def same(kind: str, left: dict[str, Any], right: dict[str, Any]) -> bool:
    """Equal; of Secrets the keys only, since a value that was taken away is made anew."""
    if kind == "Secret":
        return left.get("data", {}).keys() == right["data"].keys() and bool(left["metadata"] == right["metadata"])
    return left == right


async def test_deleted_children_come_back(cluster: Cluster, operator: Operator, audit: Audit) -> None:
    await settle(cluster)
    for (_, kind), (name, _) in CHILDREN.items():
        uid = (await cluster.get(kind, name))["metadata"]["uid"]
        await cluster.delete(kind, name)

        def new(item: dict[str, Any], uid: str = uid) -> bool:
            return bool(item["metadata"]["uid"] != uid)

        await cluster.wait(kind, name, new)
    await quiet(audit)


async def test_what_others_add_is_left_alone(cluster: Cluster, operator: Operator, audit: Audit) -> None:
    await settle(cluster)
    await cluster.patch("Service", "ada-gateway", {"metadata": {"annotations": {"example.org/note": "mine"}}})
    await cluster.patch("Deployment", "ada-gateway", {"spec": {"replicas": 7}})
    await cluster.patch("ConfigMap", "ada-gateway", {"data": {"more": "x"}})
    await quiet(audit)
    assert (await cluster.get("Deployment", "ada-gateway"))["spec"]["replicas"] == 7
    assert (await cluster.get("Service", "ada-gateway"))["metadata"]["annotations"]["example.org/note"] == "mine"


async def test_restart_writes_nothing(
    full_cluster: Cluster, start_operator: Callable[[], OperatorProcess], full_audit: Audit
) -> None:
    cluster, audit = full_cluster, full_audit
    operator: OperatorProcess = start_operator()
    await settle(cluster, FIXED_AGENT)
    await cluster.wait("Agent", "ada", lambda item: item["status"].get("replicas") == 2)
    await quiet(audit)
    operator.stop()
    before = audit.writes()
    start_operator()
    # Something it must react to, so that it is known to have come this far.
    await cluster.delete("Service", "ada-gateway")
    await cluster.wait("Service", "ada-gateway", exists)
    assert await audit.wait_writes(1, since=len(before)) == [("patch", "services", "ada-gateway")]
    await quiet(audit)


async def test_restart_after_a_kill_ends_where_it_would_have(
    full_cluster: Cluster, start_operator: Callable[[], OperatorProcess], full_audit: Audit
) -> None:
    cluster, audit = full_cluster, full_audit
    operator: OperatorProcess = start_operator()
    await cluster.apply(STORE, SKILL, FIXED_AGENT)
    await cluster.wait("ServiceAccount", "ada-gateway", exists)
    operator.kill()
    start_operator()
    await settle(cluster, FIXED_AGENT)
    await cluster.wait("Agent", "ada", lambda item: item["status"].get("replicas") == 2)
    await cluster.wait_condition("Agent", "ada", "ChildrenApplied", "True", "Applied")
    await quiet(audit)


async def test_edit_without_effect_writes_only_the_generation(
    cluster: Cluster, operator: Operator, audit: Audit
) -> None:
    await settle(cluster)
    await quiet(audit)
    before = audit.writes()
    # Wider, but it resolves to the same version: no child reads it.
    agent = yaml.safe_load(FULL_AGENT)
    agent["spec"]["skills"][0]["version"] = ">=1.0.0"
    (edited,) = await cluster.apply(yaml.safe_dump(agent))
    generation = edited["metadata"]["generation"]
    await cluster.wait("Agent", "ada", lambda item: item["status"]["observedGeneration"] == generation)
    assert await audit.wait_writes(1, since=len(before)) == [("patch", "agents/status", "ada")]
    await quiet(audit)


async def test_writes_per_new_agent(cluster: Cluster, operator: Operator, audit: Audit) -> None:
    await settle(cluster)
    await quiet(audit)
    before = audit.writes()
    await cluster.apply(changed(FULL_AGENT, "metadata.name", "bob"))
    await cluster.wait("Agent", "bob", lambda item: bool(item.get("status", {}).get("endpoint")))
    children = [
        item
        for owner, kind in CHILDREN
        if owner == "Agent"
        for item in await cluster.all_of(kind, "openclaw.io/agent=bob")
    ]
    made = [request for request in audit.writes()[len(before) :] if request[2].startswith("bob")]
    assert len(children) == 12
    assert len(made) <= len(children) + 2


async def test_transitions_keep_their_time(cluster: Cluster, operator: Operator) -> None:
    await settle(cluster)
    before = condition(await cluster.get("Agent", "ada"), "ChildrenApplied")
    (edited,) = await cluster.apply(changed(FULL_AGENT, "spec.description", "new"))
    generation = edited["metadata"]["generation"]
    agent = await cluster.wait("Agent", "ada", lambda item: item["status"]["observedGeneration"] == generation)
    after = condition(agent, "ChildrenApplied")
    assert after["lastTransitionTime"] == before["lastTransitionTime"]
    assert after["observedGeneration"] == generation
    assert agent["status"]["conditions"][-1]["type"] == "Ready"


@pytest.mark.parametrize("attempts", [5])
async def test_two_operators_of_one_namespace_do_not_fight(
    full_cluster: Cluster, start_operator: Callable[[], OperatorProcess], full_audit: Audit, attempts: int
) -> None:
    cluster, audit = full_cluster, full_audit
    start_operator()
    start_operator()
    await settle(cluster, FIXED_AGENT)
    await cluster.wait("Agent", "ada", lambda item: item["status"].get("replicas") == 2)
    for number in range(attempts):
        await cluster.apply(changed(FIXED_AGENT, "spec.description", f"number {number}"))
    await cluster.wait("ConfigMap", "ada-gateway", lambda item: f"number {attempts - 1}" in item["data"]["config.yaml"])
    await quiet(audit)

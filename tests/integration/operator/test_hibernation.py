"""An agent goes to sleep and wakes with as few writes as that takes, and sleeps without any."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from typing import Any

from openclaw_operator.cluster.client import Object
from tests.integration.operator.conftest import Audit, Cluster, condition, exists
from tests.integration.operator.manifests import AGENT, FULL_AGENT
from tests.integration.operator.process import Operator, OperatorProcess
from tests.integration.operator.test_bad_input import changed, quiet
from tests.integration.operator.test_quiet import settle

SLEEPY = changed(AGENT, "spec.gateway", {"hibernation": {"idleSeconds": 30}})
# What each step is, as (verb, resource, name); of events only that there is one.
GATEWAY, SERVICE = ("patch", "deployments", "ada-gateway"), ("patch", "services", "ada-gateway")
STATUS, EVENT = ("patch", "agents/status", "ada"), ("create", "events", "")


async def pods(cluster: Cluster, name: str, count: int) -> None:
    """Play the part of the Deployment controller and the kubelet."""
    deployment = await cluster.get("Deployment", name)
    counts: Object = dict.fromkeys(("replicas", "readyReplicas", "updatedReplicas", "availableReplicas"), count)
    await cluster.patch_status(
        "Deployment", name, {**counts, "observedGeneration": deployment["metadata"]["generation"]}
    )


async def say(cluster: Cluster, **data: str | None) -> None:
    """Play the part of the activator."""
    await cluster.patch("ConfigMap", "ada-hibernation", {"data": data})


def selects(name: str) -> Callable[[Object], bool]:
    return lambda item: bool(item["spec"]["selector"]["app.kubernetes.io/name"] == name)


def scaled(count: int) -> Callable[[Object], bool]:
    return lambda item: bool(item["spec"]["replicas"] == count)


def steps(writes: list[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
    return sorted(EVENT if resource == "events" else (verb, resource, name) for verb, resource, name in writes)


async def asleep(cluster: Cluster) -> None:
    """ada, which sleeps."""
    await cluster.apply(SLEEPY)
    await cluster.wait("Deployment", "openclaw-activator", exists)
    await pods(cluster, "openclaw-activator", 1)
    await cluster.wait("Deployment", "ada-gateway", exists)
    await pods(cluster, "ada-gateway", 1)
    await cluster.wait_condition("Agent", "ada", "Ready", "True", "Ready")
    await say(cluster, state="idle", replicas="1")
    await cluster.wait("Deployment", "ada-gateway", scaled(0))
    await pods(cluster, "ada-gateway", 0)
    await cluster.wait("Agent", "ada", lambda item: item["status"]["replicas"] == 0)
    await cluster.wait_condition("Agent", "ada", "Ready", "True", "Hibernated")


async def test_sleep_and_wake_cost_a_few_writes_and_sleeping_none(
    cluster: Cluster, operator: Operator, audit: Audit
) -> None:
    await cluster.apply(SLEEPY)
    await cluster.wait("Deployment", "openclaw-activator", exists)
    await pods(cluster, "openclaw-activator", 1)
    await cluster.wait("Deployment", "ada-gateway", exists)
    await pods(cluster, "ada-gateway", 1)
    await cluster.wait_condition("Agent", "ada", "Hibernated", "False", "Awake")
    await cluster.wait_condition("Agent", "ada", "Ready", "True", "Ready")
    await quiet(audit)

    before = len(audit.writes())
    await say(cluster, state="idle", replicas="1")
    await cluster.wait("Service", "ada-gateway", selects("activator"))
    await cluster.wait("Deployment", "ada-gateway", scaled(0))
    await cluster.wait_condition("Agent", "ada", "Hibernated", "True", "Idle")
    assert steps(await audit.wait_writes(4, since=before)) == [EVENT, STATUS, GATEWAY, SERVICE]
    before = len(audit.writes())
    await pods(cluster, "ada-gateway", 0)
    await cluster.wait("Agent", "ada", lambda item: item["status"]["replicas"] == 0)
    await quiet(audit)
    assert steps(audit.writes()[before:]) == [STATUS]

    before = len(audit.writes())
    await say(cluster, state="active", replicas=None)
    await cluster.wait("Deployment", "ada-gateway", scaled(1))
    await cluster.wait_condition("Agent", "ada", "Hibernated", "False", "Waking")
    assert steps(await audit.wait_writes(2, since=before)) == [STATUS, GATEWAY]
    assert selects("activator")(await cluster.get("Service", "ada-gateway"))
    before = len(audit.writes())
    await pods(cluster, "ada-gateway", 1)
    await cluster.wait("Service", "ada-gateway", selects("gateway"))
    await cluster.wait_condition("Agent", "ada", "Ready", "True", "Ready")
    await quiet(audit)
    assert steps(audit.writes()[before:]) == [EVENT, STATUS, SERVICE]


async def test_who_sleeps_goes_on_sleeping_when_the_operator_is_restarted(
    full_cluster: Cluster, start_operator: Callable[[], OperatorProcess], full_audit: Audit
) -> None:
    cluster, audit = full_cluster, full_audit
    operator = start_operator()
    # The controllers are real here, and there is no kubelet: pods are made and never ready.
    await cluster.apply(SLEEPY)
    await cluster.wait("ConfigMap", "ada-hibernation", exists)
    await cluster.wait("Deployment", "openclaw-activator", exists)
    await cluster.wait("Agent", "ada", lambda item: bool(condition(item, "Hibernated")))
    # Nobody goes to sleep without an activator; one that did before stays. An operator that runs may be told of the
    # replicas before it is told why.
    operator.stop()
    await say(cluster, state="idle", replicas="1")
    await cluster.patch("Deployment", "ada-gateway", {"spec": {"replicas": 0}})
    operator = start_operator()
    await cluster.wait_condition("Agent", "ada", "Ready", "False", "ActivatorNotReady")
    await quiet(audit)
    operator.stop()
    before = audit.writes()
    start_operator()
    await cluster.delete("ServiceAccount", "ada-gateway")
    await cluster.wait("ServiceAccount", "ada-gateway", exists)
    await quiet(audit)
    assert audit.writes()[len(before) :] == [("patch", "serviceaccounts", "ada-gateway")]


async def test_the_activator_knows_its_agents_by_the_hash_of_their_token(
    cluster: Cluster, operator: Operator, audit: Audit
) -> None:
    await settle(cluster, changed(FULL_AGENT, "spec.gateway", {"hibernation": {}, "replicas": 2}))

    async def known() -> dict[str, Any]:
        secret = await cluster.get("Secret", "openclaw-activator")
        found: dict[str, Any] = json.loads(base64.b64decode(secret["data"]["agents.json"]))["agents"]
        return found

    def knows(digest: str) -> Callable[[Object], bool]:
        return lambda item: digest in base64.b64decode(item["data"]["agents.json"]).decode()

    token = base64.b64decode((await cluster.get("Secret", "ada-gateway-token"))["data"]["token"])
    await cluster.wait("Secret", "openclaw-activator", knows(hashlib.sha256(token).hexdigest()))
    role = await cluster.get("Role", "openclaw-activator")
    assert role["rules"] == [
        {
            "apiGroups": [""],
            "resources": ["configmaps"],
            "resourceNames": ["ada-hibernation"],
            "verbs": ["get", "patch"],
        }
    ]
    await cluster.patch("Secret", "ada-gateway-token", {"data": {"token": base64.b64encode(b"another").decode()}})
    await cluster.wait("Secret", "openclaw-activator", knows(hashlib.sha256(b"another").hexdigest()))
    await quiet(audit)
    # With the last one that hibernates everything of it goes.
    await cluster.delete("Agent", "ada")
    for kind in ("Deployment", "Service", "RoleBinding", "Role", "ServiceAccount", "Secret", "NetworkPolicy"):
        await cluster.wait_gone(kind, "openclaw-activator")


async def test_suspending_a_sleeping_agent_and_taking_hibernation_away(
    cluster: Cluster, operator: Operator, audit: Audit
) -> None:
    await asleep(cluster)
    await cluster.apply(changed(SLEEPY, "spec.suspend", True))
    await cluster.wait_condition("Agent", "ada", "Ready", "False", "Suspended")
    await cluster.wait_gone("Deployment", "openclaw-activator")
    await cluster.apply(SLEEPY)
    await cluster.wait("Deployment", "openclaw-activator", exists)
    await pods(cluster, "openclaw-activator", 1)
    # Nobody has needed it meanwhile.
    await cluster.wait_condition("Agent", "ada", "Ready", "True", "Hibernated")
    await cluster.apply(AGENT)
    await cluster.wait("Deployment", "ada-gateway", scaled(1))
    await cluster.wait("Service", "ada-gateway", selects("gateway"))
    await cluster.wait_gone("ConfigMap", "ada-hibernation")
    await cluster.wait_gone("Deployment", "openclaw-activator")
    await quiet(audit)

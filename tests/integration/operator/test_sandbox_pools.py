"""Sandbox pools against a real API server: what keeps pods from starting is told, and keys are rotated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import yaml

from openclaw_operator.cluster.client import Object
from tests.integration.operator.conftest import Audit, Cluster
from tests.integration.operator.manifests import AGENT, SKILL
from tests.integration.operator.process import Operator, OperatorProcess
from tests.integration.operator.test_bad_input import changed, quiet

USES_ECHO = changed(AGENT, "spec.skills", [{"name": "echo"}])
READY = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
SIGNING = "openclaw-sandbox-signing"
QUOTA = "{apiVersion: v1, kind: ResourceQuota, metadata: {name: team}, spec: {hard: {pods: '0'}}}"


async def test_a_quota_is_told_and_pods_come_once_there_is_room(
    cluster: Cluster, operator: Operator, audit: Audit
) -> None:
    path = f"/api/v1/namespaces/{cluster.namespace}/resourcequotas"
    body = {**yaml.safe_load(QUOTA), "status": {"hard": {"pods": "0"}, "used": {"pods": "0"}}}
    made = await cluster.client._request("POST", path, verb="create", body=body)
    # No controller runs here that would count.
    await cluster.client._request(
        "PUT", f"{path}/team/status", verb="update", body={**body, "metadata": made["metadata"]}
    )
    await cluster.apply(SKILL, USES_ECHO)
    message = await cluster.wait_condition("Agent", "ada", "SandboxAvailable", "False", "QuotaExceeded")
    assert message.startswith("echo: ResourceQuota 'team' leaves no room for sandbox pods")
    message = await cluster.wait_condition("Skill", "echo", "Ready", "False", "QuotaExceeded")
    assert "raise it, or lower spec.resources" in message
    refused = len(audit.requests("create"))
    await quiet(audit, allowed=1, attempts=1)
    assert len(audit.requests("create")) <= refused + 2
    await cluster.client._request("DELETE", f"{path}/team", verb="delete")
    await cluster.wait_any("Pod", lambda pods: len(pods) == 2)
    await cluster.wait_condition("Skill", "echo", "Ready", "True", "Ready")
    await cluster.wait_condition("Agent", "ada", "SandboxAvailable", "True", "Available")


async def test_a_runtime_class_that_does_not_exist_is_named(cluster: Cluster, operator: Operator) -> None:
    await cluster.apply(changed(SKILL, "spec.sandbox", {"runtimeClassName": "gvisor"}), USES_ECHO)
    message = await cluster.wait_condition("Skill", "echo", "SandboxAvailable", "False", "RuntimeClassNotFound")
    assert "RuntimeClass 'gvisor' does not exist in this cluster: create it, or correct runtimeClassName" in message
    await cluster.apply(changed(SKILL, "spec.sandbox", {}))
    await cluster.wait_condition("Skill", "echo", "SandboxAvailable", "True", "Available")


def sandboxes(pods: list[Object]) -> list[Object]:
    """Without the pods of gateways."""
    return [pod for pod in pods if "openclaw.io/pool" in pod["metadata"]["labels"]]


async def start(cluster: Cluster, count: int, check: Callable[[Object], bool]) -> None:
    """As many pods as that pass the check are there, and get ready."""

    def fit(pods: list[Object]) -> bool:
        return len([pod for pod in sandboxes(pods) if check(pod)]) == count

    await cluster.wait_any("Pod", fit)
    for pod in sandboxes(await cluster.all_of("Pod")):
        if check(pod) and "deletionTimestamp" not in pod["metadata"]:
            await cluster.patch_status("Pod", pod["metadata"]["name"], READY)


def keys(pod: Object) -> list[str]:
    (container,) = pod["spec"]["containers"]
    found: list[str] = next(
        item["value"].split(",") for item in container["env"] if item["name"] == "OPENCLAW_SANDBOX_PUBLIC_KEYS"
    )
    return found


@pytest.mark.parametrize("restarts", [False, True], ids=["", "with-restarts"])
async def test_a_signing_key_is_rotated_and_pods_that_can_be_called_are_always_there(
    full_cluster: Cluster, start_operator: Callable[[], OperatorProcess], full_audit: Audit, restarts: bool
) -> None:
    cluster, running = full_cluster, [start_operator()]

    def restart() -> None:
        if restarts:
            running.pop().kill()
            running.append(start_operator())

    await cluster.apply(SKILL, USES_ECHO)
    await start(cluster, 2, lambda _pod: True)
    old = (await cluster.get("Secret", SIGNING))["data"]
    await cluster.patch("Secret", SIGNING, {"metadata": {"annotations": {"openclaw.io/rotate": "today"}}})
    # The pods of the old key stay until two that trust both are ready; only then the new key signs.
    both = await cluster.wait("Secret", SIGNING, lambda item: "next.public.key" in item["data"])
    assert both["data"]["private.key"] == old["private.key"]
    restart()
    await cluster.wait_any("Pod", lambda pods: sorted(len(keys(pod)) for pod in sandboxes(pods)) == [1, 1, 2, 2])
    restart()
    await start(cluster, 2, lambda pod: len(keys(pod)) == 2)
    switched = await cluster.wait("Secret", SIGNING, lambda item: "former.public.key" in item["data"])
    assert switched["data"]["public.key"] == both["data"]["next.public.key"]
    assert switched["data"]["former.public.key"] == old["public.key"]
    restart()
    await cluster.wait_any("Pod", lambda pods: [len(keys(pod)) for pod in sandboxes(pods)] == [2, 2])
    # As if gateways had had the time to get it.
    long_ago: dict[str, Any] = {"metadata": {"annotations": {"openclaw.io/signs-since": "2026-01-01T00:00:00Z"}}}
    await cluster.patch("Secret", SIGNING, long_ago)
    await cluster.wait("Secret", SIGNING, lambda item: set(item["data"]) == {"private.key", "public.key"})
    restart()
    await cluster.wait_any("Pod", lambda pods: len(sandboxes(pods)) == 4)
    await start(cluster, 2, lambda pod: len(keys(pod)) == 1)
    await cluster.wait_any(
        "Pod", lambda pods: [keys(pod) for pod in sandboxes(pods)] == [[switched["data"]["public.key"]]] * 2
    )
    await quiet(full_audit)

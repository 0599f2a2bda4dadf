"""What is left when a resource goes, and what the operator does about what others change."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from tests.demo import stand_in
from tests.demo.kube import Kube

CHILDREN = (
    "deployment",
    "service",
    "configmap",
    "serviceaccount",
    "role",
    "rolebinding",
    "networkpolicy",
    "poddisruptionbudget",
)


def small_agent(name: str, reclaim: str) -> dict[str, Any]:
    """An Agent with embedded memory, small enough to run beside the quickstart."""
    return {
        "apiVersion": "openclaw.io/v1alpha1",
        "kind": "Agent",
        "metadata": {"name": name},
        "spec": {
            "model": {"provider": "local", "name": "stand-in", "baseURL": stand_in.BASE_URL},
            "workspace": {"size": "64Mi", "reclaimPolicy": reclaim},
            "gateway": {"resources": {"requests": {"cpu": "50m", "memory": "128Mi"}}},
        },
    }


@pytest.mark.parametrize(("reclaim", "kept"), [("Retain", True), ("Delete", False)])
def test_an_agents_children_go_with_it_and_its_volume_as_it_says(kube: Kube, reclaim: str, kept: bool) -> None:
    name = f"small-{uuid.uuid4().hex[:5]}"
    kube.apply(small_agent(name, reclaim))
    kube.wait("condition=Ready", f"agent/{name}", seconds=120)
    assert kube.get("secret", f"{name}-gateway-token") is not None
    for kind in CHILDREN:
        assert kube.get(kind, f"{name}-gateway") is not None, kind

    kube.delete("agent", name)

    for kind in CHILDREN:
        kube.delete_wait(kind, f"{name}-gateway")
    kube.delete_wait("secret", f"{name}-gateway-token")
    claim = kube.get("pvc", f"{name}-workspace")
    if kept:
        assert claim is not None
        assert claim["status"]["phase"] == "Bound"
        assert "deletionTimestamp" not in claim["metadata"]
        kube.delete("pvc", f"{name}-workspace")
    else:
        kube.delete_wait("pvc", f"{name}-workspace")


def test_a_deleted_child_comes_back(kube: Kube) -> None:
    before = kube.get("service", "code-expert-gateway")
    assert before is not None
    kube.delete("service", "code-expert-gateway")
    kube.wait("create", "service/code-expert-gateway", seconds=20)
    after = kube.get("service", "code-expert-gateway")
    assert after is not None
    assert after["metadata"]["uid"] != before["metadata"]["uid"]


def test_the_token_stays_when_the_operator_restarts(kube: Kube) -> None:
    before = kube.secret("coordinator-gateway-token", "token")
    system = kube.in_namespace("openclaw-system")
    system.run("rollout", "restart", "deployment/openclaw")
    system.run("rollout", "status", "deployment/openclaw", "--timeout=120s", seconds=130)
    assert kube.secret("coordinator-gateway-token", "token") == before

"""Children whose API not every cluster has: absence is said, appearance noticed, then they are kept as all others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from openclaw_operator.cluster.kinds import BY_NAME
from tests.cluster.addon_crds import addon_crd
from tests.integration.operator.conftest import CRD, Audit, Cluster, _create_global, exists
from tests.integration.operator.manifests import FULL_AGENT, SKILL, STORE
from tests.integration.operator.process import OperatorProcess
from tests.integration.operator.test_bad_input import changed

PARENT = {"parentRefs": [{"name": "edge"}]}
ADDONS: dict[str, tuple[str, Any, dict[str, Any]]] = {
    "HTTPRoute": ("spec.gateway.httpRoute", PARENT, {"spec": {"parentRefs": []}}),
    "ServiceMonitor": ("spec.observability.serviceMonitor", {}, {"spec": {"endpoints": []}}),
    "ScaledObject": ("spec.gateway.autoscaling.scaler", "KEDA", {"spec": {"maxReplicaCount": 99}}),
}


@pytest.mark.parametrize("kind", ADDONS)
async def test_an_api_that_comes_later(
    full_cluster: Cluster, start_operator: Callable[..., OperatorProcess], full_audit: Audit, kind: str
) -> None:
    cluster = full_cluster
    path, value, edit = ADDONS[kind]
    # Looks for an API as often as it looks at everything again.
    start_operator(resync_seconds=2)
    await cluster.apply(STORE, SKILL, changed(FULL_AGENT, path, value))
    message = await cluster.wait_condition("Agent", "ada", "ChildrenApplied", "False", "ApiNotInstalled")
    assert message.startswith(f"{path}: the API server does not know {kind} of {BY_NAME[kind].api_version}: install ")
    assert await cluster.get("Deployment", "ada-gateway")
    await _create_global(cluster.client, CRD.path(), addon_crd(BY_NAME[kind]))
    await cluster.wait_condition("Agent", "ada", "ChildrenApplied", "True", "Applied")
    made = await cluster.get(kind, "ada-gateway")
    await cluster.patch(kind, "ada-gateway", edit)
    await cluster.wait(kind, "ada-gateway", lambda item: bool(item["spec"] == made["spec"]))
    await cluster.delete(kind, "ada-gateway")
    await cluster.wait(kind, "ada-gateway", exists)
    await cluster.apply(FULL_AGENT)
    await cluster.wait_gone(kind, "ada-gateway")
    # Made, repaired, made again, taken away: nothing else was written for it.
    plural = BY_NAME[kind].plural
    made_of_it = await full_audit.wait_writes(4, resource=plural)
    assert [verb for verb, _, _ in made_of_it] == ["patch"] * 3 + ["delete"]

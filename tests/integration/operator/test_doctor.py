"""`openclaw k8s doctor` as a user runs it, against a real API server."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from openclaw_operator import rbac
from openclaw_operator.cli.doctor.probes import DOCTOR, NAMESPACE
from openclaw_operator.cluster.client import Object
from tests.bench.waiting import eventually
from tests.cluster.apiserver import ApiServer
from tests.cluster.processes import exclusive
from tests.integration.operator.conftest import Cluster, _create_global
from tests.integration.operator.manifests import AGENT
from tests.integration.operator.test_bad_input import changed
from tests.integration.operator.test_diff import OPENCLAW

GROUP = "rbac.authorization.k8s.io"
VERSION = metadata.version("openclaw-operator")


def deployment(name: str, namespace: str, selector: str = "") -> Object:
    """An operator of one namespace, as the chart makes it."""
    labels = {"app.kubernetes.io/name": "openclaw-operator", "app.kubernetes.io/instance": name}
    env = {"WATCH_NAMESPACES": namespace, "AGENT_SELECTOR": selector}
    container = {
        "name": "operator",
        "image": "operator",
        "env": [{"name": f"OPENCLAW_OPERATOR_{key}", "value": value} for key, value in env.items()],
    }
    pod = {"serviceAccountName": name, "containers": [container]}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "labels": {**labels, "app.kubernetes.io/version": VERSION}},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }


async def install(cluster: Cluster, name: str = "op", selector: str = "") -> None:
    """An operator with the rights of the chart in its own namespace."""
    namespace = cluster.namespace
    await _create_global(
        cluster.client, f"/apis/apps/v1/namespaces/{namespace}/deployments", deployment(name, namespace, selector)
    )
    await cluster.patch_status("Deployment", name, {"replicas": 1, "readyReplicas": 1})
    role = {"metadata": {"name": name}, "rules": rbac.policy_rules()}
    await _create_global(cluster.client, f"/apis/{GROUP}/v1/namespaces/{namespace}/roles", role)
    binding = {
        "metadata": {"name": name},
        "roleRef": {"apiGroup": GROUP, "kind": "Role", "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": namespace}],
    }
    await _create_global(cluster.client, f"/apis/{GROUP}/v1/namespaces/{namespace}/rolebindings", binding)


def command(kubeconfig: Path, cluster: Cluster, *arguments: str, program: tuple[str, ...] = ("openclaw", "k8s")) -> Any:
    return asyncio.create_subprocess_exec(
        *(str(OPENCLAW.with_name(program[0])), *program[1:], "doctor"),
        *("-n", cluster.namespace, "--operator-namespace", cluster.namespace, *arguments),
        env={**os.environ, "KUBECONFIG": str(kubeconfig)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )


async def doctor(kubeconfig: Path, cluster: Cluster, *arguments: str) -> tuple[int, dict[str, list[Object]]]:
    """Exit code, and check → what it found."""
    process = await command(kubeconfig, cluster, "-o", "json", *arguments)
    out, _ = await process.communicate()
    found: dict[str, list[Object]] = {}
    for each in json.loads(out)["checks"]:
        found.setdefault(each["check"], []).append(each)
    return process.returncode, found


def levels(found: dict[str, list[Object]]) -> dict[str, list[str]]:
    return {check: [each["level"] for each in findings] for check, findings in found.items()}


async def test_what_is_well_and_what_is_not(cluster: Cluster, server: ApiServer) -> None:
    await install(cluster)
    await cluster.apply(changed(AGENT, "spec.execution", {"sandbox": {"runtimeClassName": "gvisor"}}))
    code, found = await doctor(server.kubeconfig, cluster, "--no-probe")
    assert code == 1
    assert levels(found) == {
        "Kubernetes": ["ok"],
        "CRDs": ["ok"],
        "Operator": ["ok"],
        "Rights": ["ok"],
        "Storage": ["failure"],
        "Metrics": ["warning"],
        "RuntimeClass": ["failure"],
        "Images": ["warning", "warning"],
        "Provider": ["warning"],
        "NetworkPolicy": ["warning"],
    }
    assert found["Storage"][0]["message"] == f"no StorageClass is the default, needed by Agent {cluster.namespace}/ada"
    assert found["RuntimeClass"][0]["message"].startswith("gvisor does not exist")


async def test_rights_that_are_missing_and_such_as_nobody_should_give(cluster: Cluster, server: ApiServer) -> None:
    await install(cluster)
    less = {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}
    rules = [rule for rule in rbac.policy_rules() if "secrets" not in rule["resources"]]
    await cluster.patch("Role", "op", {"rules": [*rules, less]})
    name = f"too-much-{cluster.namespace}"
    more = {"apiGroups": [""], "resources": ["pods/exec"], "verbs": ["create"]}
    given = {"metadata": {"name": name}, "rules": [more]}
    await _create_global(cluster.client, f"/apis/{GROUP}/v1/clusterroles", given)
    binding = {
        "metadata": {"name": name},
        "roleRef": {"apiGroup": GROUP, "kind": "ClusterRole", "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": "op", "namespace": cluster.namespace}],
    }
    await _create_global(cluster.client, f"/apis/{GROUP}/v1/clusterrolebindings", binding)
    code, found = await doctor(server.kubeconfig, cluster, "--no-probe")
    assert code == 1
    missing, surplus = found["Rights"]
    assert missing["message"].startswith(f"serviceaccount:{cluster.namespace}:op may not create secrets in namespace ")
    assert missing["message"].count("secrets") == 5
    assert surplus["message"].endswith("op may also create pods/exec")


async def test_operators_that_get_in_each_others_way(cluster: Cluster, server: ApiServer) -> None:
    await install(cluster, "blue", "team=blue")
    await install(cluster, "red", "team in (red, blue)")
    await cluster.apply(changed(AGENT, "metadata.labels", {"team": "green"}))
    _, found = await doctor(server.kubeconfig, cluster, "--no-probe")
    both, none = found["Shares"]
    assert (both["level"], "may serve the same resources" in both["message"]) == ("failure", True)
    assert none["message"] == "1 of 1 resources are served by no operator"


async def test_somebody_with_few_rights_is_told_what_was_not_looked_at(
    cluster: Cluster, server: ApiServer, reader: Path
) -> None:
    await install(cluster)
    await cluster.apply(AGENT)
    code, found = await doctor(reader, cluster)
    assert code == 0
    for check in ("CRDs", "Rights", "Storage", "Metrics", "RuntimeClass", "Probes"):
        (only,) = found[check]
        assert only["level"] == "warning"
        assert "forbidden" in only["message"]


async def doctors_namespaces(cluster: Cluster) -> list[str]:
    page = await cluster.client._request(
        "GET", NAMESPACE.path(), verb="list", params={"labelSelector": f"app.kubernetes.io/managed-by={DOCTOR}"}
    )
    return [item["metadata"]["name"] for item in page["items"] if "deletionTimestamp" not in item["metadata"]]


@pytest.fixture
def alone(run_folder: Path) -> Iterator[None]:
    """No other worker probes meanwhile: nothing tells whose probes those of a server are."""
    with exclusive(run_folder / "doctor.lock"):
        yield


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("how", ["ended", "terminated"])
async def test_probes_are_cleared_away(cluster: Cluster, server: ApiServer, how: str) -> None:
    """No kubelet runs here, so that no pod ever starts."""
    seconds = "1" if how == "ended" else "600"
    process = await command(server.kubeconfig, cluster, "--timeout", seconds, program=("openclaw-operator",))
    if how == "terminated":

        async def begun() -> bool:
            return bool(await doctors_namespaces(cluster))

        await eventually(begun, "the probes have begun", seconds=120)
        process.terminate()
    out, _ = await process.communicate()
    assert process.returncode == 1
    if how == "ended":
        assert "not there within 1 s" in out.decode()
        assert "! NetworkPolicy" in out.decode()
    assert await doctors_namespaces(cluster) == []

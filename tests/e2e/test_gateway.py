"""What a gateway lets in, and what becomes of it when its pods come and go."""

from __future__ import annotations

import json

import httpx
import pytest

from tests.demo import steps, workspace
from tests.demo.chat import Gateway
from tests.demo.kube import Kube


@pytest.mark.parametrize("path", ["/v1/models", "/api/v1/skills", "/api/v1/memory", "/debug/tasks"])
@pytest.mark.parametrize("header", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic d3Jvbmc6"}])
def test_the_token_is_required(coordinator: Gateway, path: str, header: dict[str, str]) -> None:
    answer = httpx.get(f"{coordinator.url}{path}", headers=header, timeout=60)
    assert answer.status_code == 401
    assert "error" in answer.json()
    assert httpx.get(f"{coordinator.url}{path}", headers=coordinator.headers, timeout=60).status_code == 200


def test_probes_need_no_token(coordinator: Gateway) -> None:
    health = httpx.get(f"{coordinator.url}/health", timeout=60)
    assert health.status_code == 200
    assert health.json()["status"] == "ok"
    assert httpx.get(f"{coordinator.url}/ready", timeout=60).status_code == 200
    assert "openclaw_request_duration_ms" in httpx.get(f"{coordinator.url}/metrics", timeout=60).text


def test_work_handed_to_an_agent_that_is_down_is_done_when_it_is_back(kube: Kube, coordinator: Gateway) -> None:
    workspace.leave_work(kube)
    commits = workspace.commits(kube)
    # Not by force: then its processes would outlive the object for a moment, and take up work that ends with them.
    gateways = "app.kubernetes.io/name=gateway,openclaw.io/agent=code-expert"
    kube.run("delete", "pod", f"--selector={gateways}", "--grace-period=1", "--wait=true")
    answer = "".join(coordinator.ask(steps.COMMIT_PLEASE))
    assert workspace.commits(kube) == commits + 1, answer


def test_a_killed_gateway_is_replaced_and_loses_no_memory(kube: Kube, coordinator: Gateway) -> None:
    workspace.leave_work(kube)
    answer = "".join(coordinator.ask(steps.COMMIT_PLEASE))
    subject = workspace.git(kube, "log", "-1", "--format=%s").strip()
    assert subject in answer
    gateways = "app.kubernetes.io/name=gateway,openclaw.io/agent=coordinator"
    before = {pod["metadata"]["name"] for pod in kube.items("pods", gateways)}
    kube.run("delete", "pod", f"--selector={gateways}", "--grace-period=0", "--force", "--wait=true")
    kube.run("rollout", "status", "deployment/coordinator-gateway", "--timeout=120s", seconds=130)
    assert not before & {pod["metadata"]["name"] for pod in kube.items("pods", gateways)}
    with kube.forward("service/coordinator-gateway", steps.GATEWAY_PORT) as url:
        again = Gateway(url, coordinator.token, "coordinator")
        assert subject in "".join(again.ask(steps.WHAT_LAST))


def test_the_autoscaler_gets_real_metrics(kube: Kube) -> None:
    # metrics-server needs two scrapes of a pod, 15 s apart.
    for index in (0, 1):
        current = f"jsonpath={{.status.currentMetrics[{index}].resource.current.averageUtilization}}"
        kube.wait(current, "hpa/coordinator-gateway", seconds=120)
    autoscaler = kube.get("hpa", "coordinator-gateway")
    assert autoscaler is not None
    measured = {
        item["resource"]["name"]: item["resource"]["current"] for item in autoscaler["status"]["currentMetrics"]
    }
    assert set(measured) == {"cpu", "memory"}
    assert measured["memory"]["averageUtilization"] > 0
    shown = kube.run("get", "deployment", "coordinator-gateway", "--show-managed-fields", "-o", "json")
    deployment = json.loads(shown)
    owners = [
        entry["manager"]
        for entry in deployment["metadata"]["managedFields"]
        if "f:replicas" in entry["fieldsV1"].get("f:spec", {})
    ]
    assert "openclaw-operator" not in owners

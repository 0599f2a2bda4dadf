"""An idle agent has no pods, and whatever it is sent next wakes it and is answered."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.demo import steps, workspace
from tests.demo.chat import Gateway
from tests.demo.kube import Kube

ASLEEP_SECONDS = 240.0
GATEWAYS = "app.kubernetes.io/name=gateway,openclaw.io/agent=sleeper"
# What a pod of the namespace asks, through the Service.
ASK = """
import json, urllib.request
body = json.dumps({"model": "sleeper", "messages": [{"role": "user", "content": "Good morning"}]}).encode()
headers = {"Authorization": "Bearer %s", "Content-Type": "application/json"}
request = urllib.request.Request("http://sleeper-gateway:7456/v1/chat/completions", body, headers)
print(urllib.request.urlopen(request, timeout=120).read().decode())
"""


def agent(kube: Kube, name: str, **spec: Any) -> dict[str, Any]:
    """An agent with the model and the store of code-expert."""
    like = kube.get("agent", "code-expert")
    assert like is not None
    shared = {key: like["spec"][key] for key in ("model", "memory")}
    gateway = {"resources": like["spec"]["gateway"]["resources"], **spec.pop("gateway", {})}
    metadata = {"name": name, "namespace": kube.namespace}
    spec = {"workspace": {"size": "64Mi", "reclaimPolicy": "Delete"}, "gateway": gateway, **shared, **spec}
    return {"apiVersion": "openclaw.io/v1alpha1", "kind": "Agent", "metadata": metadata, "spec": spec}


@pytest.fixture(scope="module")
def sleepy(kube: Kube) -> Iterator[Kube]:
    """An agent that sleeps after half a minute, and one that hands work to it."""
    kube.apply(agent(kube, "sleeper", gateway={"hibernation": {"idleSeconds": 30}}))
    kube.wait("create", "deployment/openclaw-activator", seconds=60)
    # Its caller knows of the activator from the start here.
    kube.run("set", "env", "deployment/openclaw-activator", "OPENCLAW_ACTIVATOR_SETTLE_SECONDS=1")
    kube.apply(agent(kube, "caller", role="coordinator", team={"members": [{"name": "sleeper"}]}))
    for _ in kube.wait_all_ready(["agent/sleeper", "agent/caller"], steps.READY_SECONDS):
        pass
    yield kube
    kube.delete("agent", "sleeper", "caller")
    kube.wait("delete", "deployment/openclaw-activator", seconds=60)


def await_sleep(kube: Kube) -> None:
    kube.wait("condition=Hibernated", "agent/sleeper", seconds=ASLEEP_SECONDS)
    if kube.items("pods", GATEWAYS):
        kube.wait("delete", "pods", f"--selector={GATEWAYS}", seconds=60)


def test_a_request_wakes_a_sleeping_agent_and_is_answered(sleepy: Kube) -> None:
    await_sleep(sleepy)
    found = sleepy.get("agent", "sleeper")
    assert found is not None
    ready = next(item for item in found["status"]["conditions"] if item["type"] == "Ready")
    assert (ready["status"], ready["reason"]) == ("True", "Hibernated")
    with sleepy.forward("service/sleeper-gateway", steps.GATEWAY_PORT) as url:
        assert httpx.get(f"{url}/health").status_code == 200
        assert httpx.get(f"{url}/v1/models", headers={"Authorization": "Bearer wrong"}).status_code == 401
    assert not sleepy.items("pods", GATEWAYS), "only who has the token wakes it"

    token = sleepy.secret("sleeper-gateway-token", "token")
    answer = json.loads(sleepy.exec(workspace.SHELL, "python3", "-c", ASK % token))

    assert "Good morning" in answer["choices"][0]["message"]["content"]
    sleepy.wait("condition=Hibernated=False", "agent/sleeper", seconds=60)
    sleepy.wait("condition=Ready", "agent/sleeper", seconds=60)
    again = json.loads(sleepy.exec(workspace.SHELL, "python3", "-c", ASK % token))
    assert "Good morning" in again["choices"][0]["message"]["content"]
    service = sleepy.get("service", "sleeper-gateway")
    assert service is not None
    assert service["spec"]["selector"]["app.kubernetes.io/name"] == "gateway"


def test_work_that_another_agent_hands_over_wakes_it(sleepy: Kube) -> None:
    await_sleep(sleepy)
    token = sleepy.secret("caller-gateway-token", "token")
    with sleepy.forward("service/caller-gateway", steps.GATEWAY_PORT) as url:
        answer = "".join(Gateway(url, token, "caller").ask(steps.COMMIT_PLEASE))
    assert "stand-in model without a rule" in answer, "the sleeper was to answer"
    assert steps.COMMIT_PLEASE in answer

"""The example's MCP server as a skill of an agent: its tool is found, offered to the model and run in a pod."""

from __future__ import annotations

import time
from typing import Any, cast

import yaml

from tests.cluster.paths import REPOSITORY
from tests.demo import steps
from tests.demo.chat import Gateway
from tests.demo.kube import Kube

AGENT: dict[str, Any] = {
    "apiVersion": "openclaw.io/v1alpha1",
    "kind": "Agent",
    "metadata": {"name": "converter"},
    "spec": {"role": "assistant", "skills": [{"name": "unit-converter", "version": "^1.0.0"}]},
}


def actions_of(gateway: Gateway, seconds: float) -> list[str]:
    """The actions of the agent's one skill, once its server was asked."""
    until = time.monotonic() + seconds
    while True:
        (skill,) = cast("list[dict[str, Any]]", gateway.get("/api/v1/skills"))
        if skill["actions"] or time.monotonic() > until:
            return [action["name"] for action in skill["actions"]]
        time.sleep(0.2)


def test_a_tool_of_an_mcp_server_is_called_in_a_sandbox_pod(kube: Kube) -> None:
    skill = next(yaml.safe_load_all((REPOSITORY / "examples/mcp-skill.yaml").read_text()))
    model = kube.get("agent", "coordinator")
    assert model is not None
    kube.apply(skill, AGENT | {"spec": AGENT["spec"] | {"model": model["spec"]["model"]}})
    try:
        for _ in kube.wait_all_ready(["agent/converter", "skill/unit-converter"], steps.READY_SECONDS):
            pass
        token = kube.secret("converter-gateway-token", "token")
        with kube.forward("service/converter-gateway", steps.GATEWAY_PORT) as url:
            gateway = Gateway(url, token, "converter")
            assert actions_of(gateway, seconds=60) == ["convert"]
            answer = "".join(gateway.ask("Please convert 100 C to F", session="units"))
            calls = gateway.skill_calls("units")
        assert "212 F" in answer
        assert [(call.skill, call.action, call.outcome) for call in calls] == [("unit-converter", "convert", "ok")]
        assert calls[0].sandbox.startswith("sandbox-")
    finally:
        kube.delete("agent/converter", "skill/unit-converter")

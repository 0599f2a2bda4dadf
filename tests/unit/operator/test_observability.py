"""What agents are watched by gets through: traces out of the gateway, and those who scrape in."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from openclaw_operator.resources import agent, network
from openclaw_operator.settings import load_settings
from tests.unit.operator.builders import agent_inputs, store


def built(kind: str, **spec: Any) -> dict[str, Any]:
    """One child of an agent."""
    (found,) = [item for item in agent.build(agent_inputs("ada", spec, memory=store())) if item["kind"] == kind]
    return dict(found)


def outward_ports(**spec: Any) -> set[int]:
    """The ports that the gateway reaches at any address."""
    rules = built("NetworkPolicy", **spec)["spec"]["egress"]
    return {port["port"] for rule in rules if "to" not in rule for port in rule["ports"]}


@pytest.mark.parametrize(
    ("endpoint", "port"),
    [("http://collector.monitoring:4318", 4318), ("http://collector/otlp", 80), ("https://otlp.example.org", 443)],
)
def test_traces_leave_for_where_the_agent_sends_them(endpoint: str, port: int) -> None:
    traced = {"observability": {"traces": {"endpoint": endpoint}}}
    (container,) = built("Deployment", **traced)["spec"]["template"]["spec"]["containers"]
    assert {"name": "OTEL_EXPORTER_OTLP_ENDPOINT", "value": endpoint} in container["env"]
    assert outward_ports(**traced) == outward_ports() | {port}


def test_what_is_watched_lets_in_the_namespaces_that_scrape() -> None:
    monitoring = load_settings({"OPENCLAW_OPERATOR_MONITORING_NAMESPACES": "prometheus, team"}).monitoring_namespaces
    inputs = replace(agent_inputs("ada", {}), monitoring=monitoring)
    (_, egress) = network.egress_policies("demo", internal=False, monitoring=monitoring)
    policies = [network.gateway_policy(inputs), egress, network.activator_policy("demo", monitoring)]
    for policy in policies:
        allowed = [peer for rule in policy["spec"]["ingress"] for peer in rule["from"]]
        for namespace in monitoring:
            peer = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}}
            assert peer in allowed, policy["metadata"]["name"]
        assert "'monitoring'" not in str(allowed)

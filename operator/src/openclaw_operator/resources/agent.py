"""All children of an Agent, in the order they are needed."""

from __future__ import annotations

from openclaw_operator.resources import (
    activator,
    agent_access,
    agent_config,
    agent_deployment,
    agent_identity,
    agent_service,
    network,
)
from openclaw_operator.resources.inputs import AgentInputs
from openclaw_operator.resources.meta import Object


def build(inputs: AgentInputs) -> list[Object]:
    """Every child but the token Secret, whose value is made once and not built."""
    config = agent_config.render(inputs)
    optional = (
        agent_service.autoscaler(inputs),
        agent_access.ingress(inputs),
        agent_access.http_route(inputs),
        agent_access.service_monitor(inputs),
        activator.state(inputs),
    )
    return [
        agent_identity.service_account(inputs),
        agent_identity.role(inputs),
        agent_identity.role_binding(inputs),
        agent_config.config_map(inputs, config),
        agent_service.workspace(inputs),
        agent_service.service(inputs),
        network.gateway_policy(inputs),
        agent_deployment.deployment(inputs, config),
        agent_service.disruption_budget(inputs),
        *(item for item in optional if item),
    ]

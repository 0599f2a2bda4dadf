"""NetworkPolicies: everything is closed but what is written here."""

from __future__ import annotations

from openclaw_operator.resources import stores
from openclaw_operator.resources.agent_deployment import selector
from openclaw_operator.resources.inputs import AgentInputs
from openclaw_operator.resources.meta import (
    GATEWAY_PORT,
    MANAGED_BY,
    OPERATOR,
    POOL_LABEL,
    SANDBOX_PORT,
    Object,
    Owner,
    child,
    labels,
)

SANDBOX_POLICY = "openclaw-sandbox"
# Pods of other namespaces that may talk to gateways, for example an ingress controller, get there by this label on
# their namespace.
ACCESS_LABEL = "openclaw.io/gateway-access"
_GATEWAYS = {MANAGED_BY: OPERATOR, "app.kubernetes.io/name": "gateway"}
_DNS: Object = {
    "to": [{"namespaceSelector": {}}],
    "ports": [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}],
}


def _tcp(*numbers: int) -> list[Object]:
    return [{"protocol": "TCP", "port": number} for number in numbers]


def _pods(match: dict[str, str]) -> Object:
    return {"podSelector": {"matchLabels": match}}


def gateway_policy(inputs: AgentInputs) -> Object:
    """In: the namespace, monitoring, and namespaces let in by label. Out: DNS, store, sandbox pods, HTTPS and model."""
    model = inputs.spec.model
    egress: list[Object] = [_DNS]
    outside: tuple[str | None, ...] = (model.base_url, *(skill.mcp_url for skill in inputs.skills))
    store = inputs.store
    if store:
        spec = store.spec
        external = (
            spec.vector.qdrant.external.url if spec.vector.qdrant.external else None,
            spec.records.postgresql.external.url if spec.records.postgresql.external else None,
            spec.cache.redis.external.url if spec.cache.redis.external else None,
            spec.embedding.base_url,
        )
        outside += external
        egress.append(
            {
                "to": [_pods({MANAGED_BY: OPERATOR, "openclaw.io/memorystore": store.name})],
                "ports": _tcp(stores.QDRANT_PORT, stores.QDRANT_GRPC_PORT, stores.POSTGRESQL_PORT, stores.REDIS_PORT),
            }
        )
    egress.append(
        {
            "to": [{"podSelector": {"matchExpressions": [{"key": POOL_LABEL, "operator": "Exists"}]}}],
            "ports": _tcp(SANDBOX_PORT),
        }
    )
    # The API server has no label to select it by; 443 and 6443 are where it and HTTPS services listen.
    egress.append({"ports": _tcp(*sorted({443, 6443, *stores.ports(outside)}))})
    ingress: Object = {
        "from": [
            {"podSelector": {}},
            {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}},
            {"namespaceSelector": {"matchLabels": {ACCESS_LABEL: "true"}}},
        ],
        "ports": _tcp(GATEWAY_PORT),
    }
    return child(
        "networking.k8s.io/v1",
        "NetworkPolicy",
        inputs.gateway,
        inputs.owner,
        labels(inputs.owner, "gateway", "network"),
        spec={
            "podSelector": {"matchLabels": selector(inputs.owner.name)},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [ingress],
            "egress": egress,
        },
    )


def server_policy(owner: Owner, server: str, ports: tuple[int, ...], peer_ports: tuple[int, ...] = ()) -> Object:
    """A server of a MemoryStore: in from gateways and its backup; between its own pods where it is a cluster."""
    own = {"app.kubernetes.io/name": server, owner.label: owner.name}
    clients: Object = {
        "from": [_pods(_GATEWAYS), _pods({"app.kubernetes.io/name": "backup", owner.label: owner.name})],
        "ports": _tcp(*ports),
    }
    ingress, egress = [clients], []
    if peer_ports:
        ingress.append({"from": [_pods(own)], "ports": _tcp(*ports, *peer_ports)})
        egress = [_DNS, {"to": [_pods(own)], "ports": _tcp(*ports, *peer_ports)}]
    return child(
        "networking.k8s.io/v1",
        "NetworkPolicy",
        owner.child(server),
        owner,
        labels(owner, server, "network"),
        spec={
            "podSelector": {"matchLabels": own},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": ingress,
            "egress": egress,
        },
    )


def sandbox_policy(namespace: str) -> Object:
    """All sandbox pods of a namespace: in from its gateways on the call port, no way out."""
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {
            "name": SANDBOX_POLICY,
            "namespace": namespace,
            "labels": {
                MANAGED_BY: OPERATOR,
                "app.kubernetes.io/name": "sandbox",
                "app.kubernetes.io/component": "network",
            },
        },
        "spec": {
            "podSelector": {"matchExpressions": [{"key": POOL_LABEL, "operator": "Exists"}]},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"from": [_pods(_GATEWAYS)], "ports": _tcp(SANDBOX_PORT)}],
            "egress": [],
        },
    }

"""NetworkPolicies: everything is closed but what is written here."""

from __future__ import annotations

from ipaddress import ip_network

from openclaw_operator.api.backup import BackupDestination
from openclaw_operator.resources import activator, agent_models, stores
from openclaw_operator.resources import egress as proxies
from openclaw_operator.resources.agent_deployment import selector
from openclaw_operator.resources.inputs import AgentInputs
from openclaw_operator.resources.meta import (
    ACTIVATOR_API_PORT,
    EGRESS_API_PORT,
    EGRESS_LABEL,
    EGRESS_PORT,
    GATEWAY_PORT,
    MANAGED_BY,
    MONITORING,
    OPERATOR,
    POOL_LABEL,
    SANDBOX_PORT,
    Object,
    Owner,
    child,
    labels,
)
from openclaw_operator.resources.shared import shared

SANDBOX_POLICY = "openclaw-sandbox"
SANDBOX_NAME_POLICY = "openclaw-sandbox-by-name"
SANDBOX_EGRESS_POLICY = "openclaw-sandbox-egress"
EGRESS_POLICY = "openclaw-egress"
# Pods of other namespaces that may talk to gateways, for example an ingress controller, get there by this label on
# their namespace.
ACCESS_LABEL = "openclaw.io/gateway-access"
_GATEWAYS = {MANAGED_BY: OPERATOR, "app.kubernetes.io/name": "gateway"}
_SANDBOXES = {MANAGED_BY: OPERATOR, "app.kubernetes.io/name": "sandbox"}
# Pods that act for skills are no clients of gateways, whatever they are talked into.
_ALL_BUT_SKILLS: Object = {
    "podSelector": {
        "matchExpressions": [
            {"key": "app.kubernetes.io/name", "operator": "NotIn", "values": ["sandbox", "egress-proxy"]}
        ]
    }
}
_LINK_LOCAL = ("169.254.0.0/16", "fe80::/10", "fd00:ec2::/32")
_PRIVATE = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "198.18.0.0/15", "fc00::/7")
_DNS: Object = {
    "to": [{"namespaceSelector": {}}],
    "ports": [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}],
}


def _monitoring(namespaces: tuple[str, ...]) -> list[Object]:
    """Pods of the namespaces that scrape."""
    return [
        {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}} for namespace in namespaces
    ]


def _clients(monitoring: tuple[str, ...]) -> Object:
    """Who may talk to a gateway, or to the activator in its place."""
    return {
        "from": [
            _ALL_BUT_SKILLS,
            *_monitoring(monitoring),
            {"namespaceSelector": {"matchLabels": {ACCESS_LABEL: "true"}}},
        ],
        "ports": [{"protocol": "TCP", "port": GATEWAY_PORT}],
    }


def _tcp(*numbers: int) -> list[Object]:
    return [{"protocol": "TCP", "port": number} for number in numbers]


def _pods(match: dict[str, str]) -> Object:
    return {"podSelector": {"matchLabels": match}}


def gateway_policy(inputs: AgentInputs) -> Object:
    """In: the namespace, monitoring, and namespaces let in by label.

    Out: DNS, store, sandbox pods, HTTPS, model, remote MCP servers and where traces go.
    """
    egress: list[Object] = [_DNS]
    models = agent_models.addresses(inputs.spec.model)
    traces = inputs.spec.observability.traces
    outside: tuple[str | None, ...] = (
        *models,
        *(skill.mcp_url for skill in inputs.skills),
        traces.endpoint if traces else None,
    )
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
    egress.append({"to": [_pods(proxies.LABELS)], "ports": _tcp(EGRESS_API_PORT)})
    if inputs.meets_activator:
        egress.append({"to": [_pods(activator.LABELS)], "ports": _tcp(ACTIVATOR_API_PORT)})
    return _child_policy(
        inputs.owner, "gateway", selector(inputs.owner.name), ingress=[_clients(inputs.monitoring)], egress=egress
    )


def activator_policy(namespace: str, monitoring: tuple[str, ...] = MONITORING) -> Object:
    """In: who may talk to gateways, since it stands in for them; gateways and monitoring. Out: gateways, API server."""
    spec: Object = {
        "podSelector": {"matchLabels": activator.LABELS},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [
            _clients(monitoring),
            {"from": [_pods(_GATEWAYS), *_monitoring(monitoring)], "ports": _tcp(ACTIVATOR_API_PORT)},
        ],
        "egress": [
            {"to": [_pods(_GATEWAYS)], "ports": _tcp(GATEWAY_PORT)},
            {"ports": _tcp(443, 6443)},
        ],
    }
    return _policy(activator.NAME, namespace, activator.COMPONENT, spec, component=activator.COMPONENT)


def server_policy(owner: Owner, server: str, ports: tuple[int, ...], peer_ports: tuple[int, ...] = ()) -> Object:
    """A server of a MemoryStore: in from gateways and its backup; between its own pods where it is a cluster."""
    own = _pods_of(owner, server)
    clients: Object = {
        "from": [_pods(_GATEWAYS), _pods(_pods_of(owner, "backup"))],
        "ports": _tcp(*ports),
    }
    ingress, egress = [clients], []
    if peer_ports:
        ingress.append({"from": [_pods(own)], "ports": _tcp(*ports, *peer_ports)})
        egress = [_DNS, {"to": [_pods(own)], "ports": _tcp(*ports, *peer_ports)}]
    return _child_policy(owner, server, own, ingress=ingress, egress=egress)


def drill_policy(owner: Owner, name: str, destination: BackupDestination) -> Object:
    """Pods of restore drills: nobody in, and out to the object store that backups are in."""
    s3 = destination.s3
    out = [_DNS, {"ports": _tcp(*sorted({443, *stores.ports((s3.endpoint,))}))}] if s3 else []
    return _child_policy(owner, name, _pods_of(owner, name), ingress=[], egress=out)


def _pods_of(owner: Owner, name: str) -> dict[str, str]:
    """What the pods of that app.kubernetes.io/name of an owner have."""
    return {"app.kubernetes.io/name": name, owner.label: owner.name}


def _child_policy(
    owner: Owner, name: str, pods: dict[str, str], *, ingress: list[Object], egress: list[Object]
) -> Object:
    """A policy that belongs to an owner, named after what it is about."""
    return child(
        "networking.k8s.io/v1",
        "NetworkPolicy",
        owner.child(name),
        owner,
        labels(owner, name, "network"),
        spec={
            "podSelector": {"matchLabels": pods},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": ingress,
            "egress": egress,
        },
    )


def _policy(name: str, namespace: str, of: str, spec: Object, *, component: str = "network") -> Object:
    """A policy that belongs to the namespace; `of` is the app.kubernetes.io/name of what it is about."""
    labels_ = {
        MANAGED_BY: OPERATOR,
        "app.kubernetes.io/name": of,
        "app.kubernetes.io/component": component,
    }
    return shared("networking.k8s.io/v1", "NetworkPolicy", name, namespace, labels_, spec=spec)


def sandbox_policies(namespace: str) -> list[Object]:
    """All sandbox pods of a namespace: in from its gateways on the call port, no way out.

    Each pod is selected twice, so that one that loses a label is not free.
    """
    closed: Object = {
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [{"from": [_pods(_GATEWAYS)], "ports": _tcp(SANDBOX_PORT)}],
        "egress": [],
    }
    pooled: Object = {"matchExpressions": [{"key": POOL_LABEL, "operator": "Exists"}]}
    return [
        _policy(SANDBOX_POLICY, namespace, "sandbox", {"podSelector": pooled, **closed}),
        _policy(SANDBOX_NAME_POLICY, namespace, "sandbox", {"podSelector": {"matchLabels": _SANDBOXES}, **closed}),
    ]


def egress_policies(
    namespace: str, *, internal: bool, denied: tuple[str, ...] = (), monitoring: tuple[str, ...] = MONITORING
) -> list[Object]:
    """Sandbox pods of class proxied reach the proxy; the proxy reaches the outside, the inside only if `internal`."""
    excluded = [*_LINK_LOCAL, *(() if internal else _PRIVATE), *denied]
    to_proxy: Object = {
        "podSelector": {"matchLabels": {**_SANDBOXES, EGRESS_LABEL: "proxied"}},
        "policyTypes": ["Egress"],
        "egress": [{"to": [_pods(proxies.LABELS)], "ports": _tcp(EGRESS_PORT)}],
    }
    outside: Object = {
        "podSelector": {"matchLabels": proxies.LABELS},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [
            {"from": [_pods({**_SANDBOXES, EGRESS_LABEL: "proxied"})], "ports": _tcp(EGRESS_PORT)},
            {"from": [_pods(_GATEWAYS), *_monitoring(monitoring)], "ports": _tcp(EGRESS_API_PORT)},
        ],
        "egress": [
            _DNS,
            {"to": [{"ipBlock": _all_but("0.0.0.0/0", excluded)}, {"ipBlock": _all_but("::/0", excluded)}]},
        ],
    }
    return [
        _policy(SANDBOX_EGRESS_POLICY, namespace, "sandbox", to_proxy),
        _policy(EGRESS_POLICY, namespace, "egress-proxy", outside),
    ]


def _all_but(cidr: str, excluded: list[str]) -> Object:
    """A block of one IP version without the networks of that version."""
    version = ip_network(cidr).version
    return {"cidr": cidr, "except": [item for item in excluded if ip_network(item).version == version]}

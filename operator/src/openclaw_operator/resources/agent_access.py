"""Ways to a gateway from outside its namespace: Ingress and HTTPRoute; and who scrapes it: ServiceMonitor."""

from __future__ import annotations

from openclaw_operator.resources.agent_deployment import selector
from openclaw_operator.resources.inputs import AgentInputs
from openclaw_operator.resources.meta import GATEWAY_PORT, Object, child, labels

# https://github.com/kubernetes/ingress-nginx/blob/main/docs/user-guide/nginx-configuration/annotations.md
_BODY_SIZE = {"nginx.ingress.kubernetes.io/proxy-body-size": "50m"}
_TLS_REDIRECT = {"nginx.ingress.kubernetes.io/force-ssl-redirect": "true"}


def ingress(inputs: AgentInputs) -> Object | None:
    """The Ingress <agent>-gateway, None when none is wanted."""
    wanted = inputs.spec.gateway.ingress
    if wanted is None:
        return None
    backend = {"service": {"name": inputs.gateway, "port": {"name": "http"}}}
    spec: Object = {
        "rules": [
            {"host": wanted.host, "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]}},
        ]
    }
    if wanted.class_name:
        spec["ingressClassName"] = wanted.class_name
    if wanted.tls_secret_name:
        spec["tls"] = [{"hosts": [wanted.host], "secretName": wanted.tls_secret_name}]
    defaults = {**_BODY_SIZE, **(_TLS_REDIRECT if wanted.tls_secret_name else {})}
    return child(
        "networking.k8s.io/v1",
        "Ingress",
        inputs.gateway,
        inputs.owner,
        labels(inputs.owner, "gateway", "network"),
        annotations={**defaults, **wanted.annotations},
        spec=spec,
    )


def http_route(inputs: AgentInputs) -> Object | None:
    """The HTTPRoute <agent>-gateway, None when none is wanted."""
    wanted = inputs.spec.gateway.http_route
    if wanted is None:
        return None
    spec: Object = {
        "parentRefs": [
            {
                "group": "gateway.networking.k8s.io",
                "kind": "Gateway",
                **ref.model_dump(by_alias=True, exclude_none=True),
            }
            for ref in wanted.parent_refs
        ],
        "rules": [{"backendRefs": [{"name": inputs.gateway, "port": GATEWAY_PORT}]}],
    }
    if wanted.hostnames:
        spec["hostnames"] = wanted.hostnames
    return child(
        "gateway.networking.k8s.io/v1",
        "HTTPRoute",
        inputs.gateway,
        inputs.owner,
        labels(inputs.owner, "gateway", "network"),
        spec=spec,
    )


def service_monitor(inputs: AgentInputs) -> Object | None:
    """The ServiceMonitor <agent>-gateway, None when none is wanted. /metrics asks for no token."""
    wanted = inputs.spec.observability.service_monitor
    if wanted is None:
        return None
    return child(
        "monitoring.coreos.com/v1",
        "ServiceMonitor",
        inputs.gateway,
        inputs.owner,
        {**wanted.labels, **labels(inputs.owner, "gateway", "monitoring")},
        spec={
            "selector": {"matchLabels": selector(inputs.owner.name)},
            "endpoints": [{"port": "http", "path": "/metrics", "interval": wanted.interval}],
        },
    )

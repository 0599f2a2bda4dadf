"""The egress proxy of a namespace: the one way out of its sandbox pods that may have one."""

from __future__ import annotations

from dataclasses import dataclass, field

from openclaw_operator.resources.meta import (
    CONFIG_DIR,
    EGRESS_API_PORT,
    EGRESS_NAME,
    EGRESS_PORT,
    MANAGED_BY,
    OPERATOR,
    SCRATCH_DIR,
    Object,
    container_security,
    field_env,
    pod_security,
    pull_secrets,
)
from openclaw_operator.resources.shared import deployment, probes, shared

NAME = EGRESS_NAME
# Headless: a gateway asks each replica what it decided for a call.
API_NAME = f"{NAME}-api"
LABELS = {MANAGED_BY: OPERATOR, "app.kubernetes.io/name": "egress-proxy", "app.kubernetes.io/component": "egress"}
RUN_DIR = "/run/egress"
# Mounted and not in the environment: another key must not restart a proxy that carries connections.
KEYS_NAME = f"{NAME}-keys"
KEYS_FILE = "public.keys"


@dataclass(frozen=True)
class EgressOptions:
    """How the proxies of all namespaces are set up. `denied` are networks no skill reaches, in CIDR notation."""

    image: str = ""
    pull_policy: str = "IfNotPresent"
    replicas: int = 1
    resources: Object = field(default_factory=dict)
    denied: tuple[str, ...] = ()
    allow_api_server: bool = False
    pull_secrets: tuple[str, ...] = ()

    @property
    def enabled(self) -> bool:
        """Whether there are proxies at all."""
        return bool(self.image)


def build(namespace: str, public_keys: str, options: EgressOptions) -> list[Object]:
    """Keys, Services and Deployment; `public_keys` are base64 and comma separated: whose grants are good."""
    proxy = {"name": "proxy", "port": EGRESS_PORT, "targetPort": "proxy", "protocol": "TCP"}
    api = {"name": "api", "port": EGRESS_API_PORT, "targetPort": "api", "protocol": "TCP"}
    return [
        shared("v1", "ConfigMap", KEYS_NAME, namespace, LABELS, data={KEYS_FILE: public_keys}),
        shared(
            "v1", "Service", NAME, namespace, LABELS, spec={"type": "ClusterIP", "selector": LABELS, "ports": [proxy]}
        ),
        shared(
            "v1",
            "Service",
            API_NAME,
            namespace,
            LABELS,
            spec={"type": "ClusterIP", "clusterIP": "None", "selector": LABELS, "ports": [api]},
        ),
        _deployment(namespace, options),
    ]


def _deployment(namespace: str, options: EgressOptions) -> Object:
    container: Object = {
        "name": "egress",
        "image": options.image,
        "imagePullPolicy": options.pull_policy,
        "ports": [
            {"name": "proxy", "containerPort": EGRESS_PORT, "protocol": "TCP"},
            {"name": "api", "containerPort": EGRESS_API_PORT, "protocol": "TCP"},
        ],
        "env": [
            {"name": "OPENCLAW_EGRESS_PUBLIC_KEYS_FILE", "value": f"{CONFIG_DIR}/{KEYS_FILE}"},
            {"name": "OPENCLAW_EGRESS_PORT", "value": str(EGRESS_PORT)},
            {"name": "OPENCLAW_EGRESS_API_PORT", "value": str(EGRESS_API_PORT)},
            {"name": "OPENCLAW_EGRESS_FOLDER", "value": RUN_DIR},
            {"name": "OPENCLAW_EGRESS_DENIED_NETWORKS", "value": ",".join(options.denied)},
            {"name": "OPENCLAW_EGRESS_ALLOW_API_SERVER", "value": "true" if options.allow_api_server else "false"},
            # The kubelet is there, and on many a control plane the API server.
            field_env("OPENCLAW_EGRESS_NODE_ADDRESS", "status.hostIP"),
        ],
        "resources": options.resources,
        "securityContext": container_security(),
        **probes(),
        "volumeMounts": [
            {"name": "run", "mountPath": RUN_DIR},
            {"name": "tmp", "mountPath": SCRATCH_DIR},
            {"name": "keys", "mountPath": CONFIG_DIR, "readOnly": True},
        ],
    }
    pod: Object = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 10,
        "securityContext": pod_security(),
        # A full name is what it says: not first tried below each of the cluster's domains.
        "dnsConfig": {"options": [{"name": "ndots", "value": "1"}]},
        "containers": [container],
        "volumes": [
            {"name": "run", "emptyDir": {"sizeLimit": "16Mi"}},
            {"name": "tmp", "emptyDir": {"sizeLimit": "16Mi"}},
            {"name": "keys", "configMap": {"name": KEYS_NAME}},
        ],
        **pull_secrets(options.pull_secrets),
    }
    return deployment(NAME, namespace, LABELS, replicas=options.replicas, pod=pod)

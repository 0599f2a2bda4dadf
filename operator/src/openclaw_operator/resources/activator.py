"""The activator of a namespace: it says which agents are idle, and holds requests for those that sleep until they wake.

It reads no Secret of an agent: a token is known to it by its SHA-256 only, which tells whose request one is and whether
it may wake anybody. All it may write are the few lines of `state` that the operator reads.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

from openclaw_operator.resources.inputs import AgentInputs
from openclaw_operator.resources.meta import (
    ACTIVATOR_API_PORT,
    ACTIVATOR_NAME,
    GATEWAY_PORT,
    MANAGED_BY,
    OPERATOR,
    Images,
    Object,
    child,
    container_security,
    field_env,
    labels,
    pod_security,
    pull_secrets,
)
from openclaw_operator.resources.secrets import encode
from openclaw_operator.resources.shared import deployment, probes, shared

NAME = ACTIVATOR_NAME
COMPONENT = "activator"
LABELS = {MANAGED_BY: OPERATOR, "app.kubernetes.io/name": COMPONENT, "app.kubernetes.io/component": COMPONENT}
AGENTS_KEY = "agents.json"
AGENTS_DIR = "/etc/openclaw/activator"
# The app.kubernetes.io/component of the ConfigMap an activator writes to.
STATE_COMPONENT = "hibernation"
# A pod that goes takes requests for so long: nodes learn of it within seconds, and where no other is ready, as when its
# node is drained, they go on sending here until the one that replaces it is.
PRE_STOP_SECONDS = 10
# Then requests that are held or under way may end: the longest wakeTimeoutSeconds, and half a minute for the answer.
GRACE_SECONDS = 630
_RESOURCES = {"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"cpu": "500m", "memory": "192Mi"}}


@dataclass(frozen=True)
class Sleeper:
    """An agent that hibernates, as the activator has to know it. `token_sha256` is in hexadecimal."""

    name: str
    token_sha256: str
    idle_seconds: int
    wake_timeout_seconds: int


def state_name(agent: str) -> str:
    """Name of the ConfigMap in which the activator says whether an agent is idle."""
    return f"{agent}-hibernation"


def state(inputs: AgentInputs) -> Object | None:
    """The ConfigMap <agent>-hibernation, None where the agent does not hibernate. Its data is the activator's."""
    if inputs.spec.gateway.hibernation is None:
        return None
    name = state_name(inputs.owner.name)
    return child("v1", "ConfigMap", name, inputs.owner, labels(inputs.owner, "gateway", STATE_COMPONENT))


def build(namespace: str, sleepers: Iterable[Sleeper], images: Images, replicas: int = 1) -> list[Object]:
    """Everything of it but its NetworkPolicy, in the order it is needed."""
    known = sorted(sleepers, key=lambda each: each.name)
    agents = {
        each.name: {
            "token_sha256": each.token_sha256,
            "idle_seconds": each.idle_seconds,
            "wake_timeout_seconds": each.wake_timeout_seconds,
        }
        for each in known
    }
    text = json.dumps({"agents": agents}, indent=2) + "\n"
    names = [state_name(each.name) for each in known]
    rule = {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": names, "verbs": ["get", "patch"]}
    # A rule that names none would be about all of them.
    rules = [rule] if names else []
    port = {"name": "api", "port": ACTIVATOR_API_PORT, "targetPort": "api", "protocol": "TCP"}
    # Headless: gateways talk to each replica, also to one that only finishes what it holds.
    service = {"type": "ClusterIP", "clusterIP": "None", "publishNotReadyAddresses": True, "selector": LABELS}
    subject = {"kind": "ServiceAccount", "name": NAME, "namespace": namespace}
    return [
        shared("v1", "ServiceAccount", NAME, namespace, LABELS, automountServiceAccountToken=False),
        shared("rbac.authorization.k8s.io/v1", "Role", NAME, namespace, LABELS, rules=rules),
        shared("v1", "Secret", NAME, namespace, LABELS, type="Opaque", data=encode({AGENTS_KEY: text.encode()})),
        shared("v1", "Service", NAME, namespace, LABELS, spec={**service, "ports": [port]}),
        shared(
            "rbac.authorization.k8s.io/v1",
            "RoleBinding",
            NAME,
            namespace,
            LABELS,
            roleRef={"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": NAME},
            subjects=[subject],
        ),
        _deployment(namespace, images, replicas),
        # One alone has to be let go, or its node could not be drained.
        *([_disruption_budget(namespace)] if replicas > 1 else ()),
    ]


def _disruption_budget(namespace: str) -> Object:
    selector = {"matchLabels": LABELS}
    spec = {"maxUnavailable": 1, "selector": selector, "unhealthyPodEvictionPolicy": "AlwaysAllow"}
    return shared("policy/v1", "PodDisruptionBudget", NAME, namespace, LABELS, spec=spec)


def _deployment(namespace: str, images: Images, replicas: int) -> Object:
    container: Object = {
        "name": "activator",
        "image": images.runtime,
        "imagePullPolicy": images.pull_policy,
        "command": ["python", "-m", "openclaw_runtime.activator"],
        "ports": [
            # Of the name and number that the Services of agents lead to.
            {"name": "http", "containerPort": GATEWAY_PORT, "protocol": "TCP"},
            {"name": "api", "containerPort": ACTIVATOR_API_PORT, "protocol": "TCP"},
        ],
        "env": [
            {"name": "OPENCLAW_ACTIVATOR_AGENTS_FILE", "value": f"{AGENTS_DIR}/{AGENTS_KEY}"},
            {"name": "OPENCLAW_ACTIVATOR_PORT", "value": str(GATEWAY_PORT)},
            {"name": "OPENCLAW_ACTIVATOR_API_PORT", "value": str(ACTIVATOR_API_PORT)},
            {"name": "OPENCLAW_ACTIVATOR_GRACE_SECONDS", "value": str(GRACE_SECONDS)},
            field_env("POD_NAMESPACE", "metadata.namespace"),
        ],
        "resources": _RESOURCES,
        "securityContext": container_security(),
        **probes(),
        "lifecycle": {"preStop": {"sleep": {"seconds": PRE_STOP_SECONDS}}},
        "volumeMounts": [{"name": "agents", "mountPath": AGENTS_DIR, "readOnly": True}],
    }
    pod: Object = {
        "serviceAccountName": NAME,
        "automountServiceAccountToken": True,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": PRE_STOP_SECONDS + GRACE_SECONDS + 10,
        "securityContext": pod_security(),
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": LABELS},
            }
        ],
        "containers": [container],
        "volumes": [{"name": "agents", "secret": {"secretName": NAME}}],
        **pull_secrets(images.pull_secrets),
    }
    return deployment(NAME, namespace, LABELS, replicas=replicas, pod=pod)

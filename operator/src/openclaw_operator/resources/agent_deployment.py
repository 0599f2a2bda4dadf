"""The gateway Deployment of an agent."""

from __future__ import annotations

from typing import Any

from openclaw_operator.api.agent import AgentSpec
from openclaw_operator.api.base import KeyRef
from openclaw_operator.api.gateway import EnvVar, Probe
from openclaw_operator.resources import agent_config, agent_models, secrets, stores
from openclaw_operator.resources.agent_identity import TOKEN_KEY, token_ref
from openclaw_operator.resources.inputs import AgentInputs
from openclaw_operator.resources.meta import (
    CONFIG_DIR,
    GATEWAY_PORT,
    MEMORY_DIR,
    SCRATCH_DIR,
    Object,
    child,
    container_security,
    digest,
    field_env,
    labels,
    pod_security,
    pull_secrets,
)

RESTART_HASH = "openclaw.io/restart-hash"
# Over what variables take from ConfigMaps: they are read once, when a container starts.
ENVIRONMENT_HASH = "openclaw.io/environment-hash"
# Who decides the number of replicas: the Agent, or a HorizontalPodAutoscaler.
SCALED_BY = "openclaw.io/scaled-by"
PRE_STOP_SECONDS = 3
_STARTUP = Probe(period_seconds=1, failure_threshold=60)


def selector(name: str) -> dict[str, str]:
    """The immutable label selector of the gateway pods of an agent."""
    return {"app.kubernetes.io/name": "gateway", "openclaw.io/agent": name}


def deployment(inputs: AgentInputs, config: dict[str, Any]) -> Object:
    """The Deployment <agent>-gateway; `config` is its rendered configuration."""
    spec, owner = inputs.spec, inputs.owner
    pod_labels = labels(owner, "gateway", "gateway")
    body: Object = {
        "revisionHistoryLimit": 3,
        "progressDeadlineSeconds": 600,
        "selector": {"matchLabels": selector(owner.name)},
        # One writer at a time on an embedded store; else never fewer pods than asked for.
        "strategy": {"type": "Recreate"}
        if inputs.embedded
        else {
            "type": "RollingUpdate",
            "rollingUpdate": spec.gateway.rollout.model_dump(by_alias=True, exclude={"paused"}),
        },
        "template": {
            "metadata": {
                "labels": pod_labels,
                "annotations": {
                    RESTART_HASH: agent_config.restart_hash(config),
                    **({ENVIRONMENT_HASH: digest(inputs.variables)} if inputs.variables else {}),
                },
            },
            "spec": _pod(inputs),
        },
    }
    if spec.gateway.rollout.paused:
        body["paused"] = True
    if not inputs.autoscaled:
        body["replicas"] = 0 if inputs.stopped else spec.gateway.replicas
    scaled_by = "autoscaler" if inputs.autoscaled else "agent"
    return child("apps/v1", "Deployment", inputs.gateway, owner, {**pod_labels, SCALED_BY: scaled_by}, spec=body)


def _pod(inputs: AgentInputs) -> Object:
    gateway = inputs.spec.gateway
    volumes, mounts = _volumes(inputs)
    pod: Object = {
        "serviceAccountName": inputs.gateway,
        "automountServiceAccountToken": True,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": PRE_STOP_SECONDS + agent_config.DRAIN_SECONDS + 7,
        "securityContext": pod_security(),
        "containers": [_container(inputs, mounts)],
        "volumes": volumes,
    }
    if gateway.node_selector:
        pod["nodeSelector"] = gateway.node_selector
    if gateway.tolerations:
        pod["tolerations"] = [item.model_dump(by_alias=True, exclude_none=True) for item in gateway.tolerations]
    affinity = gateway.affinity.model_dump(by_alias=True, exclude_none=True) if gateway.affinity else None
    if affinity:
        pod["affinity"] = affinity
    if gateway.topology_spread:
        pod["topologySpreadConstraints"] = [
            {**item.model_dump(by_alias=True), "labelSelector": {"matchLabels": selector(inputs.owner.name)}}
            for item in gateway.topology_spread
        ]
    own = (item.name for item in gateway.image_pull_secrets)
    return pod | pull_secrets((*inputs.images.pull_secrets, *own))


def _container(inputs: AgentInputs, mounts: list[Object]) -> Object:
    return {
        "name": "gateway",
        "image": inputs.images.runtime,
        "imagePullPolicy": inputs.images.pull_policy,
        "ports": [{"name": "http", "containerPort": GATEWAY_PORT, "protocol": "TCP"}],
        "env": _env(inputs),
        "resources": inputs.spec.gateway.resources.model_dump(),
        "securityContext": container_security(),
        # Up to a minute to start, asked every second.
        "startupProbe": _probe("/health", _STARTUP),
        "livenessProbe": _probe("/health", inputs.spec.gateway.probes.liveness),
        "readinessProbe": _probe("/ready", inputs.spec.gateway.probes.readiness),
        # Endpoints forget the pod before it stops taking requests.
        "lifecycle": {"preStop": {"sleep": {"seconds": PRE_STOP_SECONDS}}},
        "volumeMounts": mounts,
    }


def _probe(path: str, probe: Probe) -> Object:
    body = probe.model_dump(by_alias=True)
    if not probe.initial_delay_seconds:
        del body["initialDelaySeconds"]
    return {"httpGet": {"path": path, "port": "http", "scheme": "HTTP"}, **body}


def extra_env(spec: AgentSpec) -> list[EnvVar]:
    """The variables of spec.gateway.extraEnv that pods get: all but those that the operator sets itself."""
    taken = {item["name"] for item in _own_env(spec, data="")}
    return [item for item in spec.gateway.extra_env if item.name not in taken]


def _env(inputs: AgentInputs) -> list[Object]:
    data = agent_config.EMBEDDED_DATA_DIR if inputs.embedded else "/var/lib/openclaw"
    return [*_own_env(inputs.spec, data), *(_extra(item) for item in extra_env(inputs.spec))]


def _own_env(spec: AgentSpec, data: str) -> list[Object]:
    env: list[Object] = [
        {"name": "OPENCLAW_CONFIG_PATH", "value": f"{CONFIG_DIR}/{agent_config.CONFIG_KEY}"},
        {"name": "OPENCLAW_DATA_DIR", "value": data},
        field_env("POD_NAME", "metadata.name"),
        field_env("POD_NAMESPACE", "metadata.namespace"),
        field_env("POD_IP", "status.podIP"),
        # What a remote MCP server is not: the node's own services.
        field_env("OPENCLAW_EGRESS_NODE_ADDRESS", "status.hostIP"),
    ]
    if spec.model.provider == "local" and spec.model.base_url:
        env.append({"name": "LOCAL_LLM_URL", "value": spec.model.base_url})
    if spec.observability.traces:
        env.append({"name": "OTEL_EXPORTER_OTLP_ENDPOINT", "value": spec.observability.traces.endpoint})
    return env


def _extra(item: EnvVar) -> Object:
    source = item.value_from
    if source is None:
        return {"name": item.name, "value": item.value or ""}
    if source.secret_key_ref:
        return {"name": item.name, "valueFrom": {"secretKeyRef": source.secret_key_ref.model_dump()}}
    if source.config_map_key_ref:
        return {"name": item.name, "valueFrom": {"configMapKeyRef": source.config_map_key_ref.model_dump()}}
    return {"name": item.name, "value": ""}


def _token(inputs: AgentInputs) -> Object:
    """The Secret with the bearer token; of a user's only that key is mounted, under the name gateways know."""
    ref = token_ref(inputs.owner, inputs.spec)
    items = {"items": [{"key": ref.key, "path": TOKEN_KEY}]} if inputs.spec.gateway.auth else {}
    return {"secretName": ref.name, **items}


def _volumes(inputs: AgentInputs) -> tuple[list[Object], list[Object]]:
    """The volumes of the pod and their mounts."""
    owner, store = inputs.owner, inputs.store
    pairs: list[tuple[Object, str, bool]] = [
        ({"name": "config", "configMap": {"name": inputs.gateway}}, CONFIG_DIR, True),
        ({"name": "token", "secret": _token(inputs)}, "/etc/openclaw/token", True),
        (
            {
                "name": "sandbox",
                "secret": {
                    "secretName": secrets.SIGNING_SECRET,
                    "items": [{"key": secrets.PRIVATE_KEY, "path": secrets.PRIVATE_KEY}],
                },
            },
            "/etc/openclaw/sandbox",
            True,
        ),
        ({"name": "tmp", "emptyDir": {"sizeLimit": "256Mi"}}, SCRATCH_DIR, False),
    ]
    if store is None:
        claim = {"claimName": owner.child("workspace")}
        pairs.append(({"name": "workspace", "persistentVolumeClaim": claim}, agent_config.WORKSPACE_DIR, False))
    else:
        pairs.append(({"name": "data", "emptyDir": {"sizeLimit": "1Gi"}}, "/var/lib/openclaw", False))
        files = stores.gateway_files(store.name, store.spec)
        if files:
            sources = stores.projected(files)
            pairs.append(({"name": "memory", "projected": {"sources": sources}}, MEMORY_DIR, True))
    model_files = agent_models.files(inputs.spec.model)
    if model_files:
        sources = stores.projected(model_files)
        pairs.append(({"name": "models", "projected": {"sources": sources}}, agent_models.MODEL_SECRETS_DIR, True))
    skill_files: dict[str, KeyRef] = {
        f"{skill.name}/{name}": ref for skill in inputs.skills for name, ref in skill.secrets.items()
    }
    if skill_files:
        sources = stores.projected(skill_files)
        pairs.append(
            ({"name": "skill-secrets", "projected": {"sources": sources}}, agent_config.SKILL_SECRETS_DIR, True)
        )
    volumes = [volume for volume, _, _ in pairs]
    mounts = [
        {"name": volume["name"], "mountPath": path, **({"readOnly": True} if read_only else {})}
        for volume, path, read_only in pairs
    ]
    return volumes, mounts

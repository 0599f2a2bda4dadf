"""The managed Qdrant of a MemoryStore: https://qdrant.tech/documentation/guides/distributed_deployment/."""

from __future__ import annotations

from openclaw_operator.api.base import DeletionPolicy
from openclaw_operator.api.memorystore import ManagedQdrant
from openclaw_operator.resources import servers, stores
from openclaw_operator.resources.meta import (
    SCRATCH_DIR,
    Images,
    Object,
    Owner,
    child,
    container_security,
    labels,
    secret_env,
)
from openclaw_operator.resources.network import server_policy

SERVER = "qdrant"
USER = 1000
API_KEY = "QDRANT__SERVICE__API_KEY"
_PORTS = {"http": stores.QDRANT_PORT, "grpc": stores.QDRANT_GRPC_PORT}
_P2P = {"p2p": stores.QDRANT_P2P_PORT}


def build(owner: Owner, spec: ManagedQdrant, policy: DeletionPolicy, images: Images) -> list[Object]:
    """Services, NetworkPolicy, disruption budget and StatefulSet."""
    clustered = spec.replicas > 1
    ports = {**_PORTS, **(_P2P if clustered else {})}
    return [
        servers.service(owner, SERVER, ports, headless=True),
        servers.service(owner, SERVER, _PORTS),
        server_policy(owner, SERVER, tuple(_PORTS.values()), tuple(_P2P.values()) if clustered else ()),
        disruption_budget(owner),
        _stateful_set(owner, spec, policy, images, clustered=clustered),
    ]


def disruption_budget(owner: Owner) -> Object:
    """One node may be away at a time."""
    return child(
        "policy/v1",
        "PodDisruptionBudget",
        owner.child(SERVER),
        owner,
        labels(owner, SERVER, "memory"),
        spec={"maxUnavailable": 1, "selector": {"matchLabels": servers.selector(owner, SERVER)}},
    )


def server(spec: ManagedQdrant, images: Images, api_key: Object, *, clustered: bool = False) -> Object:
    """The container of a node, with its data on the volume `data`; `api_key` is the variable that tells it."""
    env: list[Object] = [
        api_key,
        {"name": "QDRANT__STORAGE__STORAGE_PATH", "value": "/qdrant/storage"},
        {"name": "QDRANT__STORAGE__SNAPSHOTS_PATH", "value": "/qdrant/storage/snapshots"},
        {"name": "QDRANT__STORAGE__TEMP_PATH", "value": "/qdrant/storage/temp"},
        {"name": "QDRANT_INIT_FILE_PATH", "value": "/qdrant/storage/.qdrant-initialized"},
        {"name": "QDRANT__TELEMETRY_DISABLED", "value": "true"},
    ]
    if clustered:
        env.append({"name": "QDRANT__CLUSTER__ENABLED", "value": "true"})
    return {
        "name": SERVER,
        "image": spec.image or images.qdrant,
        "imagePullPolicy": images.pull_policy,
        "ports": [
            {"name": name, "containerPort": port, "protocol": "TCP"}
            for name, port in {**_PORTS, **(_P2P if clustered else {})}.items()
        ],
        "env": env,
        "resources": spec.resources.model_dump(),
        "securityContext": container_security(),
        "startupProbe": _probe("/readyz", period=2, failures=150),
        "livenessProbe": _probe("/livez", period=10, failures=6),
        "readinessProbe": _probe("/readyz", period=5, failures=3),
        "volumeMounts": [{"name": "data", "mountPath": "/qdrant/storage"}],
    }


def _stateful_set(
    owner: Owner, spec: ManagedQdrant, policy: DeletionPolicy, images: Images, *, clustered: bool
) -> Object:
    key = secret_env(API_KEY, stores.credentials_secret(owner.name), stores.QDRANT_KEY)
    container = server(spec, images, key, clustered=clustered)
    if clustered:
        container["command"] = ["/bin/sh", "-c", _start_script(owner)]
    return servers.stateful_set(
        owner,
        SERVER,
        container,
        images=images,
        user=USER,
        replicas=spec.replicas,
        storage=spec.storage,
        deletion_policy=policy,
        service_name=owner.child(f"{SERVER}-headless"),
        scratch=(SCRATCH_DIR,),
    )


def _start_script(owner: Owner) -> str:
    """The first node starts the cluster, the others join it."""
    headless = owner.child(f"{SERVER}-headless")
    first = f"http://{owner.child(SERVER)}-0.{headless}:{stores.QDRANT_P2P_PORT}"
    own = f"http://$HOSTNAME.{headless}:{stores.QDRANT_P2P_PORT}"
    return (
        'case "$HOSTNAME" in '
        f'*-0) exec ./entrypoint.sh --uri "{own}" ;; '
        f'*) exec ./entrypoint.sh --bootstrap "{first}" --uri "{own}" ;; '
        "esac"
    )


def _probe(path: str, *, period: int, failures: int) -> Object:
    return {
        "httpGet": {"path": path, "port": "http", "scheme": "HTTP"},
        "periodSeconds": period,
        "timeoutSeconds": 3,
        "failureThreshold": failures,
    }

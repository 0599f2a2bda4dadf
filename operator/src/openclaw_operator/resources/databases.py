"""The managed PostgreSQL and Redis of a MemoryStore."""

from __future__ import annotations

from openclaw_operator.api.base import DeletionPolicy
from openclaw_operator.api.memorystore import ManagedServer
from openclaw_operator.resources import servers, stores
from openclaw_operator.resources.meta import (
    MEMORY_DIR,
    SCRATCH_DIR,
    Images,
    Object,
    Owner,
    container_security,
    secret_env,
)
from openclaw_operator.resources.network import server_policy

POSTGRESQL, REDIS = "postgresql", "redis"
USER = 999
# What its server writes to beside its data.
POSTGRESQL_SCRATCH = ("/var/run/postgresql", SCRATCH_DIR)


def postgresql_server(spec: ManagedServer, images: Images, password: Object, *mounts: Object) -> Object:
    """The container of PostgreSQL, with its data on the volume `data`; `password` is the variable that tells it."""
    return {
        "name": POSTGRESQL,
        "image": spec.image or images.postgresql,
        "imagePullPolicy": images.pull_policy,
        "ports": [{"name": POSTGRESQL, "containerPort": stores.POSTGRESQL_PORT, "protocol": "TCP"}],
        "env": [
            {"name": "POSTGRES_USER", "value": stores.DATABASE},
            {"name": "POSTGRES_DB", "value": stores.DATABASE},
            password,
            # A folder of its own: the root of a volume may hold lost+found.
            {"name": "PGDATA", "value": "/var/lib/postgresql/data/pgdata"},
        ],
        "resources": spec.resources.model_dump(),
        "securityContext": container_security(),
        **_probes(
            {"exec": {"command": ["pg_isready", "-h", "127.0.0.1", "-U", stores.DATABASE, "-d", stores.DATABASE]}}
        ),
        "volumeMounts": [{"name": "data", "mountPath": "/var/lib/postgresql/data"}, *mounts],
    }


def postgresql(owner: Owner, spec: ManagedServer, policy: DeletionPolicy, images: Images) -> list[Object]:
    """Service, NetworkPolicy and StatefulSet of PostgreSQL."""
    secret = stores.credentials_secret(owner.name)
    container = postgresql_server(
        spec,
        images,
        {"name": "POSTGRES_PASSWORD_FILE", "value": f"{MEMORY_DIR}/{stores.POSTGRESQL_KEY}"},
        {"name": "credentials", "mountPath": MEMORY_DIR, "readOnly": True},
    )
    item = {"key": stores.POSTGRESQL_KEY, "path": stores.POSTGRESQL_KEY}
    credentials: Object = {"name": "credentials", "secret": {"secretName": secret, "items": [item]}}
    return [
        servers.service(owner, POSTGRESQL, {POSTGRESQL: stores.POSTGRESQL_PORT}),
        server_policy(owner, POSTGRESQL, (stores.POSTGRESQL_PORT,)),
        servers.stateful_set(
            owner,
            POSTGRESQL,
            container,
            images=images,
            user=USER,
            replicas=1,
            storage=spec.storage,
            deletion_policy=policy,
            scratch=POSTGRESQL_SCRATCH,
            volumes=(credentials,),
            grace_seconds=60,
        ),
    ]


def redis(owner: Owner, spec: ManagedServer, policy: DeletionPolicy, images: Images) -> list[Object]:
    """Service, NetworkPolicy and StatefulSet of Redis; nothing is evicted, for it carries messages."""
    container: Object = {
        "name": REDIS,
        "image": spec.image or images.redis,
        "imagePullPolicy": images.pull_policy,
        "args": [
            "redis-server",
            "--dir",
            "/data",
            "--appendonly",
            "yes",
            "--maxmemory-policy",
            "noeviction",
            "--requirepass",
            "$(REDIS_PASSWORD)",
        ],
        "ports": [{"name": REDIS, "containerPort": stores.REDIS_PORT, "protocol": "TCP"}],
        "env": [secret_env("REDIS_PASSWORD", stores.credentials_secret(owner.name), stores.REDIS_KEY)],
        "resources": spec.resources.model_dump(),
        "securityContext": container_security(),
        **_probes({"tcpSocket": {"port": REDIS}}),
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    }
    return [
        servers.service(owner, REDIS, {REDIS: stores.REDIS_PORT}),
        server_policy(owner, REDIS, (stores.REDIS_PORT,)),
        servers.stateful_set(
            owner,
            REDIS,
            container,
            images=images,
            user=USER,
            replicas=1,
            storage=spec.storage,
            deletion_policy=policy,
            scratch=(SCRATCH_DIR,),
        ),
    ]


def _probes(check: Object) -> Object:
    return {
        "startupProbe": {**check, "periodSeconds": 2, "timeoutSeconds": 3, "failureThreshold": 150},
        "livenessProbe": {**check, "periodSeconds": 10, "timeoutSeconds": 5, "failureThreshold": 6},
        "readinessProbe": {**check, "periodSeconds": 5, "timeoutSeconds": 3, "failureThreshold": 3},
    }

"""What the managed servers of a MemoryStore share: StatefulSet, Services and probes."""

from __future__ import annotations

from openclaw_operator.api.base import DeletionPolicy
from openclaw_operator.api.memorystore import Storage
from openclaw_operator.resources.meta import (
    Images,
    Object,
    Owner,
    child,
    labels,
    pod_security,
    pull_secrets,
    pvc_spec,
)


def selector(owner: Owner, server: str) -> dict[str, str]:
    """The immutable label selector of a server's pods."""
    return {"app.kubernetes.io/name": server, owner.label: owner.name}


def service(owner: Owner, server: str, ports: dict[str, int], *, headless: bool = False) -> Object:
    """The client Service <store>-<server>, or <store>-<server>-headless for the members of a cluster."""
    spec: Object = {
        "selector": selector(owner, server),
        "ports": [{"name": name, "port": port, "targetPort": name, "protocol": "TCP"} for name, port in ports.items()],
    }
    if headless:
        # Members find each other before they are ready.
        spec |= {"clusterIP": "None", "publishNotReadyAddresses": True}
    name = owner.child(f"{server}-headless" if headless else server)
    return child("v1", "Service", name, owner, labels(owner, server, "memory"), spec=spec)


def stateful_set(
    owner: Owner,
    server: str,
    container: Object,
    *,
    images: Images,
    user: int,
    replicas: int,
    storage: Storage,
    deletion_policy: DeletionPolicy,
    scratch: tuple[str, ...] = (),
    volumes: tuple[Object, ...] = (),
    service_name: str | None = None,
    grace_seconds: int = 30,
) -> Object:
    """The StatefulSet <store>-<server>. `container` mounts the volume `data`; `scratch` are paths it may write to."""
    child_labels = labels(owner, server, "memory")
    scratch_volumes = [{"name": f"scratch-{index}", "emptyDir": {}} for index, _ in enumerate(scratch)]
    mounts = [
        *container["volumeMounts"],
        *({"name": f"scratch-{index}", "mountPath": path} for index, path in enumerate(scratch)),
    ]
    claim_labels = {
        **selector(owner, server),
        "app.kubernetes.io/managed-by": child_labels["app.kubernetes.io/managed-by"],
    }
    return child(
        "apps/v1",
        "StatefulSet",
        owner.child(server),
        owner,
        child_labels,
        spec={
            "replicas": replicas,
            "serviceName": service_name or owner.child(server),
            "podManagementPolicy": "Parallel",
            "revisionHistoryLimit": 3,
            "selector": {"matchLabels": selector(owner, server)},
            "persistentVolumeClaimRetentionPolicy": {"whenDeleted": deletion_policy, "whenScaled": "Retain"},
            "template": {
                "metadata": {"labels": child_labels},
                "spec": {
                    "automountServiceAccountToken": False,
                    "enableServiceLinks": False,
                    "terminationGracePeriodSeconds": grace_seconds,
                    "securityContext": pod_security(user),
                    "containers": [{**container, "volumeMounts": mounts}],
                    "volumes": [*volumes, *scratch_volumes],
                    **pull_secrets(images.pull_secrets),
                },
            },
            "volumeClaimTemplates": [
                {
                    "metadata": {"name": "data", "labels": claim_labels},
                    "spec": pvc_spec(storage.size, storage.storage_class_name),
                }
            ],
        },
    )

"""What all children have in common: names, labels, owner references and the hash of what was applied."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from openclaw_operator import jsonyaml
from openclaw_operator.api import API_VERSION

Object = dict[str, Any]
MANAGED_BY = "app.kubernetes.io/managed-by"
OPERATOR = "openclaw-operator"
APPLIED_HASH = "openclaw.io/applied-hash"
POOL_LABEL = "openclaw.io/pool"
# On sandbox pods: none, or proxied where the egress proxy may be reached.
EGRESS_LABEL = "openclaw.io/egress"
EGRESS_NAME = "openclaw-egress"
CONFIG_DIR = "/etc/openclaw/config"
MEMORY_DIR = "/etc/openclaw/memory"
# Inside a pod, on an emptyDir of its own.
SCRATCH_DIR = "/tmp"  # noqa: S108
GATEWAY_PORT = 7456
SANDBOX_PORT = 7460
EGRESS_PORT = 3128
EGRESS_API_PORT = 7470
ACTIVATOR_NAME = "openclaw-activator"
ACTIVATOR_API_PORT = 7471
# Namespaces from which metrics are scraped, where nobody says others.
MONITORING = ("monitoring",)
# The user of every image of the project.
USER_ID = 10001


@dataclass(frozen=True)
class Owner:
    """The resource that children belong to."""

    kind: str
    name: str
    namespace: str
    uid: str

    def child(self, suffix: str) -> str:
        """The name of a child."""
        return f"{self.name}-{suffix}"

    @property
    def label(self) -> str:
        """The label that names the owner on its children."""
        return f"openclaw.io/{self.kind.lower()}"


@dataclass(frozen=True)
class Images:
    """Images and how they are pulled, from the operator's settings: `pull_secrets` are in each namespace of pods."""

    runtime: str
    sandbox: str
    sandbox_node: str
    qdrant: str
    postgresql: str
    redis: str
    backup: str
    pull_policy: str
    pull_secrets: tuple[str, ...] = ()


def owner_reference(owner: Owner) -> Object:
    """The controller reference to `owner`; the garbage collector removes the child with it."""
    return {
        "apiVersion": API_VERSION,
        "kind": owner.kind,
        "name": owner.name,
        "uid": owner.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }


def labels(owner: Owner, name: str, component: str) -> dict[str, str]:
    """The labels of a child; `name` is what it is (gateway, qdrant, ...), `component` the part it plays."""
    return {
        MANAGED_BY: OPERATOR,
        "app.kubernetes.io/name": name,
        "app.kubernetes.io/instance": owner.name,
        "app.kubernetes.io/component": component,
        owner.label: owner.name,
    }


def child(
    api_version: str,
    kind: str,
    name: str,
    owner: Owner,
    child_labels: dict[str, str],
    *,
    owned: bool = True,
    annotations: dict[str, str] | None = None,
    **body: Any,
) -> Object:
    """A child object of `owner`, in its namespace. `owned=False` leaves it behind when the owner goes."""
    metadata: Object = {"name": name, "namespace": owner.namespace, "labels": child_labels}
    if annotations:
        metadata["annotations"] = annotations
    if owned:
        metadata["ownerReferences"] = [owner_reference(owner)]
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **body}


def digest(value: object) -> str:
    """A short stable hash of JSON data."""
    text = jsonyaml.ascii_only(value, sort_keys=True)
    if text is None:
        text = json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
    return hashlib.sha256(text).hexdigest()[:16]


def pod_security(user: int = USER_ID) -> Object:
    """Pod security context of profile restricted: https://kubernetes.io/docs/concepts/security/pod-security-standards/."""
    return {
        "runAsNonRoot": True,
        "runAsUser": user,
        "runAsGroup": user,
        "fsGroup": user,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def pull_secrets(names: Iterable[str]) -> Object:
    """The field of a pod that names what its images are pulled with; left out where there is nothing to name."""
    references = [{"name": name} for name in dict.fromkeys(names)]
    return {"imagePullSecrets": references} if references else {}


def container_security() -> Object:
    """Container security context of profile restricted, with a read-only root."""
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def field_env(name: str, path: str) -> Object:
    """An environment variable from a field of the pod."""
    return {"name": name, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}}


def secret_env(name: str, secret: str, key: str) -> Object:
    """An environment variable from a key of a Secret."""
    return {"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}}


def pvc_spec(size: str | int, storage_class: str | None, access_mode: str = "ReadWriteOnce") -> Object:
    """The spec of a PersistentVolumeClaim."""
    spec: Object = {"accessModes": [access_mode], "resources": {"requests": {"storage": size}}}
    if storage_class is not None:
        spec["storageClassName"] = storage_class
    return spec

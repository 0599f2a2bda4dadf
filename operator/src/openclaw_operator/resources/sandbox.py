"""A sandbox pod: warm, empty-handed, good for one call, or for the calls of one session's skill."""

from __future__ import annotations

from openclaw_operator.resources.agent_config import EMBEDDED_DATA_DIR, WORKSPACE_DIR
from openclaw_operator.resources.meta import (
    EGRESS_LABEL,
    MANAGED_BY,
    OPERATOR,
    POOL_LABEL,
    SANDBOX_PORT,
    SCRATCH_DIR,
    Object,
    container_security,
    field_env,
    pod_security,
    pull_secrets,
)
from openclaw_operator.resources.pool import PoolShape

WORKSPACE_LABEL = "openclaw.io/workspace"
# Which signing key the pod believes in; pods of an older key are replaced.
SIGNING_LABEL = "openclaw.io/signing-key"
SUFFIX_LENGTH = 5
# How long a call that runs may go on once its pod is deleted. A pod without one ends at once.
CALL_GRACE_SECONDS = 30
SCRATCH_SIZE = "256Mi"
# In a skill's own image: where the runner is, and where the container that copies it sees the same volume.
RUNNER_DIR = "/opt/openclaw"
RUNNER_DIR_OF_COPY = "/runner"
RUNNER_SIZE = "256Mi"
# What skills see in place of the gateway's own data: a folder in it that stays empty. An emptyDir would do, but for a
# pod that comes before its gateway: the container runtime would make the folder to mount it on, and make it root's, so
# that the gateway could not write to it. The folder of a subPath is made by the kubelet, with the mode of the volume.
NOTHING_SUBPATH = f"{EMBEDDED_DATA_DIR.removeprefix(WORKSPACE_DIR + '/')}/nothing"
RUNNER_MODULE = "openclaw_runtime.sandbox.runner"


def pod_name(pool: str, suffix: str) -> str:
    """Name of a sandbox pod; `suffix` is random, of SUFFIX_LENGTH lower-case letters and digits."""
    return f"sandbox-{pool}-{suffix}"


def _runtime_env(shape: PoolShape) -> list[Object]:
    """What a runner of anything but the standard image has to know."""
    values: dict[str, str] = {}
    if shape.runtime != "python":
        values["OPENCLAW_SANDBOX_RUNTIME"] = shape.runtime
    if shape.allowances:
        values["OPENCLAW_SANDBOX_ALLOWANCES"] = ",".join(shape.allowances)
    memory = shape.container_resources().get("limits", {}).get("memory")
    if shape.runtime == "node" and memory:
        # Of all programs only its own heap is sized before the call comes that says what it may use.
        values["OPENCLAW_SANDBOX_MEMORY"] = str(memory)
    if shape.runner_image:
        values["PYTHONPATH"] = f"{RUNNER_DIR}/packages"
    return [{"name": name, "value": value} for name, value in values.items()]


def pod(namespace: str, shape: PoolShape, suffix: str, public_keys: str, signing: str, pull_policy: str) -> Object:
    """The pod; `public_keys` are base64 and comma separated: whose calls it takes. `signing` labels them."""
    pool = shape.id
    labels = {
        MANAGED_BY: OPERATOR,
        "app.kubernetes.io/name": "sandbox",
        "app.kubernetes.io/instance": pool,
        "app.kubernetes.io/component": "sandbox",
        POOL_LABEL: pool,
        EGRESS_LABEL: shape.egress,
        SIGNING_LABEL: signing,
    }
    # In memory, because only there the size is a wall: on the node's disk the kubelet looks now and then, evicts a pod
    # long after, and does not see files that were deleted while they are open.
    volumes: list[Object] = [{"name": "tmp", "emptyDir": {"medium": "Memory", "sizeLimit": SCRATCH_SIZE}}]
    mounts: list[Object] = [{"name": "tmp", "mountPath": SCRATCH_DIR}]
    spec: Object = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": CALL_GRACE_SECONDS,
        "securityContext": pod_security(),
        **pull_secrets(shape.pull_secrets),
    }
    if shape.runtime_class:
        spec["runtimeClassName"] = shape.runtime_class
    if shape.claim:
        labels[WORKSPACE_LABEL] = shape.claim
        read_only = {"readOnly": True} if shape.mode == "ro" else {}
        # The kubelet makes the folder of a subPath, for which the volume itself has to be writable.
        claim_read_only = {} if shape.embedded else read_only
        volumes.append({"name": "workspace", "persistentVolumeClaim": {"claimName": shape.claim, **claim_read_only}})
        mounts.append({"name": "workspace", "mountPath": WORKSPACE_DIR, **read_only})
        if shape.embedded:
            mounts.append(
                {"name": "workspace", "mountPath": EMBEDDED_DATA_DIR, "subPath": NOTHING_SUBPATH, "readOnly": True}
            )
        # A ReadWriteOnce volume is on one node: pods elsewhere could not mount it.
        term = {"labelSelector": {"matchLabels": {WORKSPACE_LABEL: shape.claim}}}
        preferred = {"weight": 100, "podAffinityTerm": {**term, "topologyKey": "kubernetes.io/hostname"}}
        spec["affinity"] = {"podAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [preferred]}}
    own_image: Object = {}
    if shape.runner_image:
        volumes.append({"name": "runner", "emptyDir": {"sizeLimit": RUNNER_SIZE}})
        mounts.append({"name": "runner", "mountPath": RUNNER_DIR, "readOnly": True})
        own_image = {"command": [f"{RUNNER_DIR}/bin/python3", "-m", RUNNER_MODULE], "workingDir": SCRATCH_DIR}
        spec["initContainers"] = [
            {
                "name": "runner",
                "image": shape.runner_image,
                "imagePullPolicy": pull_policy,
                "command": ["python", "-m", "openclaw_runtime.sandbox.portable", RUNNER_DIR_OF_COPY],
                "resources": shape.container_resources(),
                "securityContext": container_security(),
                "volumeMounts": [{"name": "runner", "mountPath": RUNNER_DIR_OF_COPY}],
            }
        ]
    spec["containers"] = [
        {
            "name": "sandbox",
            "image": shape.image,
            **own_image,
            "imagePullPolicy": pull_policy,
            "ports": [{"name": "call", "containerPort": SANDBOX_PORT, "protocol": "TCP"}],
            "env": [
                {"name": "OPENCLAW_SANDBOX_PUBLIC_KEYS", "value": public_keys},
                {"name": "OPENCLAW_SANDBOX_PORT", "value": str(SANDBOX_PORT)},
                *([{"name": "OPENCLAW_SANDBOX_LEVEL", "value": "restricted"}] if shape.leased else []),
                field_env("POD_NAME", "metadata.name"),
                field_env("POD_UID", "metadata.uid"),
                field_env("POD_NAMESPACE", "metadata.namespace"),
                *_runtime_env(shape),
            ],
            "resources": shape.container_resources(),
            "securityContext": container_security(),
            # That a call took the pod shows in its readiness. Until then it counts as waiting, and may be deleted.
            "readinessProbe": {
                "httpGet": {"path": "/ready", "port": "call"},
                "periodSeconds": 1,
                "failureThreshold": 1,
            },
            "volumeMounts": mounts,
        }
    ]
    spec["volumes"] = volumes
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": pod_name(pool, suffix), "namespace": namespace, "labels": labels},
        "spec": spec,
    }

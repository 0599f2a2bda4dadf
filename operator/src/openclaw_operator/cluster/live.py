"""What is remembered of a child object: enough to decide, and no more.

A thousand agents have ten thousand children. Keeping them as parsed objects would take hundreds of megabytes, so an
object is kept as its identity, a few facts of its status, a fingerprint of everything else, and the stripped JSON only
until it has once been found to be as desired.
"""

from __future__ import annotations

import base64
import hashlib
import zlib
from dataclasses import dataclass, field
from datetime import datetime
from sys import intern
from typing import Any

import orjson

from openclaw_operator.cluster.client import FIELD_MANAGER, Object
from openclaw_operator.cluster.kinds import Kind

APPLIED_HASH = "openclaw.io/applied-hash"
# What controllers note down on objects once they have seen them. Nothing is decided by it.
_BOOKKEEPING = ("deployment.kubernetes.io/", "pv.kubernetes.io/", "volume.kubernetes.io/", "volume.beta.kubernetes.io/")
# https://github.com/kubernetes/kubernetes/blob/master/pkg/kubelet/images/types.go
IMAGE_REASONS = frozenset(
    {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError"}
)
IMAGE_PULL_FAILED = "ImagePullFailed"
CRASH_LOOP = "CrashLoopBackOff"
# On the Secret of a signing key.
_ROTATION_ANNOTATIONS = frozenset({"openclaw.io/rotate", "openclaw.io/rotated", "openclaw.io/signs-since"})
# In the ConfigMap of an egress proxy: the keys it goes by.
PUBLIC_KEYS = "public.keys"
_NAME, _COMPONENT = "app.kubernetes.io/name", "app.kubernetes.io/component"
# By the scheduler, on a claim whose volume is to be made where the pod will run: the pod waits, and says nothing.
_PLACED = "volume.kubernetes.io/selected-node"
# Their values, and whatever else the children of an agent have in common, are kept once, not once for each child.
_OUR_LABELS = ("openclaw.io/", "app.kubernetes.io/")
_VOLATILE_META = frozenset({"resourceVersion", "generation", "managedFields", "creationTimestamp", "selfLink"})


@dataclass(frozen=True, slots=True)
class Owner:
    """The controller of an object."""

    kind: str
    name: str
    uid: str


@dataclass(slots=True)
class Live:
    """One child object as last seen."""

    kind: str
    namespace: str
    name: str
    uid: str
    resource_version: str
    created: str
    deleting: bool
    owner: Owner | None
    labels: dict[str, str]
    applied_hash: str | None
    facts: dict[str, Any]
    fingerprint: bytes
    content: bytes | None
    # Hash of the desired object this one was found to contain.
    verified: str | None = field(default=None)
    packed: bool = field(default=False)

    def tells_the_same(self, other: Live) -> bool:
        """Whether nothing that a reconcile looks at differs: other parts of the status, or bookkeeping."""
        return self.uid == other.uid and self.fingerprint == other.fingerprint and self.facts == other.facts

    def pack(self) -> None:
        """Keep the content in half the room: after a start everything there is waits to be compared."""
        if self.content is not None and not self.packed:
            self.content, self.packed = zlib.compress(self.content, level=1), True

    def stripped(self) -> Object:
        """The object without what never matters; only while it has not been verified."""
        if self.content is None:
            raise RuntimeError(f"{self.kind} {self.namespace}/{self.name}: content was dropped")
        result: Object = orjson.loads(zlib.decompress(self.content) if self.packed else self.content)
        return result


def newer(candidate: str, than: str) -> bool:
    """Whether a resource version is newer; they are comparable numbers since Kubernetes 1.35 (KEP-5504), and were."""
    return int(candidate) > int(than)


def observe(kind: Kind, item: Object) -> Live:
    """Condense an object of the API server."""
    meta = item["metadata"]
    stripped = strip(kind.name, item)
    content = orjson.dumps(stripped, option=orjson.OPT_SORT_KEYS)
    labels = meta.get("labels") or {}
    return Live(
        kind=kind.name,
        namespace=intern(meta["namespace"]),
        name=meta["name"],
        uid=meta["uid"],
        resource_version=meta["resourceVersion"],
        created=meta["creationTimestamp"],
        deleting="deletionTimestamp" in meta,
        owner=_owner(meta),
        labels={key: intern(value) for key, value in labels.items() if key.startswith(_OUR_LABELS)},
        applied_hash=(meta.get("annotations") or {}).get(APPLIED_HASH),
        facts=_facts(kind.name, item),
        fingerprint=hashlib.blake2b(content, digest_size=12).digest(),
        content=content,
    )


def strip(kind: str, item: Object) -> Object:
    """The part of an object that the operator decides: no status, no bookkeeping, values of Secrets left out."""
    meta = {key: value for key, value in item["metadata"].items() if key not in _VOLATILE_META}
    result = {key: value for key, value in item.items() if key not in ("status", "metadata", "apiVersion", "kind")}
    if meta.get("annotations"):
        meta["annotations"] = {
            key: value for key, value in meta["annotations"].items() if not key.startswith(_BOOKKEEPING)
        }
    result["metadata"] = meta
    if kind == "Secret":
        result["data"] = {key: bool(value) for key, value in (item.get("data") or {}).items()}
    if item.get("binaryData"):
        result["binaryData"] = {
            key: hashlib.sha256(value.encode()).hexdigest() for key, value in item["binaryData"].items()
        }
    return result


def _owner(meta: Object) -> Owner | None:
    for reference in meta.get("ownerReferences") or ():
        if reference.get("controller"):
            return Owner(*(intern(reference[key]) for key in ("kind", "name", "uid")))
    return None


def _facts(kind: str, item: Object) -> dict[str, Any]:
    status, data = item.get("status") or {}, item.get("data") or {}
    if kind in ("Deployment", "StatefulSet"):
        meta, spec = item["metadata"], item["spec"]
        return {
            "wanted": spec.get("replicas", 1),
            "replicas": status.get("replicas", 0),
            "ready": status.get("readyReplicas", 0),
            "updated": status.get("updatedReplicas", 0),
            "current": status.get("observedGeneration", 0) >= meta.get("generation", 0),
            "problem": _problem(status),
        }
    if kind == "Pod":
        ready: Object = next((each for each in status.get("conditions") or () if each["type"] == "Ready"), {})
        return {
            "phase": status.get("phase", "Pending"),
            "ready": ready.get("status") == "True",
            "was_ready": ready.get("status") == "True" or _lost_readiness(status, ready),
            "problem": pod_problem(status),
            "scheduled": any(
                each["type"] == "PodScheduled" and each["status"] == "True" for each in status.get("conditions") or ()
            ),
        }
    if kind == "PersistentVolumeClaim":
        spec = item["spec"]
        return {
            "class": spec.get("storageClassName"),
            "class_applied": _holds_class(item["metadata"]),
            "modes": spec.get("accessModes") or [],
            "bound": bool(spec.get("volumeName")),
            "placed": _PLACED in (item["metadata"].get("annotations") or {}),
        }
    if kind == "CronJob":
        return {
            "scheduled": _unix_seconds(status.get("lastScheduleTime")),
            "succeeded": _unix_seconds(status.get("lastSuccessfulTime")),
            "running": bool(status.get("active")),
            "suspended": bool(item["spec"].get("suspend")),
        }
    if kind == "Job":
        ended = {each["type"]: each for each in status.get("conditions") or () if each["status"] == "True"}
        failed = ended.get("Failed")
        return {
            "complete": "Complete" in ended,
            "failed": str(failed.get("message") or failed.get("reason") or "it failed") if failed else None,
        }
    if kind == "Service":
        return {"selects": ((item.get("spec") or {}).get("selector") or {}).get(_NAME)}
    if kind == "ConfigMap":
        if (item["metadata"].get("labels") or {}).get(_COMPONENT) == "hibernation":
            return dict(data)
        return {"public_keys": data[PUBLIC_KEYS], "written": _written(item)} if PUBLIC_KEYS in data else {}
    if kind == "Secret":
        facts: dict[str, Any] = {"keys": sorted(key for key, value in data.items() if value)}
        if data.get("token"):
            facts["token_sha256"] = hashlib.sha256(base64.b64decode(data["token"])).hexdigest()
        if "public.key" in data:
            facts |= {key: value for key, value in data.items() if key.endswith(("public.key", "public.keys"))}
            facts |= {
                key: value
                for key, value in (item["metadata"].get("annotations") or {}).items()
                if key in _ROTATION_ANNOTATIONS
            }
        return facts
    return {}


def pod_problem(status: Object) -> tuple[str, str] | None:
    """What keeps a pod from running, in the scheduler's or the kubelet's words: reason and message."""
    for condition in status.get("conditions") or ():
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return str(condition.get("reason", "Unschedulable")), str(condition.get("message", ""))
    for container in (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())):
        state = container.get("state") or {}
        waiting, ended = state.get("waiting") or {}, state.get("terminated") or {}
        reason = str(waiting.get("reason", ""))
        if reason in IMAGE_REASONS:
            # The kubelet's message changes with each try; what does not is which image it is.
            return IMAGE_PULL_FAILED, str(container.get("image", ""))
        if reason == CRASH_LOOP:
            # Its message counts the seconds until the next start.
            return reason, exit_text((container.get("lastState") or {}).get("terminated") or {})
        if waiting.get("message"):
            return reason, str(waiting["message"])
        if ended.get("exitCode"):
            return "Ended", exit_text(ended)
    if status.get("phase") == "Failed":
        return "Ended", f"{status.get('reason', 'Failed')}: {status.get('message', '')}".rstrip(": ")
    return None


def exit_text(ended: Object) -> str:
    """How a container ended."""
    return f"exit code {ended.get('exitCode', 0)}, {ended.get('reason', 'Error')}"


def _holds_class(meta: Object) -> bool:
    """Whether the operator asked for the storage class of a claim; else it is a default."""
    return any(
        entry.get("manager") == FIELD_MANAGER
        and entry.get("operation") == "Apply"
        and "f:storageClassName" in entry.get("fieldsV1", {}).get("f:spec", {})
        for entry in meta.get("managedFields") or ()
    )


def _written(item: Object) -> str:
    """When the API server was last given the content of a ConfigMap with keys."""
    meta = item["metadata"]
    times = [
        str(entry["time"])
        for entry in meta.get("managedFields") or ()
        if f"f:{PUBLIC_KEYS}" in entry.get("fieldsV1", {}).get("f:data", {}) and entry.get("time")
    ]
    return max(times, default=str(meta["creationTimestamp"]))


def _lost_readiness(status: Object, ready: Object) -> bool:
    """Whether a pod that is not ready has been: it turned so only after its container had started."""
    turned = ready.get("lastTransitionTime")
    states = [container.get("state") or {} for container in status.get("containerStatuses") or ()]
    started = [(state.get("running") or state.get("terminated") or {}).get("startedAt") for state in states]
    # Both are of whole seconds in UTC, written alike. Where they are equal nothing is known.
    return bool(turned) and bool(started) and all(time and time < turned for time in started)


def _unix_seconds(time: str | None) -> float | None:
    return datetime.fromisoformat(time).timestamp() if time else None


def _problem(status: Object) -> str | None:
    """Why a workload cannot make progress, in the controller's words."""
    for condition in status.get("conditions") or ():
        failed = condition["type"] == "ReplicaFailure" and condition["status"] == "True"
        if failed or condition.get("reason") == "ProgressDeadlineExceeded":
            return str(condition.get("message", condition.get("reason", "")))
    return None

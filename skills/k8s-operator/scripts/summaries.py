"""Objects in a few lines: what a person looks at first."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

_FACTORS = {
    "n": 1e-9, "u": 1e-6, "m": 1e-3, "": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18,
    "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40, "Pi": 2.0**50, "Ei": 2.0**60,
}  # fmt: skip


def quantity(text: str) -> float:
    """Returns a Kubernetes quantity (250m, 1.5Gi, 2e3) as a number."""
    for size in (2, 1):
        if text[-size:] in _FACTORS and len(text) > size:
            return float(text[:-size]) * _FACTORS[text[-size:]]
    return float(text)


def age(created: str | None, now: datetime) -> str:
    """Returns how old something is: 45s, 12m, 5h, 3d."""
    if not created:
        return ""
    seconds = max(int((now - datetime.fromisoformat(created)).total_seconds()), 0)
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def line(item: dict[str, Any], now: datetime) -> dict[str, Any]:
    """Returns an object as one row of a list."""
    metadata = item.get("metadata", {})
    return {
        "name": metadata.get("name", ""),
        "namespace": metadata.get("namespace"),
        "age": age(metadata.get("creationTimestamp"), now),
        "status": status(item),
    }


def status(item: dict[str, Any]) -> str:
    """Returns the state of an object in a few words."""
    state = item.get("status") or {}
    if item.get("metadata", {}).get("deletionTimestamp"):
        return "Terminating"
    if "containerStatuses" in state or state.get("phase") in {"Pending", "Running", "Succeeded", "Failed"}:
        return _pod(state)
    if "replicas" in (item.get("spec") or {}):
        return f"{state.get('readyReplicas', 0)}/{item['spec']['replicas']} ready"
    if "numberReady" in state:
        return f"{state['numberReady']}/{state.get('desiredNumberScheduled', 0)} ready"
    if "phase" in state:
        return str(state["phase"])
    conditions = {c.get("type"): c for c in state.get("conditions") or []}
    for kind in ("Ready", "Complete", "Failed", "Available"):
        if kind in conditions and (kind == "Ready" or conditions[kind].get("status") == "True"):
            true = conditions[kind].get("status") == "True"
            return kind if true else f"not {kind}: {conditions[kind].get('reason', '')}"
    return ""


def _pod(state: dict[str, Any]) -> str:
    containers = state.get("containerStatuses") or []
    ready = sum(bool(c.get("ready")) for c in containers)
    restarts = sum(c.get("restartCount", 0) for c in containers)
    reason = state.get("reason") or state.get("phase", "Unknown")
    for container in [*(state.get("initContainerStatuses") or []), *containers]:
        current = container.get("state") or {}
        waiting = current.get("waiting") or {}
        ended = current.get("terminated") or {}
        if waiting.get("reason") not in {None, "PodInitializing", "ContainerCreating"}:
            reason = waiting["reason"]
        elif ended and ended.get("exitCode"):
            reason = ended.get("reason", "Error")
    return f"{reason}, {ready}/{len(containers)} ready" + (f", {restarts} restarts" if restarts else "")


def events(items: Iterable[dict[str, Any]], now: datetime) -> list[dict[str, Any]]:
    """Returns events, the newest first."""
    rows = []
    for item in items:
        when = item.get("lastTimestamp") or item.get("eventTime") or item.get("metadata", {}).get("creationTimestamp")
        about = item.get("involvedObject", {})
        rows.append((when or "", {
            "age": age(when, now),
            "type": item.get("type", ""),
            "reason": item.get("reason", ""),
            "object": f"{about.get('kind', '')}/{about.get('name', '')}",
            "message": item.get("message", ""),
            "count": item.get("count") or (item.get("series") or {}).get("count") or 1,
        }))  # fmt: skip
    return [row for _, row in sorted(rows, key=lambda pair: pair[0], reverse=True)]


def containers(item: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns image, resources and state of each container of a pod or of a pod template."""
    spec = item.get("spec") or {}
    pod = spec if "containers" in spec else ((spec.get("template") or {}).get("spec") or {})
    states = {c["name"]: c for c in (item.get("status") or {}).get("containerStatuses") or []}
    return [
        {
            "name": container["name"],
            "image": container.get("image", ""),
            "resources": container.get("resources", {}),
            "ready": states.get(container["name"], {}).get("ready"),
            "restarts": states.get(container["name"], {}).get("restartCount"),
            "state": states.get(container["name"], {}).get("state"),
            "lastState": states.get(container["name"], {}).get("lastState") or None,
        }
        for container in pod.get("containers") or []
    ]


def clean(item: dict[str, Any]) -> dict[str, Any]:
    """Returns an object without bookkeeping, and without the values of a Secret."""
    metadata = {k: v for k, v in item.get("metadata", {}).items() if k not in {"managedFields", "selfLink"}}
    annotations = dict(metadata.get("annotations") or {})
    last_applied = annotations.pop("kubectl.kubernetes.io/last-applied-configuration", None)
    if last_applied is not None:
        metadata["annotations"] = annotations
    shown = {**item, "metadata": metadata}
    if item.get("kind") == "Secret":
        for field in ("data", "stringData"):
            if shown.get(field):
                shown[field] = dict.fromkeys(shown[field], "[hidden]")
    return shown

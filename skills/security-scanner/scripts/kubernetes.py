"""Kubernetes manifests that give a pod more than it needs, after the Pod Security Standards.

https://kubernetes.io/docs/concepts/security/pod-security-standards/
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import minyaml
from issue import Issue

_HOST_FIELDS = ("hostNetwork", "hostPID", "hostIPC")
_NODE_OWNING = frozenset({"/", "/etc", "/proc", "/var/run/docker.sock", "/run/containerd/containerd.sock"})
_STRONG = frozenset({"ALL", "SYS_ADMIN", "NET_ADMIN", "SYS_PTRACE", "SYS_MODULE", "NET_RAW", "DAC_OVERRIDE"})


@dataclass(frozen=True)
class _Place:
    """Where an object stands in a file, to say the line of a part of it."""

    file: str
    lines: list[str]
    label: str
    path: tuple[str, ...]

    def issue(self, rule: str, severity: str, words: tuple[str, ...], message: str, fix: str) -> Issue:
        """Returns a finding at the line that is reached by looking for each word after the one before."""
        at = 0
        for pattern in (*self.path, *words):
            at = next((n for n in range(at, len(self.lines)) if re.search(pattern, self.lines[n])), at)
        evidence = f"{self.label} {rule} {message}"
        return Issue(rule, severity, self.file, at + 1, f"{self.label} {message}", fix, evidence)

    def inside(self, label: str, name: str) -> _Place:
        """Returns the place of a named part."""
        return _Place(self.file, self.lines, f"{self.label} {label}", (*self.path, _named(name)))


def _named(name: str) -> str:
    return rf"name[\"']?:\s*[\"']?{re.escape(name)}\b"


def check(file: str, text: str) -> Iterator[Issue]:
    """Yields the findings of all manifests of a file; text that is no manifest, or a template, has none."""
    if "apiVersion" not in text or "kind" not in text:
        return
    try:
        documents = minyaml.load_all(text)
    except minyaml.YamlError:
        return
    lines = text.splitlines()
    for document in documents:
        if isinstance(document, dict):
            for item in _dicts(document.get("items")) or [document]:
                yield from _object(file, lines, item)


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _names(value: Any) -> set[str]:
    return {str(item) for item in value} if isinstance(value, list) else set()


def _object(file: str, lines: list[str], item: dict[str, Any]) -> Iterator[Issue]:
    kind, name = str(item.get("kind")), str(_dict(item.get("metadata")).get("name", ""))
    place = _Place(file, lines, f"{kind}/{name}", (_named(name),))
    if kind in {"ClusterRole", "Role"}:
        for rule in _dicts(item.get("rules")):
            if "*" in _names(rule.get("verbs")) and "*" in _names(rule.get("resources")):
                fix = "Name the verbs and resources that are used."
                yield place.issue("k8s-rbac-all", "high", (r"\*",), "may do everything", fix)
    pod = _pod_spec(item)
    if pod:
        yield from _pod(place, pod)


def _pod_spec(item: dict[str, Any]) -> dict[str, Any]:
    """The pod spec of a Pod, a workload or a CronJob (spec.jobTemplate.spec.template.spec)."""
    spec = _dict(item.get("spec"))
    while spec and not isinstance(spec.get("containers"), list):
        spec = _dict(_dict(spec.get("jobTemplate") or spec.get("template")).get("spec"))
    return spec


def _pod(place: _Place, pod: dict[str, Any]) -> Iterator[Issue]:
    for field in _HOST_FIELDS:
        if pod.get(field) is True:
            yield place.issue("k8s-host", "high", (field,), f"uses {field}", "Remove it.")
    for volume in _dicts(pod.get("volumes")):
        path = _dict(volume.get("hostPath")).get("path")
        if path:
            severity = "critical" if path in _NODE_OWNING else "high"
            fix = "Use a PersistentVolumeClaim, ConfigMap or emptyDir."
            yield place.issue("k8s-host-path", severity, ("hostPath",), f"mounts {path} of its node", fix)
    shared = _dict(pod.get("securityContext"))
    for container in [*_dicts(pod.get("initContainers")), *_dicts(pod["containers"])]:
        name = str(container.get("name", ""))
        yield from _rights(place.inside(f"container {name}", name), container, shared)
        yield from _quality(place.inside(f"container {name}", name), container)


def _rights(place: _Place, container: dict[str, Any], shared: dict[str, Any]) -> Iterator[Issue]:
    context = _dict(container.get("securityContext"))
    if context.get("privileged") is True:
        yield place.issue(
            "k8s-privileged", "critical", ("privileged",), "is privileged: it owns its node", "Remove it."
        )
    if context.get("allowPrivilegeEscalation") is not False:
        fix = "Set securityContext.allowPrivilegeEscalation to false."
        yield place.issue("k8s-escalation", "medium", (), "may gain privileges", fix)
    user = context.get("runAsUser", shared.get("runAsUser"))
    non_root = context.get("runAsNonRoot", shared.get("runAsNonRoot"))
    if user == 0 or (user is None and non_root is not True):
        fix = "Set runAsNonRoot: true and a runAsUser."
        yield place.issue("k8s-root", "medium", ("runAsUser",) * (user == 0), "may run as root", fix)
    added = {name.removeprefix("CAP_") for name in _names(_dict(context.get("capabilities")).get("add"))} & _STRONG
    if added:
        fix = "Drop ALL; add only what is needed."
        yield place.issue("k8s-capabilities", "high", ("capabilities",), f"adds {', '.join(sorted(added))}", fix)
    if context.get("readOnlyRootFilesystem") is not True:
        fix = "Set readOnlyRootFilesystem: true and mount an emptyDir where it writes."
        yield place.issue("k8s-writable-root", "low", (), "can change its own file system", fix)


def _quality(place: _Place, container: dict[str, Any]) -> Iterator[Issue]:
    image = str(container.get("image") or "")
    if image and "@sha256:" not in image and image.rsplit("/", 1)[-1].partition(":")[2] in {"", "latest"}:
        message = f"uses {image}, a different image each day"
        yield place.issue("k8s-latest", "medium", ("image[\"']?:",), message, "Name a version.")
    if "memory" not in _dict(_dict(container.get("resources")).get("limits")):
        yield place.issue("k8s-no-limit", "low", (), "has no memory limit", "Set resources.limits.memory.")

"""What all agents of a namespace share: objects that carry no owner."""

from __future__ import annotations

from collections.abc import Mapping

from openclaw_operator.resources.meta import Object


def shared(
    api_version: str, kind: str, name: str, namespace: str, labels: Mapping[str, str], /, **body: object
) -> Object:
    """An object of the namespace."""
    metadata = {"name": name, "namespace": namespace, "labels": dict(labels)}
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **body}


def probes() -> Object:
    """The probes of a server that answers /ready and /health at its port `api`."""
    return {
        "readinessProbe": {"httpGet": {"path": "/ready", "port": "api"}, "periodSeconds": 2},
        "livenessProbe": {"httpGet": {"path": "/health", "port": "api"}, "periodSeconds": 10, "failureThreshold": 6},
    }


def deployment(name: str, namespace: str, labels: Mapping[str, str], *, replicas: int, pod: Object) -> Object:
    """A Deployment that replaces its pods with no moment without one."""
    spec = {
        "replicas": replicas,
        "selector": {"matchLabels": dict(labels)},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
        "template": {"metadata": {"labels": dict(labels)}, "spec": pod},
    }
    return shared("apps/v1", "Deployment", name, namespace, labels, spec=spec)

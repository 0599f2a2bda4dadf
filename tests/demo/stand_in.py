"""The language model of the demo: a labelled, rule-based stand-in, so that the demo needs no key and no network."""

from __future__ import annotations

from typing import Any

NAME = "llm"
PORT = 8000
BASE_URL = f"http://{NAME}:{PORT}/v1"
LABELS = {"app.kubernetes.io/name": NAME, "openclaw.io/stand-in": "true"}
SECRET = "openai"
KEY = "api-key"


def credentials(key: str) -> dict[str, Any]:
    """The Secret the quickstart's agents read their key from."""
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": SECRET}, "stringData": {KEY: key}}


def objects(image: str) -> list[dict[str, Any]]:
    """Deployment and Service of the stand-in."""
    container = {
        "name": "llm",
        "image": image,
        "args": ["llm", f"--port={PORT}"],
        "ports": [{"containerPort": PORT}],
        "readinessProbe": {"tcpSocket": {"port": PORT}, "periodSeconds": 1},
        "resources": {"requests": {"cpu": "25m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }
    pod = {
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 1,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 10001,
            "runAsGroup": 10001,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
    }
    return [
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {
                "name": NAME,
                "labels": LABELS,
                "annotations": {"openclaw.io/about": "A stand-in for a language model: fixed rules, no intelligence."},
            },
            "spec": {
                "replicas": 1,
                "selector": {"matchLabels": {"app.kubernetes.io/name": NAME}},
                "template": {"metadata": {"labels": LABELS}, "spec": pod},
            },
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": NAME, "labels": LABELS},
            "spec": {"selector": {"app.kubernetes.io/name": NAME}, "ports": [{"name": "http", "port": PORT}]},
        },
    ]


def kustomization(quickstart: str, provider: str, model: str, base_url: str) -> dict[str, Any]:
    """An overlay of the quickstart whose agents think with another model; `quickstart` is a relative path."""
    patch = [
        {"op": "add", "path": "/spec/model/provider", "value": provider},
        {"op": "add", "path": "/spec/model/name", "value": model},
        {"op": "add", "path": "/spec/model/baseURL", "value": base_url},
    ]
    return {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [quickstart],
        "patches": [{"target": {"kind": "Agent"}, "patch": _yaml_text(patch)}],
    }


def _yaml_text(patch: list[dict[str, str]]) -> str:
    return "\n".join(f"- op: {item['op']}\n  path: {item['path']}\n  value: {item['value']}" for item in patch)

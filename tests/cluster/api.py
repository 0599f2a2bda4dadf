"""The few API reads the cluster tool makes itself: plain HTTPS, no client library to load."""

from __future__ import annotations

import json
import ssl
import urllib.request
from pathlib import Path
from typing import Any

from tests.cluster.apiserver import client_context


class Api:
    """GETs as cluster administrator. Every failure is an OSError."""

    def __init__(self, server: str, pki: Path) -> None:
        self.server = server
        self.context: ssl.SSLContext = client_context(pki)

    def get(self, path: str) -> dict[str, Any]:
        with urllib.request.urlopen(f"{self.server}{path}", context=self.context, timeout=5) as response:
            content: dict[str, Any] = json.load(response)
        return content

    def ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.server}/readyz", context=self.context, timeout=5):
                return True
        except OSError:
            return False

    def node_ready(self) -> bool:
        try:
            nodes = self.get("/api/v1/nodes")["items"]
        except OSError:
            return False
        return bool(nodes) and all(condition(node, "Ready") for node in nodes)

    def unavailable_deployments(self, namespace: str) -> list[str]:
        """Names of Deployments with fewer available replicas than wanted."""
        items = self.get(f"/apis/apps/v1/namespaces/{namespace}/deployments")["items"]
        return [item["metadata"]["name"] for item in items if not deployment_available(item)]


def condition(item: dict[str, Any], kind: str) -> bool:
    conditions = item.get("status", {}).get("conditions") or []
    return any(each["type"] == kind and each["status"] == "True" for each in conditions)


def deployment_available(item: dict[str, Any]) -> bool:
    status = item.get("status", {})
    current = status.get("observedGeneration", 0) >= item["metadata"]["generation"]
    return bool(current and status.get("availableReplicas", 0) >= item["spec"].get("replicas", 1))

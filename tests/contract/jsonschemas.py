"""JSON Schemas for kubeconform out of what the API server itself publishes, so that no download is needed.

https://kubernetes.io/docs/concepts/overview/kubernetes-api/#openapi-v3
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

# kubeconform fills in the names: https://github.com/yannh/kubeconform#overriding-schemas-location
LOCATION = "{{.ResourceKind}}{{.KindSuffix}}.json"


def _closed(node: Any) -> Any:
    """The same schema, with objects that list their properties refusing others: what -strict means."""
    if isinstance(node, list):
        return [_closed(item) for item in node]
    if not isinstance(node, dict):
        return node
    closed = {key: _closed(value) for key, value in node.items()}
    open_object = node.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in node
    if isinstance(node.get("properties"), dict) and not open_object:
        closed["additionalProperties"] = False
    return closed


def write(openapi: dict[str, Any], folder: Path) -> list[str]:
    """One file per kind of an OpenAPI v3 document; returns the file names."""
    components = _closed(openapi.get("components", {}))
    names = []
    for schema_name, schema in components.get("schemas", {}).items():
        for gvk in schema.get("x-kubernetes-group-version-kind", []):
            group = gvk["group"].split(".")[0]
            name = (
                f"{gvk['kind'].lower()}-{group}-{gvk['version']}.json"
                if group
                else f"{gvk['kind'].lower()}-{gvk['version']}.json"
            )
            document = {"$ref": f"#/components/schemas/{schema_name}", "components": components}
            (folder / name).write_text(json.dumps(document))
            names.append(name)
    return names


def from_server(kubectl: str, kubeconfig: Path, versions: list[str], folder: Path) -> None:
    """Write the schemas of API versions such as `apis/apps/v1` into `folder`."""
    for version in versions:
        command = [kubectl, "--kubeconfig", str(kubeconfig), "get", "--raw", f"/openapi/v3/{version}"]
        answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
        write(json.loads(answer.stdout), folder)

"""Stand-ins for the CRDs of addons: the least that is served. The real ones are not to be had here."""

from __future__ import annotations

from typing import Any

from openclaw_operator.cluster.kinds import Kind


def addon_crd(kind: Kind) -> dict[str, Any]:
    """A CRD of that kind that takes any field: the fields are the addon's business."""
    names = {"kind": kind.name, "plural": kind.plural, "singular": kind.name.lower()}
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{kind.plural}.{kind.group}",
            "annotations": {"api-approved.kubernetes.io": "unapproved, a test"},
        },
        "spec": {
            "group": kind.group,
            "scope": "Namespaced",
            "names": names,
            "versions": [
                {"name": kind.version, "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
            ],
        },
    }

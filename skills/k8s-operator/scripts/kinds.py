"""From a kind as people write it (Deployment, deployments, deploy) to its path."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from kube import Cluster

from openclaw_skill import SkillError

_NAME = re.compile(r"^[A-Za-z0-9]([A-Za-z0-9.:_-]*[A-Za-z0-9])?$")
# Groups that are searched when no apiVersion is given, before the others of the cluster.
_FIRST = ("v1", "apps/v1", "batch/v1", "networking.k8s.io/v1", "autoscaling/v2", "policy/v1")


@dataclass(frozen=True)
class Kind:
    """A resource of the cluster. `api` is its group and version, `v1` for the core group."""

    api: str
    kind: str
    plural: str
    namespaced: bool

    def path(self, namespace: str | None, name: str | None = None, sub: str | None = None) -> str:
        """Returns the path of a list (no name), an object or a subresource."""
        base = f"/api/{self.api}" if "/" not in self.api else f"/apis/{self.api}"
        parts = [base]
        if self.namespaced and namespace:
            parts += ["namespaces", check_name(namespace, "namespace")]
        parts.append(self.plural)
        if name:
            parts.append(quote(check_name(name, "name"), safe=""))
        if sub:
            parts.append(sub)
        return "/".join(parts)


def check_name(value: str, field: str) -> str:
    """Returns a name that is one part of a path, or raises SkillError."""
    if not _NAME.match(value) or ".." in value:
        raise SkillError(f"{field}: {value!r} is no Kubernetes name; use letters, digits, '-' and '.'")
    return value


def find(cluster: Cluster, word: str, api: str | None) -> Kind:
    """Returns the kind that is meant: by kind, plural, singular or short name, in the cluster's own words."""
    if api is not None:
        if not re.match(r"^([a-z0-9.-]+/)?v[0-9][a-z0-9]*$", api):
            raise SkillError(f"apiVersion: {api!r} is not of the form v1 or group/v1; correct it")
        found = _in_group(cluster, api, word)
        if found is None:
            raise SkillError(f"kind: {api} has no {word!r}; check the spelling or leave apiVersion out")
        return found
    for group in _FIRST:
        if found := _in_group(cluster, group, word):
            return found
    for group in cluster.json("/apis").get("groups", []):
        version = group["preferredVersion"]["groupVersion"]
        if version not in _FIRST and (found := _in_group(cluster, version, word)):
            return found
    raise SkillError(f"kind: the cluster has no {word!r}; check the spelling, for example Deployment or pods")


def _in_group(cluster: Cluster, api: str, word: str) -> Kind | None:
    path = f"/api/{api}" if "/" not in api else f"/apis/{api}"
    wanted = word.lower()
    for item in _resources(cluster, path):
        if "/" in item["name"]:
            continue
        names = {
            item["kind"].lower(),
            item["name"].lower(),
            item.get("singularName", "").lower(),
            *item.get("shortNames", []),
        }
        if wanted in names:
            return Kind(api, item["kind"], item["name"], bool(item["namespaced"]))
    return None


def _resources(cluster: Cluster, path: str) -> list[dict[str, Any]]:
    return list(cluster.json(path).get("resources", []))

"""A fresh API server with the CRDs, one identity per program under test, and the rights the operator declares."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import yaml

from openclaw_operator import rbac
from tests.bench.api import Api, Object, collection_of, resource_path
from tests.bench.waiting import eventually
from tests.cluster import apiserver, pki
from tests.cluster.apiserver import ApiServer
from tests.cluster.kubeconfig import write_kubeconfig
from tests.cluster.paths import REPOSITORY

CRDS = REPOSITORY / "crds"
ROLE = "openclaw-operator"


def identity(server: ApiServer, name: str) -> Path:
    """A kubeconfig for a user `name` with a certificate of the cluster's authority and no rights of its own."""
    pair = pki.Pair((server.pki / "ca.crt").read_bytes(), (server.pki / "ca.key").read_bytes())
    pki.Authority(pair, datetime.now(UTC)).issue(name).write(server.pki, name)
    return write_kubeconfig(server.pki.parent / f"{name}.kubeconfig", server.url, server.pki, name)


async def install_crds(api: Api) -> None:
    """Create the CRDs and return when the API server serves all of them."""
    for file in sorted(CRDS.glob("*.yaml")):
        await install_crd(api, yaml.safe_load(file.read_text()))


async def install_crd(api: Api, crd: Object) -> None:
    """Create one CRD and return when the API server serves it."""
    await api.create(collection_of(crd), crd)
    spec = crd["spec"]
    path = resource_path(f"{spec['group']}/{spec['versions'][0]['name']}", spec["names"]["plural"], None)

    async def served() -> bool:
        return await api.find(path) is not None

    await eventually(served, f"{path} is served", seconds=60)


def _group(name: str) -> Object:
    return {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name}


async def grant_operator_rights(api: Api, *users: str) -> None:
    """One ClusterRole with exactly the rules the operator declares, bound to each user."""
    version = "rbac.authorization.k8s.io/v1"
    role: Object = {
        "apiVersion": version,
        "kind": "ClusterRole",
        "metadata": {"name": ROLE},
        "rules": rbac.policy_rules(),
    }
    binding: Object = {
        "apiVersion": version,
        "kind": "ClusterRoleBinding",
        "metadata": {"name": ROLE},
        "roleRef": _group(ROLE),
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user} for user in users],
    }
    for each in (role, binding):
        await api.create(collection_of(each), each)


async def create_namespace(api: Api, name: str) -> None:
    await api.create("/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})


def admin_api(server: ApiServer) -> Api:
    """Calls as cluster admin."""
    return Api(server.url, apiserver.client_context(server.pki))


@asynccontextmanager
async def prepared(server: ApiServer, *users: str) -> AsyncIterator[Api]:
    """CRDs and rights installed; gives an admin's Api."""
    async with admin_api(server) as api:
        await install_crds(api)
        await grant_operator_rights(api, *users)
        yield api

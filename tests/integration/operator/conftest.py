"""A real API server, the real operator as a process of its own with only the rights it declares."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from openclaw_operator import rbac
from openclaw_operator.cluster.client import Client, Object
from openclaw_operator.cluster.connection import Connection
from openclaw_operator.cluster.kinds import BY_NAME, Kind
from openclaw_operator.errors import NotFoundError
from openclaw_operator.telemetry import Metrics
from tests.cluster import pki
from tests.cluster.apiserver import ApiServer, AuditTrail
from tests.cluster.apiserver import api_server as start_api_server
from tests.cluster.fixtures import run_folder
from tests.cluster.kubeconfig import write_kubeconfig
from tests.cluster.paths import REPOSITORY
from tests.cluster.shared import shared
from tests.integration.operator.process import Operator, OperatorProcess

__all__ = ["run_folder"]

NAMESPACE = Kind("Namespace", "", "v1", "namespaces")
CRD = Kind("CustomResourceDefinition", "apiextensions.k8s.io", "v1", "customresourcedefinitions")
USER = "openclaw-operator-under-test"
READER = "reader-under-test"
# Far above what anything takes, so that a loaded machine fails nothing.
WAIT_SECONDS = 60.0
Check = Callable[[Object], bool]


def exists(_item: Object) -> bool:
    """Passes whatever there is."""
    return True


class Cluster:
    """What a test does as a user with all rights, in one namespace.

    `since` is where the audit log ended before there was the namespace.
    """

    def __init__(self, client: Client, namespace: str, since: int) -> None:
        self.client = client
        self.namespace = namespace
        self.since = since

    async def apply(self, *manifests: str) -> list[Object]:
        """Apply YAML documents the way kubectl does, unknown fields refused."""
        applied = []
        for manifest in manifests:
            for item in yaml.safe_load_all(manifest):
                item["metadata"]["namespace"] = self.namespace
                applied.append(
                    await self.client._request(
                        "PATCH",
                        BY_NAME[item["kind"]].path(self.namespace, item["metadata"]["name"]),
                        verb="apply",
                        params={"fieldManager": "kubectl", "force": "true", "fieldValidation": "Strict"},
                        body=item,
                        headers={"Content-Type": "application/apply-patch+yaml"},
                    )
                )
        return applied

    async def create(self, manifest: str) -> Object:
        """Create from YAML, unknown fields refused."""
        item = yaml.safe_load(manifest)
        return await self.client._request(
            "POST",
            BY_NAME[item["kind"]].path(self.namespace),
            verb="create",
            params={"fieldValidation": "Strict"},
            body=item,
        )

    async def get(self, kind: str, name: str) -> Object:
        """An object."""
        return await self.client.get(BY_NAME[kind], self.namespace, name)

    async def patch(self, kind: str, name: str, change: Object) -> Object:
        """A JSON merge patch as somebody else than the operator."""
        return await self.client._request(
            "PATCH",
            BY_NAME[kind].path(self.namespace, name),
            verb="patch",
            params={"fieldManager": "somebody"},
            body=change,
            headers={"Content-Type": "application/merge-patch+json"},
        )

    async def patch_status(self, kind: str, name: str, status: Object) -> None:
        """Play the part of a controller or kubelet."""
        await self.client._request(
            "PATCH",
            BY_NAME[kind].path(self.namespace, name, "status"),
            verb="patch",
            body={"status": status},
            headers={"Content-Type": "application/merge-patch+json"},
        )

    async def delete(self, kind: str, name: str) -> None:
        """Delete at once."""
        item = await self.get(kind, name)
        await self.client._request(
            "DELETE",
            BY_NAME[kind].path(self.namespace, name),
            verb="delete",
            body={"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 0},
        )
        if item["metadata"].get("finalizers"):
            await self.patch(kind, name, {"metadata": {"finalizers": None}})

    async def wait(self, kind: str, name: str, check: Check, seconds: float = WAIT_SECONDS) -> Object:
        """Watch until an object passes `check`. Fails with what it last looked like."""
        last: Object | None = None
        try:
            async with asyncio.timeout(seconds):
                async for item in self._states(kind, name):
                    last = item
                    if item is not None and check(item):
                        return item
        except TimeoutError:
            pass
        raise AssertionError(f"{kind} {name} did not get there within {seconds} s; last seen: {yaml.safe_dump(last)}")

    async def wait_gone(self, kind: str, name: str, seconds: float = WAIT_SECONDS) -> None:
        """Watch until an object is gone."""
        async with asyncio.timeout(seconds):
            async for item in self._states(kind, name):
                if item is None:
                    return

    async def wait_condition(self, kind: str, name: str, type_: str, status: str, reason: str) -> str:
        """Watch until a condition has that status and reason; returns its message."""

        def reached(item: Object) -> bool:
            found = condition(item, type_)
            return bool(found) and (found["status"], found["reason"]) == (status, reason)

        message: str = condition(await self.wait(kind, name, reached), type_)["message"]
        return message

    async def all_of(self, kind: str, selector: str | None = None) -> list[Object]:
        """Objects of the namespace."""
        return [
            item
            async for page in self.client.pages(BY_NAME[kind], self.namespace, selector=selector)
            for item in page["items"]
        ]

    async def wait_any(self, kind: str, check: Callable[[list[Object]], bool], seconds: float = WAIT_SECONDS) -> None:
        """Watch until all objects of a kind that are not being deleted pass `check` together."""
        page = await anext(aiter(self.client.pages(BY_NAME[kind], self.namespace)))
        present = {item["metadata"]["name"]: item for item in page["items"]}
        async with asyncio.timeout(seconds):
            if check([item for item in present.values() if "deletionTimestamp" not in item["metadata"]]):
                return
            async for event in self.client.watch(BY_NAME[kind], self.namespace, page["metadata"]["resourceVersion"]):
                item = event["object"]
                if event["type"] == "DELETED":
                    present.pop(item["metadata"]["name"], None)
                elif event["type"] != "BOOKMARK":
                    present[item["metadata"]["name"]] = item
                if check([item for item in present.values() if "deletionTimestamp" not in item["metadata"]]):
                    return

    async def _states(self, kind: str, name: str) -> AsyncIterator[Object | None]:
        """The object now and after each change, None while it does not exist."""
        page = await anext(aiter(self.client.pages(BY_NAME[kind], self.namespace)))
        found = [item for item in page["items"] if item["metadata"]["name"] == name]
        yield found[0] if found else None
        version = page["metadata"]["resourceVersion"]
        async for event in self.client.watch(BY_NAME[kind], self.namespace, version):
            if event["type"] != "BOOKMARK" and event["object"]["metadata"]["name"] == name:
                yield None if event["type"] == "DELETED" else event["object"]


def condition(item: Object, type_: str) -> Object:
    """One condition of a resource, {} when it has none of that type."""
    found = [each for each in item.get("status", {}).get("conditions", []) if each["type"] == type_]
    return found[0] if found else {}


@pytest.fixture(scope="session")
def server(run_folder: Path) -> Iterator[ApiServer]:
    """The API server with the CRDs, one for all workers: each test has a namespace of its own."""
    with shared(run_folder, "api-server", lambda: _prepared(controllers=False)) as told:
        yield ApiServer.heard(told)


@pytest.fixture(scope="session")
def server_with_controllers(run_folder: Path) -> Iterator[ApiServer]:
    """The same with garbage collection and the workload controllers."""
    with shared(run_folder, "api-server-with-controllers", lambda: _prepared(controllers=True)) as told:
        yield ApiServer.heard(told)


@contextmanager
def _prepared(*, controllers: bool) -> Iterator[str]:
    with start_api_server(controllers=controllers) as started:
        asyncio.run(install(started))
        yield started.told()
        assert _forbidden(started) == [], "the operator asks for what its rules do not allow"


def _forbidden(server: ApiServer) -> list[str]:
    """What the operator asked for in all tests together and had no right to."""
    events = AuditTrail(server.audit_log, USER).events()
    decision = "authorization.k8s.io/decision"
    forbidden = [each for each in events if each.get("annotations", {}).get(decision) == "forbid"]
    return sorted({f"{each['verb']} {each['requestURI']}" for each in forbidden})


async def install(server: ApiServer) -> None:
    """The CRDs, the operator's user and one who may only look."""
    async with admin(server) as client:
        for path in sorted((REPOSITORY / "crds").glob("*.yaml")):
            crd = yaml.safe_load(path.read_text())
            await _create_global(client, CRD.path(), crd)
            plural = Kind("", crd["spec"]["group"], crd["spec"]["versions"][0]["name"], crd["spec"]["names"]["plural"])
            await _served(client, plural)
        for user, rules in ((USER, rbac.policy_rules()), (READER, _looks())):
            await _make_user(server, client, user, rules)


async def _make_user(server: ApiServer, client: Client, user: str, rules: list[Object]) -> None:
    """A kubeconfig and a ClusterRole, both named after the user."""
    pair = pki.Pair((server.pki / "ca.crt").read_bytes(), (server.pki / "ca.key").read_bytes())
    pki.Authority(pair, datetime.now(UTC)).issue(user).write(server.pki, user)
    write_kubeconfig(kubeconfig_of(server, user), server.url, server.pki, user)
    group = "rbac.authorization.k8s.io"
    meta = {"apiVersion": f"{group}/v1", "metadata": {"name": user}}
    role = {**meta, "kind": "ClusterRole", "rules": rules}
    await _create_global(client, f"/apis/{group}/v1/clusterroles", role)
    binding = {
        **meta,
        "kind": "ClusterRoleBinding",
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": user},
        "subjects": [{"apiGroup": group, "kind": "User", "name": user}],
    }
    await _create_global(client, f"/apis/{group}/v1/clusterrolebindings", binding)


def kubeconfig_of(server: ApiServer, user: str) -> Path:
    """Of a user that `install` made."""
    return server.pki.parent / f"{user}.kubeconfig"


def _looks() -> list[Object]:
    """The rights of somebody who may look, but not into Secrets."""
    groups = ["apps", "batch", "autoscaling", "policy", "networking.k8s.io", "rbac.authorization.k8s.io", "openclaw.io"]
    return [
        {"apiGroups": groups, "resources": ["*"], "verbs": ["get", "list"]},
        {
            "apiGroups": [""],
            "resources": ["configmaps", "services", "serviceaccounts", "persistentvolumeclaims"],
            "verbs": ["get", "list"],
        },
    ]


async def _create_global(client: Client, path: str, body: Object) -> None:
    await client._request("POST", path, verb="create", body=body)


async def _served(client: Client, kind: Kind) -> None:
    """Return once the API server serves a new kind."""
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            try:
                await anext(aiter(client.pages(kind, None)))
            except NotFoundError:
                await asyncio.sleep(0.05)
            else:
                return


def admin(server: ApiServer) -> Client:
    """A client with all rights."""

    async def no_token() -> str | None:
        return None

    folder = server.pki
    connection = Connection(
        server=server.url,
        token=no_token,
        ca_path=str(folder / "ca.crt"),
        certificate_path=str(folder / f"{pki.ADMIN}.crt"),
        key_path=str(folder / f"{pki.ADMIN}.key"),
    )
    return Client(connection, Metrics())


@pytest.fixture
async def cluster(server: ApiServer) -> AsyncIterator[Cluster]:
    """A namespace of the test's own."""
    async for each in _namespace(server):
        yield each


@pytest.fixture
async def full_cluster(server_with_controllers: ApiServer) -> AsyncIterator[Cluster]:
    """A namespace of the test's own, with controllers."""
    async for each in _namespace(server_with_controllers):
        yield each


async def _namespace(server: ApiServer) -> AsyncIterator[Cluster]:
    name, since = f"t-{uuid.uuid4().hex[:8]}", server.audit_log.stat().st_size
    async with admin(server) as client:
        await _create_global(client, NAMESPACE.path(), {"metadata": {"name": name}})
        yield Cluster(client, name, since)
        # An operator of all namespaces need not look after them any longer.
        for kind in ("Agent", "MemoryRestore", "MemoryStore", "Skill"):
            await client._request("DELETE", BY_NAME[kind].path(name), verb="deletecollection")


@pytest.fixture(scope="session")
def operator(server: ApiServer, run_folder: Path) -> Iterator[Operator]:
    """One operator for all namespaces of the server without controllers, and for all workers."""

    @contextmanager
    def started() -> Iterator[str]:
        log = run_folder / "operator.log"
        process = OperatorProcess.start(kubeconfig_of(server, USER), "", log, {})
        yield str(log)
        process.stop()

    with shared(run_folder, "operator", started) as log:
        yield Operator(Path(log))


@pytest.fixture
def start_operator(
    server_with_controllers: ApiServer, full_cluster: Cluster, tmp_path: Path
) -> Iterator[Callable[..., OperatorProcess]]:
    """Starts operators that serve the test's own namespace, beside the controllers of Kubernetes."""
    kubeconfig = kubeconfig_of(server_with_controllers, USER)
    running: list[OperatorProcess] = []

    def start(**settings: Any) -> OperatorProcess:
        log = tmp_path / f"operator-{len(running)}.log"
        process = OperatorProcess.start(kubeconfig, full_cluster.namespace, log, settings)
        running.append(process)
        return process

    yield start
    for process in running:
        process.stop()


class Audit:
    """What the operator asked of the API server, from its audit log."""

    def __init__(self, server: ApiServer, cluster: Cluster) -> None:
        self._trail = AuditTrail(server.audit_log, cluster.namespace, cluster.since)
        self._namespace = cluster.namespace

    def requests(self, *verbs: str) -> list[tuple[str, str, str]]:
        """(verb, resource[/subresource], name) of the operator's requests in the namespace, oldest first.

        A watch that begins with all there is has the verb `stream`.
        """
        found = []
        for event in self._trail.events():
            target, verb = event.get("objectRef", {}), event["verb"]
            if event["user"]["username"] != USER or target.get("namespace") != self._namespace:
                continue
            if "sendInitialEvents=true" in event["requestURI"]:
                if event["stage"] != "ResponseComplete":
                    continue
                verb = "stream"
            if not verbs or verb in verbs:
                resource = "/".join(filter(None, (target["resource"], target.get("subresource"))))
                found.append((verb, resource, target.get("name", "")))
        return found

    def writes(self) -> list[tuple[str, str, str]]:
        """The requests that change something."""
        return self.requests("create", "update", "patch", "delete")

    async def wait_writes(self, count: int, since: int = 0, resource: str | None = None) -> list[tuple[str, str, str]]:
        """The writes after the first `since`, to one resource or to all, once there are `count` of them.

        A watch may tell of a change a moment before the log holds the request that made it.
        """
        async with asyncio.timeout(WAIT_SECONDS):
            while True:
                made = [write for write in self.writes()[since:] if resource in (None, write[1])]
                if len(made) >= count:
                    return made
                await asyncio.sleep(0.05)


@pytest.fixture
def audit(server: ApiServer, cluster: Cluster) -> Audit:
    """The operator's requests in the test's namespace."""
    return Audit(server, cluster)


@pytest.fixture
def full_audit(server_with_controllers: ApiServer, full_cluster: Cluster) -> Audit:
    """The operator's requests in the test's namespace of the server with controllers."""
    return Audit(server_with_controllers, full_cluster)


@pytest.fixture(scope="session")
def reader(server: ApiServer) -> Path:
    """A kubeconfig of somebody who may look, but not into Secrets."""
    return kubeconfig_of(server, READER)

"""Several operators side by side, an operator without cluster-wide rights, and none at all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from openclaw_operator import rbac
from openclaw_operator.cluster.client import Object
from openclaw_operator.errors import NotFoundError
from tests.bench.waiting import eventually
from tests.cluster import pki
from tests.cluster.apiserver import ApiServer, AuditTrail
from tests.cluster.kubeconfig import write_kubeconfig
from tests.integration.operator.conftest import NAMESPACE, Audit, Cluster, _create_global, exists
from tests.integration.operator.manifests import AGENT, FULL_AGENT
from tests.integration.operator.process import OperatorProcess
from tests.integration.operator.test_bad_input import changed, quiet
from tests.integration.operator.test_quiet import FIXED_AGENT, settle

GROUP = "rbac.authorization.k8s.io"
Start = Callable[..., OperatorProcess]


class Identities:
    """Operators of their own users, with the rights of the chart in the test's namespace alone."""

    def __init__(self, server: ApiServer, cluster: Cluster, folder: Path) -> None:
        self._server = server
        self._cluster = cluster
        self._folder = folder
        # The names of the users end in the namespace.
        self._trail = AuditTrail(server.audit_log, cluster.namespace, cluster.since)
        self.running: list[OperatorProcess] = []

    def user(self, name: str) -> str:
        return f"{name}-{self._cluster.namespace}"

    async def start(self, name: str, **settings: Any) -> OperatorProcess:
        user, namespace = self.user(name), self._cluster.namespace
        pair = pki.Pair((self._server.pki / "ca.crt").read_bytes(), (self._server.pki / "ca.key").read_bytes())
        pki.Authority(pair, datetime.now(UTC)).issue(user).write(self._folder, user)
        (self._folder / "ca.crt").write_bytes(pair.certificate)
        kubeconfig = write_kubeconfig(self._folder / f"{user}.kubeconfig", self._server.url, self._folder, user)
        role = {"metadata": {"name": user}, "rules": rbac.policy_rules()}
        await _create_global(self._cluster.client, f"/apis/{GROUP}/v1/namespaces/{namespace}/roles", role)
        binding = {
            "metadata": {"name": user},
            "roleRef": {"apiGroup": GROUP, "kind": "Role", "name": user},
            "subjects": [{"apiGroup": GROUP, "kind": "User", "name": user}],
        }
        await _create_global(self._cluster.client, f"/apis/{GROUP}/v1/namespaces/{namespace}/rolebindings", binding)
        log = self._folder / f"{user}.log"
        process = await asyncio.to_thread(OperatorProcess.start, kubeconfig, namespace, log, settings)
        self.running.append(process)
        return process

    def asked(self, name: str, *verbs: str) -> list[Object]:
        """The audit entries of an operator's requests."""
        events = [event for event in self._trail.events() if event["user"]["username"] == self.user(name)]
        return [event for event in events if not verbs or event["verb"] in verbs]

    def writes(self, name: str) -> list[tuple[str, str, str]]:
        """(verb, resource, name) of an operator's writes, but for events."""
        made = self.asked(name, "create", "update", "patch", "delete")
        targets = [(event["verb"], event.get("objectRef", {})) for event in made]
        return [
            (verb, target["resource"], target.get("name", ""))
            for verb, target in targets
            if target["resource"] != "events"
        ]


@pytest.fixture
def server(server_with_controllers: ApiServer) -> ApiServer:
    """The server that no operator of all namespaces, which would look after these agents too, ever serves."""
    return server_with_controllers


@pytest.fixture
def cluster(full_cluster: Cluster) -> Cluster:
    """A namespace of the test's own, there."""
    return full_cluster


@pytest.fixture
def identities(server: ApiServer, cluster: Cluster, tmp_path: Path) -> Iterator[Identities]:
    found = Identities(server, cluster, tmp_path)
    yield found
    for process in found.running:
        process.stop()


def agent_of(name: str, team: str) -> str:
    return changed(changed(AGENT, "metadata.name", name), "metadata.labels", {"team": team})


async def settled(cluster: Cluster, name: str) -> None:
    await cluster.wait_condition("Agent", name, "ChildrenApplied", "True", "Applied")
    await cluster.wait("Agent", name, lambda item: item["status"]["conditions"][-1]["type"] == "Ready")


async def still(identities: Identities, *names: str) -> None:
    """Until none of the operators has written anything for a while."""
    seen = -1
    while (now := sum(len(identities.writes(name)) for name in names)) != seen:
        seen = now
        await asyncio.sleep(2.5)


async def test_each_operator_looks_after_its_own(cluster: Cluster, identities: Identities) -> None:
    await identities.start("blue", agent_selector="team=blue")
    await identities.start("red", agent_selector="team=red")
    await cluster.apply(agent_of("ann", "blue"), agent_of("rob", "red"), agent_of("nil", "green"))
    await settled(cluster, "ann")
    await settled(cluster, "rob")
    await still(identities, "blue", "red")
    # What the namespace shares is named after none of them.
    assert {name.split("-")[0] for _, _, name in identities.writes("blue")} - {"openclaw", ""} == {"ann"}
    assert {name.split("-")[0] for _, _, name in identities.writes("red")} - {"openclaw", ""} == {"rob"}
    assert "status" not in await cluster.get("Agent", "nil")

    # Drift is repaired by whose it is, and by nobody else.
    before = {name: len(identities.writes(name)) for name in ("blue", "red")}
    await cluster.delete("Service", "ann-gateway")
    await cluster.wait("Service", "ann-gateway", exists)
    await still(identities, "blue", "red")
    assert identities.writes("blue")[before["blue"] :] == [("patch", "services", "ann-gateway")]
    assert identities.writes("red")[before["red"] :] == []


async def test_an_agent_is_handed_over_by_its_label(cluster: Cluster, identities: Identities) -> None:
    await identities.start("blue", agent_selector="team=blue")
    await identities.start("red", agent_selector="team=red")
    await cluster.apply(agent_of("ann", "blue"))
    await settled(cluster, "ann")
    await still(identities, "blue", "red")
    pods = (await cluster.get("Deployment", "ann-gateway"))["spec"]["template"]
    token = (await cluster.get("Secret", "ann-gateway-token"))["data"]
    key = (await cluster.get("Secret", "openclaw-sandbox-signing"))["data"]
    before = {name: len(identities.writes(name)) for name in ("blue", "red")}

    await cluster.patch("Agent", "ann", {"metadata": {"labels": {"team": "red"}}})
    await still(identities, "blue", "red")
    await cluster.delete("Service", "ann-gateway")
    await cluster.wait("Service", "ann-gateway", exists)
    await still(identities, "blue", "red")
    # The new one finds all as it should be, what the namespace shares as well: it only makes what was missing.
    taken = [write for write in identities.writes("red")[before["red"] :] if write[1] != "agents"]
    assert taken == [("patch", "services", "ann-gateway")]
    assert identities.writes("blue")[before["blue"] :] == []
    assert (await cluster.get("Secret", "openclaw-sandbox-signing"))["data"] == key
    assert (await cluster.get("Deployment", "ann-gateway"))["spec"]["template"] == pods
    assert (await cluster.get("Secret", "ann-gateway-token"))["data"] == token
    # From now on the old one leaves it alone.
    before = {name: len(identities.writes(name)) for name in ("blue", "red")}
    await cluster.patch("Deployment", "ann-gateway", {"spec": {"progressDeadlineSeconds": 7}})
    await cluster.wait("Deployment", "ann-gateway", lambda item: item["spec"]["progressDeadlineSeconds"] != 7)
    await still(identities, "blue", "red")
    assert identities.writes("blue")[before["blue"] :] == []
    # Whoever has the last agent clears away.
    await cluster.delete("Agent", "ann")
    await cluster.wait_gone("NetworkPolicy", "openclaw-sandbox")
    await cluster.wait_gone("Secret", "openclaw-sandbox-signing")


async def test_a_role_in_the_namespace_is_enough(cluster: Cluster, identities: Identities) -> None:
    await identities.start("local")
    await settle(cluster)
    await cluster.delete("Deployment", "ada-gateway")
    await cluster.wait("Deployment", "ada-gateway", exists)
    await cluster.apply(changed(FULL_AGENT, "spec.suspend", True))
    await cluster.wait("Deployment", "ada-gateway", lambda item: item["spec"].get("replicas") == 0)
    asked = identities.asked("local")
    assert len(asked) > 50
    refused = [each["requestURI"] for each in asked if each.get("responseStatus", {}).get("code") in (401, 403)]
    assert refused == []
    outside = [each["requestURI"] for each in asked if each.get("objectRef", {}).get("namespace") != cluster.namespace]
    # What any user may ask: which APIs there are.
    assert {uri.partition("?")[0].split("/")[1] for uri in outside} <= {"api", "apis", "version"}
    assert not [uri for uri in outside if any(plural in uri for plural in ("agents", "secrets", "pods", "namespaces"))]


async def test_everything_goes_without_an_operator(full_cluster: Cluster, start_operator: Start) -> None:
    cluster = full_cluster
    operator = start_operator()
    await settle(cluster, FIXED_AGENT)
    operator.stop()
    for kind, name in (("Agent", "ada"), ("Skill", "echo"), ("MemoryStore", "mem")):
        item = await cluster.get(kind, name)
        assert "finalizers" not in item["metadata"]
        await cluster.delete(kind, name)
    for kind, name in (("Deployment", "ada-gateway"), ("StatefulSet", "mem-qdrant"), ("Secret", "ada-gateway-token")):
        # The garbage collector looks for kinds it does not know, as ours are on a new server, every 30 s.
        await cluster.wait_gone(kind, name, seconds=120)


async def test_a_namespace_goes_while_the_operator_runs(
    full_cluster: Cluster, start_operator: Start, full_audit: Audit
) -> None:
    cluster = full_cluster
    start_operator()
    await settle(cluster, FIXED_AGENT)
    await quiet(full_audit)
    before = len(full_audit.writes())
    # Pods that no kubelet ends would hold the namespace.
    for pod in await cluster.all_of("Pod"):
        await cluster.patch("Pod", pod["metadata"]["name"], {"metadata": {"finalizers": None}})
    path = NAMESPACE.path(None, cluster.namespace)
    await cluster.client._request("DELETE", path, verb="delete")

    async def gone() -> bool:
        for pod in await cluster.all_of("Pod"):
            await cluster.client._request(
                "DELETE",
                f"/api/v1/namespaces/{cluster.namespace}/pods/{pod['metadata']['name']}",
                verb="delete",
                body={"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 0},
            )
        try:
            await cluster.client._request("GET", path, verb="get")
        except NotFoundError:
            return True
        return False

    await eventually(gone, "the namespace is gone", seconds=180, interval=0.5)
    # It may try to put back what goes, and is refused; never for long.
    assert len(full_audit.writes()) - before < 150

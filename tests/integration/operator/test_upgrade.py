"""Objects that were stored under the previous version of the CRDs go on working under this one."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from openclaw_operator.api.crds import KINDS, crd
from openclaw_operator.cluster.client import Client, Object
from openclaw_operator.errors import ApiError
from tests.bench.waiting import eventually
from tests.cluster.apiserver import ApiServer
from tests.cluster.apiserver import api_server as start_api_server
from tests.integration.operator.conftest import (
    CRD,
    READER,
    USER,
    Audit,
    Cluster,
    _namespace,
    condition,
    exists,
    install,
    kubeconfig_of,
)
from tests.integration.operator.manifests import FULL_AGENT, RESTORE, SKILL, STORE
from tests.integration.operator.process import OperatorProcess
from tests.integration.operator.test_bad_input import changed, quiet
from tests.integration.operator.test_diff import diff
from tests.integration.operator.test_doctor import doctor


@pytest.fixture(scope="module")
def server() -> Iterator[ApiServer]:
    """One of its own, since its CRDs change under everybody."""
    with start_api_server() as started:
        asyncio.run(install(started))
        yield started


@pytest.fixture
async def cluster(server: ApiServer) -> AsyncIterator[Cluster]:
    async for each in _namespace(server):
        yield each
        await replace_crds(each.client, lambda _: None)


@pytest.fixture
def start(server: ApiServer, cluster: Cluster, tmp_path: Path) -> Iterator[Callable[[], OperatorProcess]]:
    running: list[OperatorProcess] = []

    def start() -> OperatorProcess:
        log = tmp_path / f"operator-{len(running)}.log"
        running.append(OperatorProcess.start(kubeconfig_of(server, USER), cluster.namespace, log, {}))
        return running[-1]

    yield start
    for process in running:
        process.stop()


def older(schema: Object) -> None:
    """As it might have been: fields that are new are not there, others since removed are, and there are no rules."""
    spec = schema["properties"]["spec"]
    for name in ("execution", "observability", "team", "sandbox", "deletionPolicy"):
        spec["properties"].pop(name, None)
    spec["properties"]["gone"] = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    without_checks(spec)
    # A default that has come since: the model's, or a gateway would restart when it comes.
    for node in nodes(spec):
        node.pop("default", None)


def without_checks(schema: Object) -> None:
    """No CEL rules and no patterns."""
    for node in nodes(schema):
        for keyword in ("x-kubernetes-validations", "pattern", "maxLength", "maximum"):
            node.pop(keyword, None)


def nodes(schema: Any) -> Iterator[Object]:
    """Every schema inside of a schema."""
    yield schema
    for child in (schema.get("properties") or {}).values():
        yield from nodes(child)
    for inner in (schema.get("items"), schema.get("additionalProperties")):
        if isinstance(inner, dict):
            yield from nodes(inner)


async def replace_crds(client: Client, change: Callable[[Object], None]) -> None:
    """Install the CRDs with changed schemas, and wait until the API server goes by them."""
    for kind in KINDS:
        wanted = copy.deepcopy(crd(kind))
        change(wanted["spec"]["versions"][0]["schema"]["openAPIV3Schema"])
        path = CRD.path(None, wanted["metadata"]["name"])
        live = await client._request("GET", path, verb="get")
        marks = {**live["metadata"], "annotations": {"applied": str(int(live["metadata"]["generation"]) + 1)}}
        body = {**wanted, "metadata": marks}
        await client._request("PUT", path, verb="update", body=body)
        await _goes_by(client, kind, wanted["spec"]["versions"][0]["schema"]["openAPIV3Schema"])


async def _goes_by(client: Client, kind: dict[str, Any], schema: Object) -> None:
    """A CRD is taken up a moment after it is written; then an empty spec is defaulted, or refused, as it says."""
    name = f"probe-{kind['singular']}"
    body = {
        "apiVersion": "openclaw.io/v1alpha1",
        "kind": kind["kind"],
        "metadata": {"name": name},
        "spec": yaml.safe_load(PROBES[kind["kind"]])["spec"] | {"gone": {"x": 1}},
    }
    path = f"/apis/openclaw.io/v1alpha1/namespaces/default/{kind['plural']}"

    async def taken_up() -> bool:
        try:
            made = await client._request("POST", path, verb="create", params={"dryRun": "All"}, body=body)
        except ApiError as error:
            # What a request is told that comes while the kind's old storage is taken down.
            if error.status != 503:
                raise
            return False
        known = "gone" in schema["properties"]["spec"]["properties"]
        return ("gone" in made["spec"]) == known

    await eventually(taken_up, f"the CRD of {kind['kind']} is taken up", seconds=60)


MANIFESTS = {"Agent": FULL_AGENT, "Skill": SKILL, "MemoryStore": STORE}
PROBES = {**MANIFESTS, "MemoryRestore": RESTORE}


async def children(cluster: Cluster) -> dict[tuple[str, str], Object]:
    """What the operator made, without what counts its changes; of workloads what their pods are made of."""
    found = {}
    for kind in ("Deployment", "StatefulSet", "CronJob", "ConfigMap", "NetworkPolicy", "Service", "Pod"):
        for item in await cluster.all_of(kind, "app.kubernetes.io/managed-by=openclaw-operator"):
            found[kind, item["metadata"]["name"]] = item
    return found


async def settled(cluster: Cluster) -> None:
    for manifest in MANIFESTS.values():
        item = yaml.safe_load(manifest)
        await cluster.wait(
            item["kind"], item["metadata"]["name"], lambda each: bool(each.get("status", {}).get("conditions"))
        )
    await cluster.wait("Agent", "ada", lambda item: bool(item["status"].get("skills")))
    await cluster.wait("NetworkPolicy", "openclaw-sandbox", exists)


async def test_new_fields_and_removed_ones_restart_nothing(
    cluster: Cluster, start: Callable[[], OperatorProcess], server: ApiServer
) -> None:
    """The operator is new, then the CRDs are: in the order that `helm upgrade` may do it in."""
    await replace_crds(cluster.client, older)
    agent = changed(FULL_AGENT, "spec.gone", {"field": "of old"})
    await cluster.apply(STORE, changed(SKILL, "spec.gone", {"a": 1}), agent)
    operator = start()
    await settled(cluster)
    audit = Audit(server, cluster)
    await quiet(audit)
    before = await children(cluster)
    assert ("Deployment", "ada-gateway") in before
    written = len(audit.writes())
    operator.stop()
    await replace_crds(cluster.client, lambda _: None)
    assert "execution" in (await cluster.get("Agent", "ada"))["spec"]
    assert "gone" not in (await cluster.get("Agent", "ada"))["spec"]
    start()
    # Something it must react to, so that it is known to have come this far.
    await cluster.delete("Service", "ada-gateway")
    await cluster.wait("Service", "ada-gateway", exists)
    await quiet(audit)
    of_children = [write for write in audit.writes()[written:] if "/status" not in write[1] and write[1] != "events"]
    # The copy that backups keep of the resources says what they are now; no pod reads it until the next backup.
    assert sorted(of_children) == [("patch", "configmaps", "mem-backup"), ("patch", "services", "ada-gateway")]
    after = await children(cluster)
    for written_again in ("Service", "ada-gateway"), ("ConfigMap", "mem-backup"):
        before.pop(written_again)
        after.pop(written_again)
    assert after == before
    # What is edited now is checked by the new CRD, and done.
    edited = changed(FULL_AGENT, "spec.description", "under the new version")
    await cluster.apply(edited)
    await cluster.wait("ConfigMap", "ada-gateway", lambda item: "under the new version" in item["data"]["config.yaml"])


async def test_what_this_version_does_not_take_is_named_and_goes_on_running(
    cluster: Cluster, start: Callable[[], OperatorProcess], server: ApiServer
) -> None:
    start()
    await cluster.apply(STORE, SKILL, FULL_AGENT)
    await settled(cluster)
    before = (await cluster.get("Deployment", "ada-gateway"))["spec"]["template"]
    await replace_crds(cluster.client, without_checks)
    await cluster.patch("Agent", "ada", {"spec": {"role": "Chief Officer"}})
    await replace_crds(cluster.client, lambda _: None)
    message = await cluster.wait_condition("Agent", "ada", "Ready", "False", "InvalidSpec")
    assert message.startswith('spec.role: "Chief Officer": String should match pattern \'^[a-z]')
    assert message.endswith("correct it; until then what runs is left as it is")
    agent = await cluster.get("Agent", "ada")
    assert agent["status"]["skills"]
    assert (await cluster.get("Deployment", "ada-gateway"))["spec"]["template"] == before
    audit = Audit(server, cluster)
    await quiet(audit)
    # The children of the others are looked after meanwhile.
    await cluster.delete("Service", "mem-qdrant")
    await cluster.wait("Service", "mem-qdrant", exists)
    await cluster.patch("Agent", "ada", {"spec": {"role": "coordinator"}})
    await cluster.wait("Agent", "ada", lambda item: condition(item, "Ready").get("reason") != "InvalidSpec")
    assert (await cluster.get("Deployment", "ada-gateway"))["spec"]["template"] == before


async def test_the_commands_name_what_this_version_does_not_take_and_go_on(cluster: Cluster, server: ApiServer) -> None:
    reader = kubeconfig_of(server, READER)
    await replace_crds(cluster.client, without_checks)
    old = changed(FULL_AGENT, "spec.role", "Chief Officer")
    await cluster.apply(STORE, SKILL, old)
    await replace_crds(cluster.client, lambda _: None)
    fault = 'spec.role: "Chief Officer": String should match pattern'
    skill = changed(SKILL, "spec.source.inline.files", {"scripts/main.py": "def say(): 1\n"})
    # The Agent is not in the file, but would take up what is.
    code, out = await diff(server.kubeconfig, cluster, skill)
    assert code == 1, out
    assert "create ConfigMap echo-package-" in out
    named = f"Agent {cluster.namespace}/ada (uses Skill echo)"
    assert f"{named}\n  no child changes\n  not ready: InvalidSpec: {fault}" in out
    for who in server.kubeconfig, reader:
        code, out = await diff(who, cluster, f"{changed(old, 'spec.description', 'edited')}\n---\n{skill}")
        assert code == 1, out
        assert "create ConfigMap echo-package-" in out
        assert f"not ready: InvalidSpec: {fault}" in out
        assert "correct it; until then what runs is left as it is" in out
    code, found = await doctor(server.kubeconfig, cluster, "--no-probe")
    assert code == 1
    (finding,) = found["Resources"]
    assert finding["message"].startswith(f"Agent {cluster.namespace}/ada: {fault}")
    assert "Provider" not in found
    # One who may not write is told by this command what the API server would say.
    code, out = await diff(reader, cluster, changed(old, "spec.role", "Chief Cook"))
    assert 'would be refused: spec.role: "Chief Cook": String should match' in out

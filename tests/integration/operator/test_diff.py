"""`openclaw k8s diff` says beforehand what then happens, and writes nothing."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from openclaw_operator.cli.fields import differences
from openclaw_operator.cluster.client import Object
from openclaw_operator.cluster.kinds import CHILDREN
from tests.cluster.apiserver import ApiServer
from tests.integration.operator.conftest import Cluster, exists
from tests.integration.operator.manifests import AGENT, FULL_AGENT, SKILL, STORE
from tests.integration.operator.process import Operator
from tests.integration.operator.test_bad_input import changed
from tests.integration.operator.test_quiet import settle

OPENCLAW = Path(sys.executable).with_name("openclaw")


async def diff(kubeconfig: Path, cluster: Cluster, manifest: str, *arguments: str) -> tuple[int, str]:
    """Exit code and output of the command as a user runs it."""
    process = await asyncio.create_subprocess_exec(
        *(str(OPENCLAW), "k8s", "diff", "-f", "-", "-n", cluster.namespace, *arguments),
        env={**os.environ, "KUBECONFIG": str(kubeconfig)},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await process.communicate(manifest.encode())
    assert process.returncode is not None
    return process.returncode, out.decode()


async def children_of(kubeconfig: Path, cluster: Cluster, manifest: str) -> dict[tuple[str, str], Object]:
    """(kind, name) → the change that is predicted."""
    code, out = await diff(kubeconfig, cluster, manifest, "--output", "json")
    assert code in (0, 1), out
    return {
        (child["kind"], child["name"]): child
        for resource in json.loads(out)["resources"]
        for child in resource["children"]
    }


async def state(cluster: Cluster) -> dict[tuple[str, str], Object]:
    kinds = [kind.name for kind in CHILDREN if kind.name != "Pod" and not kind.from_addon]
    return {(kind, item["metadata"]["name"]): item for kind in kinds for item in await cluster.all_of(kind)}


def edited() -> str:
    """Something of everything: a field that is reloaded, two that restart, an env entry gone, an autoscaler gone."""
    agent = yaml.safe_load(FULL_AGENT)
    agent["spec"]["description"] = "edited"
    agent["spec"]["gateway"] = {"replicas": 2, "resources": {"limits": {"cpu": "2", "memory": "2Gi"}}}
    agent["spec"]["gateway"]["extraEnv"] = [{"name": "KEPT", "value": "1"}]
    return yaml.safe_dump(agent)


@pytest.mark.parametrize("who", ["admin", "reader"])
async def test_what_is_predicted_comes_true(
    cluster: Cluster, operator: Operator, server: ApiServer, reader: Path, who: str
) -> None:
    kubeconfig = server.kubeconfig if who == "admin" else reader
    env = [{"name": "KEPT", "value": "1"}, {"name": "GONE", "value": "2"}]
    await settle(cluster, changed(FULL_AGENT, "spec.gateway.extraEnv", env))
    # The store's backups keep a copy of the agent, which follows a moment later.
    await cluster.wait("ConfigMap", "mem-backup", lambda item: "GONE" in str(item["data"]))
    before = await state(cluster)
    predicted = await children_of(kubeconfig, cluster, edited())
    assert await state(cluster) == before
    predicted = {key: child for key, child in predicted.items() if key[0] != "Secret"}
    assert {key: child["action"] for key, child in predicted.items()} == {
        ("ConfigMap", "ada-gateway"): "change",
        ("ConfigMap", "mem-backup"): "change",
        ("Deployment", "ada-gateway"): "change",
        ("HorizontalPodAutoscaler", "ada-gateway"): "delete",
        ("Ingress", "ada-gateway"): "delete",
    }
    deployment = predicted["Deployment", "ada-gateway"]
    assert deployment["exact"] is (who == "admin")
    gone = {"path": "spec.template.spec.containers[gateway].env[GONE]", "before": env[1], "after": None}
    assert gone in deployment["fields"]
    await cluster.apply(edited())
    await cluster.wait_gone("HorizontalPodAutoscaler", "ada-gateway")
    await cluster.wait("Deployment", "ada-gateway", lambda item: item["spec"].get("replicas") == 2)
    await cluster.wait("ConfigMap", "ada-gateway", lambda item: "edited" in item["data"]["config.yaml"])
    # The copy of the agent that its store's backups keep follows a moment later.
    await cluster.wait("ConfigMap", "mem-backup", lambda item: "edited" in str(item["data"]))
    after = await state(cluster)
    for key in ("ConfigMap", "ada-gateway"), ("ConfigMap", "mem-backup"), ("Deployment", "ada-gateway"):
        fields = differences(key[0], before[key], after[key])
        assert {each.path: each.after for each in fields} == {
            each["path"]: each["after"] for each in predicted[key]["fields"]
        }
    code, out = await diff(server.kubeconfig, cluster, edited())
    assert (code, "no child changes" in out) == (0, True), out


async def test_a_soul_is_reloaded_and_a_limit_restarts(cluster: Cluster, operator: Operator, server: ApiServer) -> None:
    await cluster.apply(AGENT)
    await cluster.wait("Deployment", "ada-gateway", exists)
    code, out = await diff(server.kubeconfig, cluster, changed(AGENT, "spec.soul", {"inline": "I am new"}))
    assert code == 1
    assert 'data[config.yaml].claw.soul: "You are ada' in out
    assert "restart" not in out
    await cluster.patch_status("Deployment", "ada-gateway", {"replicas": 1})
    code, out = await diff(
        server.kubeconfig, cluster, changed(AGENT, "spec.gateway.resources", {"limits": {"memory": "4Gi"}})
    )
    assert code == 1
    assert "change Deployment ada-gateway: restarts 1 pod, with nothing answering meanwhile" in out
    assert 'resources.limits.memory: "2Gi" → "4Gi"' in out


async def test_new_resources_and_those_who_use_them(cluster: Cluster, operator: Operator, server: ApiServer) -> None:
    whole = "\n---\n".join((FULL_AGENT, SKILL, STORE))
    predicted = await children_of(server.kubeconfig, cluster, whole)
    assert {each["action"] for each in predicted.values()} == {"create"}
    await settle(cluster)
    of_the_namespace = {("NetworkPolicy", name) for name in ("openclaw-sandbox", "openclaw-sandbox-by-name")}
    others = {("ServiceAccount", "default"), ("ConfigMap", "kube-root-ca.crt"), *of_the_namespace}
    assert set(await state(cluster)) - others == set(predicted)
    # A new version of a skill reaches the agents that use it.
    code, out = await diff(
        server.kubeconfig, cluster, changed(SKILL, "spec.source.inline.files", {"scripts/main.py": "def say(): 1\n"})
    )
    assert code == 1
    assert "(uses Skill echo)" in out
    assert "installed[echo].digest" in out


async def test_what_would_not_work_is_said(cluster: Cluster, operator: Operator, server: ApiServer) -> None:
    code, out = await diff(server.kubeconfig, cluster, changed(AGENT, "spec.gateway.replicas", 2))
    assert code == 1
    assert "would be refused: " in out
    assert "set memory.storeRef to a MemoryStore" in out
    code, out = await diff(server.kubeconfig, cluster, changed(AGENT, "spec.skills", [{"name": "nope"}]))
    assert code == 1
    assert "not ready: SkillNotFound: spec.skills[0].name: Skill 'nope' does not exist" in out
    # What the server refuses the operator, and what it would refuse anybody.
    await cluster.apply(AGENT)
    await cluster.wait("PersistentVolumeClaim", "ada-workspace", exists)
    larger = changed(AGENT, "spec.workspace", {"size": "3Gi"})
    for phase, message in (("Pending", "spec is immutable"), ("Bound", "only dynamically provisioned pvc can be")):
        await cluster.patch_status("PersistentVolumeClaim", "ada-workspace", {"phase": phase})
        code, out = await diff(server.kubeconfig, cluster, larger)
        assert (code, message in out, "change PersistentVolumeClaim" in out) == (0, True, False), out
    remote = {"oci": {"reference": f"registry.invalid/skills/echo@sha256:{'0' * 64}"}}
    code, out = await diff(server.kubeconfig, cluster, changed(SKILL, "spec.source", remote))
    assert f"note: Skill {cluster.namespace}/echo depends on a remote source, which is not fetched here" in out


@pytest.mark.parametrize(
    ("text", "message"),
    [("a: [", "is not YAML"), ("{kind: Pod}", "holds no Agent, Skill or MemoryStore"), ("- 1", "has no kind")],
)
async def test_a_file_that_is_no_use(server: ApiServer, cluster: Cluster, text: str, message: str) -> None:
    code, out = await diff(server.kubeconfig, cluster, text)
    assert (code, message in out) == (2, True), out


def test_without_the_operators_package(monkeypatch: Any, capsys: Any) -> None:
    from openclaw_runtime import cli

    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(sys, "argv", ["openclaw", "k8s", "diff", "-f", "x"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1
    assert "needs the operator's package" in capsys.readouterr().err

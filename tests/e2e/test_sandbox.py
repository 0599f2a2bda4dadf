"""The wall around a skill, tried from inside: a probe skill in a real sandbox pod, signed with every permission."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from openclaw_runtime.sandbox.attachments import MAX_ATTACHMENT_BYTES
from openclaw_runtime.sandbox.client import UnreachableError
from openclaw_runtime.sandbox.errors import SandboxBusyError, SandboxError
from openclaw_runtime.sandbox.signing import Signer
from tests.demo import steps, workspace
from tests.demo.kube import Kube
from tests.e2e import sandbox

API_SERVER = ("10.96.0.1", 443)


@pytest.fixture(autouse=True)
def two_warm_pods(kube: Kube) -> None:
    steps.await_sandboxes(kube, 2, seconds=60)


def cluster_ip(kube: Kube, service: str) -> str:
    found = kube.get("service", service)
    assert found is not None
    address: str = found["spec"]["clusterIP"]
    return address


async def test_inside_there_is_nothing_to_take(kube: Kube) -> None:
    seen = await sandbox.call_once(kube, "look", {})
    assert seen["uid"] == 10001
    assert seen["token"] is False
    assert seen["mounted_secrets"] == []
    assert set(seen["writable"]) <= {"/workspace", "/tmp"}
    assert seen["capabilities"] == 0
    assert seen["no_new_privileges"] == "1"
    assert seen["seccomp"] == "2"
    names = {*seen["environment"], *seen["parent_environment"]}
    assert not [name for name in names if re.search(r"KEY$|TOKEN|SECRET|PASSWORD", name)], names


@pytest.fixture
def rememberer(kube: Kube) -> Iterator[str]:
    """An Agent that keeps its memory on its workspace, with a Skill that may read that and one that may write it."""
    skills = [
        {
            "apiVersion": "openclaw.io/v1alpha1",
            "kind": "Skill",
            "metadata": {"name": f"with-{access}"},
            "spec": {
                "version": "1.0.0",
                "source": {"inline": {"files": {"scripts/main.py": "async def act(ctx, input): ..."}}},
                "actions": [{"name": "act", "description": "Acts."}],
                "permissions": [f"filesystem:{access}"],
                "sandbox": {"warm": 1},
            },
        }
        for access in ("read", "write")
    ]
    agent = {
        "apiVersion": "openclaw.io/v1alpha1",
        "kind": "Agent",
        "metadata": {"name": "rememberer"},
        "spec": {
            "model": {"provider": "openai-compatible", "name": "none", "baseURL": "http://127.0.0.1:1/v1"},
            "skills": [{"name": "with-read"}, {"name": "with-write"}],
        },
    }
    kube.apply(*skills, agent)
    yield "rememberer"
    kube.delete("agent/rememberer", "skill/with-read", "skill/with-write")


async def test_what_an_agent_remembers_is_not_there_for_its_skills(kube: Kube, rememberer: str) -> None:
    selector = f"openclaw.io/workspace={rememberer}-workspace"
    kube.wait("condition=Ready", f"agent/{rememberer}", seconds=steps.READY_SECONDS)
    steps.await_sandboxes(kube, 2, seconds=60, selector=selector)
    for pod in kube.items("pods", selector):
        with sandbox.endpoint(kube, pod) as where:
            seen = (await sandbox.probe(sandbox.signer(kube), where, "own_data", {})).output
        assert seen == {"seen": [], "done": []}
    gateway = kube.items("pods", f"openclaw.io/agent={rememberer},app.kubernetes.io/name=gateway")[0]
    kept = kube.exec(gateway["metadata"]["name"], "ls", "/workspace/.openclaw").split()
    assert {"records.db", "vectors", "nothing"} <= set(kept)


async def test_there_is_no_way_out(kube: Kube) -> None:
    coordinator = kube.items("pods", "openclaw.io/agent=coordinator,app.kubernetes.io/name=gateway")[0]
    stores: list[sandbox.Target] = [
        (cluster_ip(kube, "memory-redis"), 6379),
        (cluster_ip(kube, "memory-postgresql"), 5432),
    ]
    others: list[sandbox.Target] = [
        API_SERVER,
        (cluster_ip(kube, "llm"), 8000),
        (coordinator["status"]["podIP"], 7456),
        (coordinator["status"]["hostIP"], 10250),
        (sandbox.name_server(kube), 53, "udp"),
    ]
    # The same connections are possible where no policy is in the way, so the probe can tell.
    name = coordinator["metadata"]["name"]
    for pod, open_to_it in ((name, stores), (workspace.SHELL, others)):
        found = sandbox.connect_from_pod(kube, pod, open_to_it)
        assert found == dict.fromkeys(sandbox.names_of(open_to_it), "connected")

    seen = await sandbox.call_once(kube, "connect", {"targets": [*stores, *others]})
    assert seen.keys() == sandbox.names_of([*stores, *others])
    assert "connected" not in seen.values(), seen


def test_only_gateways_reach_a_sandbox_pod(kube: Kube) -> None:
    address = sandbox.warm_pod(kube)["status"]["podIP"]
    targets = [(address, sandbox.PORT)]
    assert sandbox.connect_from_pod(kube, workspace.SHELL, targets) == {f"{address}:{sandbox.PORT}": "TimeoutError"}
    gateway = kube.items("pods", "openclaw.io/agent=code-expert,app.kubernetes.io/name=gateway")[0]
    from_gateway = sandbox.connect_from_pod(kube, gateway["metadata"]["name"], targets)
    assert from_gateway == {f"{address}:{sandbox.PORT}": "connected"}


async def test_a_pod_is_good_for_one_call(kube: Kube) -> None:
    pod, key = sandbox.warm_pod(kube), sandbox.signer(kube)
    name = pod["metadata"]["name"]
    with sandbox.endpoint(kube, pod) as where:
        await sandbox.probe(key, where, "look", {})
        with pytest.raises((UnreachableError, SandboxBusyError)):
            await sandbox.probe(key, where, "look", {})
    kube.wait("delete", f"pod/{name}", seconds=60)


async def test_the_files_of_a_call_arrive_before_their_pod_is_gone(kube: Kube) -> None:
    pod = sandbox.warm_pod(kube)
    with sandbox.endpoint(kube, pod) as where:
        result = await sandbox.probe(sandbox.signer(kube), where, "give", {"size": MAX_ATTACHMENT_BYTES})
    assert [(each.name, len(each.data)) for each in result.attachments] == [("large.bin", MAX_ATTACHMENT_BYTES)]
    kube.wait("delete", f"pod/{pod['metadata']['name']}", seconds=60)


async def test_a_call_signed_with_another_key_is_refused(kube: Kube) -> None:
    pod = sandbox.warm_pod(kube)
    with sandbox.endpoint(kube, pod) as where:
        with pytest.raises(SandboxError) as refused:
            await sandbox.probe(Signer.generate(), where, "look", {})
        assert "no key of this pod made it" in str(refused.value)


def test_the_pod_meets_pod_security_restricted(kube: Kube) -> None:
    pod = sandbox.warm_pod(kube)["spec"]
    (container,) = pod["containers"]
    assert pod["automountServiceAccountToken"] is False
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert {next(iter(set(volume) - {"name"})) for volume in pod["volumes"]} <= {"emptyDir", "persistentVolumeClaim"}
    namespace = kube.get("namespace", kube.namespace)
    assert namespace is not None
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"

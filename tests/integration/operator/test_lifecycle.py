"""Toggles, readiness, deletion, pools."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import yaml

from openclaw_operator.cluster.client import Object
from openclaw_operator.cluster.kinds import CHILDREN
from tests.integration.operator.conftest import Audit, Cluster, exists
from tests.integration.operator.manifests import AGENT, FULL_AGENT, SKILL, STORE
from tests.integration.operator.process import Operator, OperatorProcess
from tests.integration.operator.test_bad_input import changed, quiet
from tests.integration.operator.test_quiet import settle

SERVERS = ("qdrant", "postgresql", "redis")
EXTERNAL_SERVERS = {
    "vector": {"qdrant": {"external": {"url": "http://qdrant:6333"}}},
    "records": {"postgresql": {"external": {"url": "postgresql://me@db/x"}}},
    "cache": {"redis": {"external": {"url": "redis://cache:6379/0"}}},
}
RUNNING_AND_READY = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}


async def test_autoscaling_off_prunes_and_takes_the_replicas_back(cluster: Cluster, operator: Operator) -> None:
    await settle(cluster)
    await cluster.patch("Deployment", "ada-gateway", {"spec": {"replicas": 6}})
    agent = yaml.safe_load(FULL_AGENT)
    agent["spec"]["gateway"] = {"replicas": 2}
    await cluster.apply(yaml.safe_dump(agent))
    await cluster.wait_gone("HorizontalPodAutoscaler", "ada-gateway")
    await cluster.wait("Deployment", "ada-gateway", lambda item: item["spec"]["replicas"] == 2)
    # And on again: the autoscaler gets what is there, not one replica.
    await cluster.apply(changed(yaml.safe_dump(agent), "spec.gateway.replicas", 5))
    await cluster.wait("Deployment", "ada-gateway", lambda item: item["spec"]["replicas"] == 5)
    seen: list[int] = []
    await cluster.apply(FULL_AGENT)

    def released(item: Object) -> bool:
        seen.append(item["spec"]["replicas"])
        return bool(item["metadata"]["labels"]["openclaw.io/scaled-by"] == "autoscaler")

    await cluster.wait("Deployment", "ada-gateway", released)
    await cluster.wait("HorizontalPodAutoscaler", "ada-gateway", exists)
    assert set(seen) == {5}


async def test_what_a_spec_no_longer_asks_for_goes(cluster: Cluster, operator: Operator) -> None:
    """One edit each of an Agent and a MemoryStore takes away every child that only a field of theirs had made."""
    await settle(cluster)
    # Of records and cache it says nothing: a default that were stored would stand in the way of `external`.
    await cluster.apply(changed(STORE, "spec.backup.drill", {}))
    await cluster.wait("CronJob", "mem-drill", exists)
    before = await children(cluster)
    await cluster.apply(changed(FULL_AGENT, "spec.gateway", {"replicas": 2}))
    await cluster.apply(changed(STORE, "spec", EXTERNAL_SERVERS))
    gone = {
        ("Ingress", "ada-gateway"),
        ("HorizontalPodAutoscaler", "ada-gateway"),
        *((kind, f"mem-{part}") for kind in ("CronJob", "ConfigMap") for part in ("backup", "drill")),
        ("NetworkPolicy", "mem-drill"),
        *((kind, f"mem-{server}") for kind in ("StatefulSet", "Service", "NetworkPolicy") for server in SERVERS),
    }
    assert gone <= before
    for kind, name in gone:
        await cluster.wait_gone(kind, name)
    left = await children(cluster)
    # A password is kept for those who go back; volumes are the servers' own.
    assert ("Secret", "mem-memory") in left
    assert before - left >= gone
    assert not {child for child in left if child[0] == "StatefulSet"}


async def test_a_skill_and_a_store_know_when_nobody_uses_them(
    cluster: Cluster, operator: Operator, audit: Audit
) -> None:
    await settle(cluster)
    await cluster.wait("Skill", "echo", lambda item: item["status"].get("usedBy") == ["ada"])
    await quiet(audit)
    alone = changed(changed(FULL_AGENT, "spec.skills", []), "spec.memory", {})
    await cluster.apply(changed(alone, "spec.gateway", {}))
    await cluster.wait("MemoryStore", "mem", lambda item: item["status"]["users"] == 0)
    unused = {"users", "usedBy", "pools"}
    skill = await cluster.wait("Skill", "echo", lambda item: not item["status"]["users"])
    assert not any(skill["status"].get(field) for field in unused)


async def children(cluster: Cluster) -> set[tuple[str, str]]:
    """(kind, name) of what the operator has made in the namespace, pods aside."""
    kinds = [kind for kind in CHILDREN if kind.name != "Pod" and not kind.from_addon]
    return {
        (kind.name, item["metadata"]["name"])
        for kind in kinds
        for item in await cluster.all_of(kind.name, kind.selector)
    }


async def test_suspend_and_resume(cluster: Cluster, operator: Operator) -> None:
    await settle(cluster)
    await cluster.apply(changed(FULL_AGENT, "spec.suspend", True))
    message = await cluster.wait_condition("Agent", "ada", "Ready", "False", "Suspended")
    assert "set it to false" in message
    await cluster.wait("Deployment", "ada-gateway", lambda item: item["spec"]["replicas"] == 0)
    await cluster.wait_gone("HorizontalPodAutoscaler", "ada-gateway")
    await cluster.apply(FULL_AGENT)
    await cluster.wait("HorizontalPodAutoscaler", "ada-gateway", exists)
    await cluster.wait("Deployment", "ada-gateway", lambda item: item["spec"]["replicas"] >= 1)


async def test_text_reaches_the_children_as_it_was_written(cluster: Cluster, operator: Operator, audit: Audit) -> None:
    """A server-side apply is read as YAML, which knows no surrogate pairs and takes other characters for line ends."""
    text = "Grüße, 你好, \U0001f600 \u2028 \u0085 \x7f \\ud83d\\ude00 \ufeff!"
    agent = changed(AGENT, "spec.soul", {"inline": text})
    agent = changed(agent, "spec.gateway", {"extraEnv": [{"name": "GREETING", "value": text}]})
    await cluster.create(agent)
    await cluster.wait_condition("Agent", "ada", "ChildrenApplied", "True", "Applied")
    config = yaml.safe_load((await cluster.get("ConfigMap", "ada-gateway"))["data"]["config.yaml"])
    assert config["claw"]["soul"] == text
    pod = (await cluster.get("Deployment", "ada-gateway"))["spec"]["template"]["spec"]
    assert text in [item.get("value") for item in pod["containers"][0]["env"]]
    await quiet(audit)


async def test_soul_edit_does_not_restart_the_gateway(cluster: Cluster, operator: Operator) -> None:
    await cluster.apply(AGENT)
    before = await cluster.wait("Deployment", "ada-gateway", exists)
    await cluster.apply(changed(AGENT, "spec.soul", {"inline": "I am new"}))
    await cluster.wait("ConfigMap", "ada-gateway", lambda item: "I am new" in item["data"]["config.yaml"])
    after = await cluster.get("Deployment", "ada-gateway")
    assert after["metadata"]["generation"] == before["metadata"]["generation"]


async def test_readiness_follows_the_gateway(cluster: Cluster, operator: Operator) -> None:
    await cluster.apply(AGENT)
    deployment = await cluster.wait("Deployment", "ada-gateway", exists)
    await cluster.wait_condition("Agent", "ada", "Ready", "False", "Progressing")
    counts = dict.fromkeys(("replicas", "readyReplicas", "updatedReplicas", "availableReplicas"), 1)
    generation = deployment["metadata"]["generation"]
    await cluster.patch_status("Deployment", "ada-gateway", {"observedGeneration": generation, **counts})
    await cluster.wait_condition("Agent", "ada", "Ready", "True", "Ready")
    agent = await cluster.get("Agent", "ada")
    assert agent["status"]["replicas"] == agent["status"]["readyReplicas"] == 1
    assert agent["status"]["endpoint"] == f"http://ada-gateway.{cluster.namespace}.svc.cluster.local:7456/v1"


async def test_a_restart_that_is_held_back_is_told_until_it_is_done(cluster: Cluster, operator: Operator) -> None:
    async def pods(updated: int) -> None:
        """As the controller of Deployments would tell of the one pod there is."""
        counts = dict.fromkeys(("replicas", "readyReplicas", "availableReplicas"), 1)
        generation = (await cluster.get("Deployment", "ada-gateway"))["metadata"]["generation"]
        told = {"observedGeneration": generation, "updatedReplicas": updated, **counts}
        await cluster.patch_status("Deployment", "ada-gateway", told)

    def paused(value: bool) -> str:
        gateway = {"rollout": {"paused": value}, "extraEnv": [{"name": "NEW", "value": "1"}]}
        return changed(AGENT, "spec.gateway", gateway)

    await cluster.apply(AGENT)
    await cluster.wait("Deployment", "ada-gateway", exists)
    await pods(updated=1)
    await cluster.wait_condition("Agent", "ada", "Ready", "True", "Ready")
    assert "pendingRestart" not in (await cluster.get("Agent", "ada"))["status"]
    await cluster.apply(paused(True))
    await cluster.wait("Deployment", "ada-gateway", lambda item: bool(item["spec"].get("paused")))
    await pods(updated=0)
    agent = await cluster.wait("Agent", "ada", lambda item: "pendingRestart" in item["status"])
    held = "spec.gateway.rollout.paused is true: set it to false to restart them"
    assert agent["status"]["pendingRestart"] == {"pods": 1, "message": held}
    await cluster.apply(paused(False))
    await cluster.wait("Deployment", "ada-gateway", lambda item: not item["spec"].get("paused"))
    await pods(updated=1)
    await cluster.wait("Agent", "ada", lambda item: "pendingRestart" not in item["status"])


async def test_the_scale_subresource_is_what_scales(cluster: Cluster, operator: Operator) -> None:
    await settle(cluster, changed(FULL_AGENT, "spec.gateway", {"replicas": 2}))
    await cluster.wait("Deployment", "ada-gateway", lambda item: item["spec"]["replicas"] == 2)
    path = f"/apis/openclaw.io/v1alpha1/namespaces/{cluster.namespace}/agents/ada/scale"
    scale = await cluster.client._request("GET", path, verb="get")
    assert scale["spec"]["replicas"] == 2
    assert scale["status"]["selector"] == "app.kubernetes.io/name=gateway,openclaw.io/agent=ada"
    # As kubectl scale does.
    for replicas in (3, 0):
        await cluster.client._request(
            "PATCH",
            path,
            verb="patch",
            body={"spec": {"replicas": replicas}},
            headers={"Content-Type": "application/merge-patch+json"},
        )

        def scaled(item: Object, replicas: int = replicas) -> bool:
            return bool(item["spec"]["replicas"] == replicas)

        await cluster.wait("Deployment", "ada-gateway", scaled)
    assert (await cluster.get("Agent", "ada"))["spec"]["gateway"]["replicas"] == 0


async def test_team_members_by_name_and_label(cluster: Cluster, operator: Operator) -> None:
    await cluster.apply(
        changed(AGENT, "spec.team", {"members": [{"name": "bob"}], "selector": {"matchLabels": {"team": "x"}}})
    )
    await cluster.wait("ConfigMap", "ada-gateway", lambda item: members(item) == [])
    await cluster.apply(changed(AGENT, "metadata", {"name": "bob"}))
    await cluster.apply(changed(changed(AGENT, "metadata.name", "eve"), "metadata.labels", {"team": "x"}))
    await cluster.wait("ConfigMap", "ada-gateway", lambda item: members(item) == ["bob", "eve"])
    await cluster.delete("Agent", "bob")
    await cluster.wait("ConfigMap", "ada-gateway", lambda item: members(item) == ["eve"])


def members(config_map: Object) -> list[str]:
    config = json.loads(config_map["data"]["config.yaml"])
    return [member["name"] for member in config["team"]["members"]]


async def test_new_skill_version_reaches_agents(cluster: Cluster, operator: Operator) -> None:
    await settle(cluster)
    first = (await cluster.get("Skill", "echo"))["status"]["digest"]
    new = changed(SKILL, "spec.source.inline.files", {"scripts/main.py": "def say(ctx, input): return 2\n"})
    await cluster.apply(changed(new, "spec.version", "1.3.0"))
    agent = await cluster.wait(
        "Agent", "ada", lambda item: [skill["version"] for skill in item["status"]["skills"]] == ["1.3.0"]
    )
    digest = agent["status"]["skills"][0]["digest"]
    assert digest != first
    config = json.loads((await cluster.get("ConfigMap", "ada-gateway"))["data"]["config.yaml"])
    assert config["skills"]["installed"][0]["digest"] == digest
    # The package before it stays for gateways that still read the old configuration; older ones go.
    packages = await cluster.all_of("ConfigMap", "app.kubernetes.io/name=skill-package")
    assert {item["metadata"]["labels"]["openclaw.io/digest"] for item in packages} == {first[7:70], digest[7:70]}


async def pods(cluster: Cluster) -> list[Object]:
    return [pod for pod in await cluster.all_of("Pod") if "deletionTimestamp" not in pod["metadata"]]


async def test_pool_keeps_its_pods_warm(cluster: Cluster, operator: Operator) -> None:
    await settle(cluster)
    first, second = await wait_pods(cluster, 2)
    for pod in (first, second):
        assert pod["metadata"]["labels"]["openclaw.io/pool"] in pod["metadata"]["name"]
        assert "annotations" not in pod["metadata"]
        assert pod["spec"]["automountServiceAccountToken"] is False
        await cluster.patch_status("Pod", pod["metadata"]["name"], RUNNING_AND_READY)
    # One takes a call: it turns unready, and a third is made at once.
    busy = {"conditions": [{"type": "Ready", "status": "False"}]}
    await cluster.patch_status("Pod", first["metadata"]["name"], busy)
    third = next(pod for pod in await wait_pods(cluster, 3) if pod["metadata"]["name"] not in names(first, second))
    # It ends and goes; nothing more is made.
    await cluster.patch_status("Pod", first["metadata"]["name"], {"phase": "Succeeded"})
    await cluster.wait_gone("Pod", first["metadata"]["name"])
    assert {pod["metadata"]["name"] for pod in await pods(cluster)} == names(second, third)
    # Fewer are wanted: the one that is not ready goes.
    await cluster.apply(changed(SKILL, "spec.sandbox", {"warm": 1}))
    await cluster.wait_gone("Pod", third["metadata"]["name"])
    # The agent goes: so do its pods, the policy and the key.
    await cluster.delete("Agent", "ada")
    await cluster.wait_gone("Pod", second["metadata"]["name"])
    await cluster.wait_gone("NetworkPolicy", "openclaw-sandbox")
    await cluster.wait_gone("Secret", "openclaw-sandbox-signing")


def names(*items: Object) -> set[str]:
    return {item["metadata"]["name"] for item in items}


async def wait_pods(cluster: Cluster, count: int) -> list[Object]:
    """Watch until there are that many pods."""
    found = await pods(cluster)
    if len(found) != count:
        await cluster.wait_any("Pod", lambda seen: len(seen) == count)
        found = await pods(cluster)
    assert len(found) == count
    return found


async def test_pods_that_never_start_are_not_made_in_a_loop(cluster: Cluster, operator: Operator) -> None:
    await settle(cluster)
    made: set[str] = set()
    for _ in range(3):
        for pod in await pods(cluster):
            made.add(pod["metadata"]["name"])
            await cluster.patch_status("Pod", pod["metadata"]["name"], {"phase": "Failed"})
            await cluster.wait_gone("Pod", pod["metadata"]["name"])
    made |= names(*await pods(cluster))
    assert len(made) <= 4


async def test_new_signing_key_replaces_idle_pods(cluster: Cluster, operator: Operator) -> None:
    await settle(cluster)
    before = names(*await wait_pods(cluster, 2))
    await cluster.delete("Secret", "openclaw-sandbox-signing")
    for name in before:
        await cluster.wait_gone("Pod", name)
    key = (await cluster.get("Secret", "openclaw-sandbox-signing"))["data"]["public.key"]
    for pod in await wait_pods(cluster, 2):
        env = {item["name"]: item.get("value") for item in pod["spec"]["containers"][0]["env"]}
        assert env["OPENCLAW_SANDBOX_PUBLIC_KEYS"] == key


async def test_events_tell_of_transitions_only(cluster: Cluster, operator: Operator) -> None:
    await cluster.apply(changed(AGENT, "spec.memory", {"storeRef": {"name": "mem"}}))
    await cluster.wait_condition("Agent", "ada", "Ready", "False", "MemoryStoreNotFound")
    await cluster.apply(changed(AGENT, "spec.memory", {"storeRef": {"name": "gone"}}))
    await cluster.wait("Agent", "ada", lambda item: "'gone'" in item["status"]["conditions"][-1]["message"])
    events = [item for item in await cluster.all_of("Event") if item["regarding"]["name"] == "ada"]
    assert [event["reason"] for event in events] == ["MemoryStoreNotFound"]
    assert "create it or name another" in events[0]["note"]


async def test_deletion_takes_all_but_what_is_retained(
    full_cluster: Cluster, start_operator: Callable[[], OperatorProcess]
) -> None:
    cluster = full_cluster
    start_operator()
    await cluster.apply(STORE, SKILL, changed(FULL_AGENT, "spec.workspace.reclaimPolicy", "Retain"))
    await cluster.wait("Agent", "ada", lambda item: bool(item.get("status", {}).get("skills")))
    await cluster.wait("StatefulSet", "mem-redis", exists)
    password = (await cluster.get("Secret", "mem-memory"))["data"]
    for kind, name in (("Agent", "ada"), ("Skill", "echo"), ("MemoryStore", "mem")):
        await cluster.delete(kind, name)
        await cluster.wait_gone(kind, name)
    for kind, name in (
        ("Deployment", "ada-gateway"),
        ("HorizontalPodAutoscaler", "ada-gateway"),
        ("Secret", "ada-gateway-token"),
        ("StatefulSet", "mem-qdrant"),
        ("CronJob", "mem-backup"),
        ("NetworkPolicy", "openclaw-sandbox"),
    ):
        # The garbage collector looks for kinds it does not know, as ours are on a new server, every 30 s.
        await cluster.wait_gone(kind, name, seconds=90)
    assert await cluster.get("PersistentVolumeClaim", "ada-workspace")
    assert (await cluster.get("Secret", "mem-memory"))["data"] == password
    # Made again under the same name, they take up what was left.
    await cluster.apply(STORE, SKILL, FULL_AGENT)
    await cluster.wait_condition("Agent", "ada", "ChildrenApplied", "True", "Applied")
    await cluster.wait_condition("MemoryStore", "mem", "ChildrenApplied", "True", "Applied")
    assert (await cluster.get("Secret", "mem-memory"))["data"] == password
    claim = await cluster.get("PersistentVolumeClaim", "ada-workspace")
    assert claim["metadata"]["ownerReferences"][0]["kind"] == "Agent"


async def test_scaling_of_the_real_controllers_settles(
    full_cluster: Cluster, start_operator: Callable[[], OperatorProcess]
) -> None:
    start_operator()
    await full_cluster.apply(STORE, SKILL, changed(FULL_AGENT, "spec.gateway", {"replicas": 2}))
    agent: Any = await full_cluster.wait("Agent", "ada", lambda item: item.get("status", {}).get("replicas") == 2)
    assert agent["status"]["readyReplicas"] == 0


async def test_the_operator_ends_at_once_when_told_to(
    full_cluster: Cluster, start_operator: Callable[[], OperatorProcess]
) -> None:
    """kopf waits 5 s for tasks that never end where it is given any: a rollout of the operator would wait with it."""
    operator = start_operator()
    await settle(full_cluster)
    started = time.monotonic()
    operator.stop()
    assert operator.process.returncode == 0
    # Far from both what it takes (0.2 s) and what it took (6 s), so that a busy host does not matter.
    assert time.monotonic() - started < 4

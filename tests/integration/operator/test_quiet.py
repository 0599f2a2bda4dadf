"""Nothing is written without a reason, and what is changed comes back."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import httpx
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from openclaw_operator.cluster.client import FIELD_MANAGER, Object
from openclaw_operator.cluster.kinds import BY_NAME, PRIMARY
from openclaw_operator.cluster.kinds import CHILDREN as KINDS
from tests.cluster.apiserver import ApiServer
from tests.cluster.processes import free_ports
from tests.contract.helm import ok, program, run
from tests.integration.operator.conftest import Audit, Cluster, condition, exists
from tests.integration.operator.manifests import AGENT, FULL_AGENT, RESTORE, SKILL, STORE
from tests.integration.operator.process import Operator, OperatorProcess
from tests.integration.operator.test_bad_input import changed, quiet
from tests.unit.gitops.test_argocd_health import health


def relabelled(_item: Object) -> Object:
    return {"metadata": {"labels": {"app.kubernetes.io/name": "x"}}}


def with_other_values(item: Object) -> Object:
    values = {field: next(iter(item[field])) for field in ("data", "binaryData") if item.get(field)}
    if item.get("immutable") or not values:
        # A package; what the activator has to say, which is its own.
        return relabelled(item)
    return {field: {key: "eA=="} for field, key in values.items()}


def with_other_images(item: Object) -> Object:
    containers = [{**each, "image": "x"} for each in item["spec"]["template"]["spec"]["containers"]]
    return {"spec": {"template": {"spec": {"containers": containers}}}}


# Kind → the merge patch somebody makes of an object of it, which must not last.
EDITS: dict[str, Callable[[Object], Object]] = {
    "ServiceAccount": relabelled,
    "Role": lambda _: {"rules": []},
    "RoleBinding": lambda _: {"subjects": []},
    "Secret": lambda item: {"data": {next(iter(item["data"])): None}},
    "ConfigMap": with_other_values,
    "PersistentVolumeClaim": relabelled,
    "Service": lambda _: {"spec": {"selector": {"openclaw.io/agent": "x"}}},
    "NetworkPolicy": lambda item: {"spec": {item["spec"]["policyTypes"][0].lower(): [{}]}},
    "Deployment": with_other_images,
    "StatefulSet": with_other_images,
    "CronJob": lambda _: {"spec": {"schedule": "0 3 * * *"}},
    "HorizontalPodAutoscaler": lambda _: {"spec": {"maxReplicas": 99}},
    "PodDisruptionBudget": lambda _: {"spec": {"maxUnavailable": 7}},
    "Ingress": lambda _: {"spec": {"rules": [{"host": "other.example.org"}]}},
}
# Besides what `settle` makes: servers of every sort, a drill, the egress proxy, and the activator.
STORE_WITH_DRILL = changed(STORE, "spec.backup.drill", {})
NETWORKED_SKILL = changed(
    changed(changed(SKILL, "metadata.name", "asking"), "spec.permissions", ["network:external"]),
    "spec.allowedDomains",
    ["example.org"],
)
NETWORKED_AGENT = changed(FULL_AGENT, "spec.skills", [{"name": "echo", "version": "^1.0.0"}, {"name": "asking"}])
SLEEPER = changed(changed(AGENT, "metadata.name", "bob"), "spec.gateway", {"hibernation": {}})


# An autoscaler would go on changing things for a while.
FIXED_AGENT = changed(FULL_AGENT, "spec.gateway", {"replicas": 2})


async def settle(cluster: Cluster, agent: str = FULL_AGENT) -> None:
    """A store, a skill and an agent with every kind of child."""
    await cluster.apply(STORE, SKILL, agent)
    await cluster.wait("Agent", "ada", lambda item: bool(item.get("status", {}).get("skills")))
    await cluster.wait("Skill", "echo", lambda item: item.get("status", {}).get("users") == 1)
    await cluster.wait("MemoryStore", "mem", lambda item: item.get("status", {}).get("users") == 1)
    await cluster.wait("NetworkPolicy", "openclaw-sandbox", exists)


def essence(item: dict[str, Any]) -> dict[str, Any]:
    """An object without what changes with every write."""
    meta = {key: item["metadata"].get(key) for key in ("name", "labels", "annotations", "ownerReferences")}
    # The items of a list have no apiVersion and kind.
    rest = {key: value for key, value in item.items() if key not in ("apiVersion", "kind", "metadata", "status")}
    return {**rest, "metadata": meta}


async def settle_everything(cluster: Cluster, audit: Audit) -> list[tuple[str, str]]:
    """(kind, name) of all that the operator makes."""
    await cluster.apply(NETWORKED_SKILL, SLEEPER)
    await settle(cluster, NETWORKED_AGENT)
    await cluster.apply(STORE_WITH_DRILL)
    for kind, name in (
        ("CronJob", "mem-drill"),
        ("Deployment", "openclaw-egress"),
        ("Deployment", "openclaw-activator"),
    ):
        await cluster.wait(kind, name, exists)
    await quiet(audit)
    return [
        (kind.name, item["metadata"]["name"])
        for kind in KINDS
        if kind.name != "Pod" and not kind.from_addon
        for item in await cluster.all_of(kind.name, kind.selector)
    ]


async def test_edited_children_come_back(cluster: Cluster, operator: Operator, audit: Audit) -> None:
    """By the event of the edit: everything is looked at again only long after this has given up waiting."""
    children = await settle_everything(cluster, audit)
    # Others hold what is made of Secrets. Nobody chooses a signing key by taking one away: SigningKeyBroken is told.
    secrets = [child for child in children if child[0] == "Secret" and child[1] != "openclaw-sandbox-signing"]
    for group in (secrets, [child for child in children if child[0] != "Secret"]):
        for kind, name in group:
            before = await cluster.get(kind, name)
            edited = await cluster.patch(kind, name, EDITS[kind](before))
            assert essence(edited) != essence(before), f"{kind} {name}: the edit changed nothing"

            def repaired(item: Object, before: Object = before, kind: str = kind) -> bool:
                return same(kind, essence(item), essence(before))

            await cluster.wait(kind, name, repaired)
        await quiet(audit)


def same(kind: str, left: dict[str, Any], right: dict[str, Any]) -> bool:
    """Equal; of Secrets the keys and labels only, since a value that was taken away is made anew."""
    if kind == "Secret":
        labels = [each["metadata"]["labels"] for each in (left, right)]
        return left.get("data", {}).keys() == right["data"].keys() and bool(labels[0] == labels[1])
    return left == right


async def test_deleted_children_come_back(cluster: Cluster, operator: Operator, audit: Audit) -> None:
    children = await settle_everything(cluster, audit)
    gone = {child: (await cluster.get(*child))["metadata"]["uid"] for child in children}
    for kind, name in children:
        await cluster.delete(kind, name)
    for (kind, name), uid in gone.items():

        def new(item: Object, uid: str = uid) -> bool:
            return bool(item["metadata"]["uid"] != uid)

        await cluster.wait(kind, name, new)
    await quiet(audit)


async def test_what_others_add_is_left_alone(cluster: Cluster, operator: Operator, audit: Audit) -> None:
    await settle(cluster)
    await cluster.patch("Service", "ada-gateway", {"metadata": {"annotations": {"example.org/note": "mine"}}})
    await cluster.patch("Deployment", "ada-gateway", {"spec": {"replicas": 7}})
    await cluster.patch("ConfigMap", "ada-gateway", {"data": {"more": "x"}})
    await inject_sidecar(cluster)
    await quiet(audit)
    assert (await cluster.get("Deployment", "ada-gateway"))["spec"]["replicas"] == 7
    # And it stays when the operator has something of its own to change.
    await cluster.apply(changed(FULL_AGENT, "spec.gateway.extraEnv", [{"name": "NEW", "value": "1"}]))
    deployment = await cluster.wait("Deployment", "ada-gateway", lambda item: '"NEW"' in json.dumps(item["spec"]))
    pod = deployment["spec"]["template"]["spec"]
    assert {each["name"] for each in pod["containers"]} == {"gateway", "mesh"}
    assert "mesh" in [each["name"] for each in pod["volumes"]]
    assert pod["tolerations"] == [{"key": "spot", "operator": "Exists"}]
    assert deployment["spec"]["template"]["metadata"]["annotations"]["example.org/injected"] == "true"
    assert deployment["spec"]["replicas"] == 7
    assert (await cluster.get("Service", "ada-gateway"))["metadata"]["annotations"]["example.org/note"] == "mine"
    await quiet(audit)


async def inject_sidecar(cluster: Cluster) -> None:
    """What somebody adds to the pods of a gateway: a container, a volume, a toleration."""
    pod = {
        "containers": [{"name": "mesh", "image": "mesh", "volumeMounts": [{"name": "mesh", "mountPath": "/mesh"}]}],
        "volumes": [{"name": "mesh", "emptyDir": {}}],
        "tolerations": [{"key": "spot", "operator": "Exists"}],
    }
    template = {"metadata": {"annotations": {"example.org/injected": "true"}}, "spec": pod}
    await cluster.client._request(
        "PATCH",
        BY_NAME["Deployment"].path(cluster.namespace, "ada-gateway"),
        verb="patch",
        params={"fieldManager": "injector"},
        body={"spec": {"template": template}},
        headers={"Content-Type": "application/strategic-merge-patch+json"},
    )


@pytest.mark.parametrize("how", ["--server-side=false", "--server-side"])
async def test_whoever_applied_it_sees_no_difference_afterwards(
    cluster: Cluster, operator: Operator, server: ApiServer, audit: Audit, how: str
) -> None:
    """As kubectl and Argo CD compare: by a dry run of the same manifests, of either sort of apply."""
    manifests = "\n---\n".join((changed(STORE, "spec.deletionPolicy", "Snapshot"), SKILL, FULL_AGENT, RESTORE))
    kubectl = [program("kubectl"), "--kubeconfig", str(server.kubeconfig), "-n", cluster.namespace]
    await asyncio.to_thread(ok, *kubectl, "apply", how, "-f", "-", stdin=manifests)
    for kind in PRIMARY:
        (name,) = [item["metadata"]["name"] for item in await cluster.all_of(kind.name)]
        await cluster.wait(kind.name, name, lambda item: bool(item.get("status", {}).get("conditions")))
    await quiet(audit)
    compared = await asyncio.to_thread(run, *kubectl, "diff", how, "-f", "-", stdin=manifests)
    assert (compared.returncode, compared.stdout) == (0, ""), compared.stdout + compared.stderr
    seen = {kind.name: health(kind.name, (await cluster.all_of(kind.name))[0])[0] for kind in PRIMARY}
    assert seen == dict.fromkeys(seen, "Progressing") | {"Skill": "Healthy"}
    again = await asyncio.to_thread(ok, *kubectl, "apply", how, "-f", "-", "-o", "name", stdin=manifests)
    assert len(again.split()) == len(PRIMARY)
    for kind in PRIMARY:
        for item in await cluster.all_of(kind.name):
            owned = [entry for entry in item["metadata"]["managedFields"] if entry["manager"].startswith(FIELD_MANAGER)]
            fields = {field for entry in owned for field in entry["fieldsV1"]}
            # A finalizer holds a store for its last backup.
            assert fields <= {"f:status", *(["f:metadata"] if kind.name == "MemoryStore" else [])}
            held = [entry["fieldsV1"]["f:metadata"] for entry in owned if "f:metadata" in entry["fieldsV1"]]
            assert all(each.keys() == {"f:finalizers"} for each in held)


async def test_restart_writes_nothing(
    full_cluster: Cluster, start_operator: Callable[[], OperatorProcess], full_audit: Audit
) -> None:
    cluster, audit = full_cluster, full_audit
    operator: OperatorProcess = start_operator()
    await settle(cluster, FIXED_AGENT)
    await cluster.wait("Agent", "ada", lambda item: item["status"].get("replicas") == 2)
    await quiet(audit)
    operator.stop()
    before = audit.writes()
    start_operator()
    # Something it must react to, so that it is known to have come this far.
    await cluster.delete("Service", "ada-gateway")
    await cluster.wait("Service", "ada-gateway", exists)
    await quiet(audit)
    assert audit.writes()[len(before) :] == [("patch", "services", "ada-gateway")]


async def test_what_there_is_at_the_start_is_streamed(
    full_cluster: Cluster, start_operator: Callable[[], OperatorProcess], full_audit: Audit
) -> None:
    cluster, audit = full_cluster, full_audit
    operator = start_operator()
    await settle(cluster, FIXED_AGENT)
    operator.stop()
    before = len(audit.requests("stream")), len(audit.requests("list"))
    start_operator()
    # Something it must react to, so that it is known to have come this far.
    await cluster.delete("Service", "ada-gateway")
    await cluster.wait("Service", "ada-gateway", exists)
    streamed = Counter(resource for _, resource, _ in audit.requests("stream")[before[0] :])
    # Those that it manages, and those that users name.
    once = dict.fromkeys((kind.plural for kind in (*KINDS, *PRIMARY)), 1)
    assert streamed == once | {"configmaps": 2}
    # kopf lists for itself, and pods that do not get ready are looked at.
    listed = {resource for _, resource, _ in audit.requests("list")[before[1] :]}
    assert listed <= {"pods", *(kind.plural for kind in PRIMARY)}


async def test_restart_after_a_kill_ends_where_it_would_have(
    full_cluster: Cluster, start_operator: Callable[[], OperatorProcess], full_audit: Audit
) -> None:
    cluster, audit = full_cluster, full_audit
    operator: OperatorProcess = start_operator()
    await cluster.apply(STORE, SKILL, FIXED_AGENT)
    await cluster.wait("ServiceAccount", "ada-gateway", exists)
    operator.kill()
    start_operator()
    await settle(cluster, FIXED_AGENT)
    await cluster.wait("Agent", "ada", lambda item: item["status"].get("replicas") == 2)
    await cluster.wait_condition("Agent", "ada", "ChildrenApplied", "True", "Applied")
    await quiet(audit)


async def test_edit_without_effect_writes_only_the_generation(
    cluster: Cluster, operator: Operator, audit: Audit
) -> None:
    await settle(cluster)
    await quiet(audit)
    before = audit.writes()
    # Wider, but it resolves to the same version: no child reads it.
    agent = yaml.safe_load(FULL_AGENT)
    agent["spec"]["skills"][0]["version"] = ">=1.0.0"
    (edited,) = await cluster.apply(yaml.safe_dump(agent))
    generation = edited["metadata"]["generation"]
    await cluster.wait("Agent", "ada", lambda item: item["status"]["observedGeneration"] == generation)
    await quiet(audit)
    # Backups keep agents as their authors wrote them.
    copied = ("patch", "configmaps", "mem-backup")
    assert sorted(audit.writes()[len(before) :]) == [("patch", "agents/status", "ada"), copied]
    before = audit.writes()
    skill, store = yaml.safe_load(SKILL), yaml.safe_load(STORE)
    skill["spec"]["sandbox"] = {"level": "restricted"}
    store["spec"]["records"] = {"postgresql": {"managed": {}}}
    for kind, each in (("Skill", skill), ("MemoryStore", store)):
        (edited,) = await cluster.apply(yaml.safe_dump(each))
        name = edited["metadata"]["name"]
        assert edited["metadata"]["generation"] == 2, f"{kind}: the edit is none"
        await cluster.wait(kind, name, lambda item: item["status"]["observedGeneration"] == 2)
    await quiet(audit)
    written = sorted(audit.writes()[len(before) :])
    assert written == [("patch", "memorystores/status", "mem"), ("patch", "skills/status", "echo")]


async def test_the_operator_counts_its_own_writes(
    full_cluster: Cluster, start_operator: Callable[..., OperatorProcess], full_audit: Audit
) -> None:
    """What the alert on a loop goes by is what the API server has seen."""
    cluster, audit = full_cluster, full_audit
    (port,) = free_ports(1)
    start_operator(metrics_port=port)
    await settle(cluster, FIXED_AGENT)
    await cluster.wait("Agent", "ada", lambda item: item["status"].get("replicas") == 2)
    await quiet(audit)
    async with httpx.AsyncClient() as http:
        text = (await http.get(f"http://127.0.0.1:{port}/metrics")).text
    counted: Counter[str] = Counter()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == "openclaw_operator_writes_total":
                counted[sample.labels["kind"]] += int(sample.value)
                assert sample.labels["reason"], sample
    by_plural = {kind.plural: kind.name for kind in BY_NAME.values()}
    seen = Counter(by_plural[resource.partition("/")[0]] for _, resource, _ in audit.writes())
    assert seen
    assert counted == seen


async def test_writes_per_new_agent(cluster: Cluster, operator: Operator, audit: Audit) -> None:
    await settle(cluster)
    await quiet(audit)
    before = audit.writes()
    await cluster.apply(changed(FULL_AGENT, "metadata.name", "bob"))
    await cluster.wait("Agent", "bob", lambda item: bool(item.get("status", {}).get("endpoint")))
    children = [item for kind in EDITS for item in await cluster.all_of(kind, "openclaw.io/agent=bob")]
    await quiet(audit)
    made = audit.writes()[len(before) :]
    others = [request for request in made if not request[2].startswith("bob")]
    assert len(children) == 12
    assert len(made) - len(others) <= len(children) + 2
    # Who uses what it uses, and what backups keep: once each.
    assert sorted(others) == [
        ("patch", "configmaps", "mem-backup"),
        ("patch", "memorystores/status", "mem"),
        ("patch", "skills/status", "echo"),
    ]


async def test_transitions_keep_their_time(cluster: Cluster, operator: Operator) -> None:
    await settle(cluster)
    before = condition(await cluster.get("Agent", "ada"), "ChildrenApplied")
    (edited,) = await cluster.apply(changed(FULL_AGENT, "spec.description", "new"))
    generation = edited["metadata"]["generation"]
    agent = await cluster.wait("Agent", "ada", lambda item: item["status"]["observedGeneration"] == generation)
    after = condition(agent, "ChildrenApplied")
    assert after["lastTransitionTime"] == before["lastTransitionTime"]
    assert after["observedGeneration"] == generation
    assert agent["status"]["conditions"][-1]["type"] == "Ready"


@pytest.mark.parametrize("attempts", [5])
async def test_two_operators_of_one_namespace_do_not_fight(
    full_cluster: Cluster, start_operator: Callable[[], OperatorProcess], full_audit: Audit, attempts: int
) -> None:
    cluster, audit = full_cluster, full_audit
    start_operator()
    start_operator()
    await settle(cluster, FIXED_AGENT)
    await cluster.wait("Agent", "ada", lambda item: item["status"].get("replicas") == 2)
    for number in range(attempts):
        await cluster.apply(changed(FIXED_AGENT, "spec.description", f"number {number}"))
    await cluster.wait("ConfigMap", "ada-gateway", lambda item: f"number {attempts - 1}" in item["data"]["config.yaml"])
    await quiet(audit)

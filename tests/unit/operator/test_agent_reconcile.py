"""What an Agent names and is not there."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest

from openclaw_operator.cluster.kinds import BY_NAME
from openclaw_operator.errors import ForbiddenError, UnavailableError
from openclaw_operator.reconcile import agent as agent_module
from openclaw_operator.reconcile.agent import AgentReconciler
from openclaw_operator.reconcile.queue import Key, WorkQueue
from openclaw_operator.reconcile.status import ready_condition
from openclaw_operator.resources.pool import Pool
from tests.unit.operator.fake_api import Bench

MODEL = {"provider": "openai-compatible", "name": "m", "baseURL": "http://llm:8000/v1"}
FROM_SETTINGS = {"name": "MODE", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "mode"}}}
SPEC: dict[str, Any] = {"model": MODEL, "gateway": {"extraEnv": [FROM_SETTINGS]}}


async def ready(bench: Bench) -> Any:
    await AgentReconciler(bench.context, {}).reconcile(bench.primary("Agent", "ada", SPEC))
    return ready_condition(bench.api.items["Agent", "ada"]["status"])


@pytest.mark.parametrize(("data", "there"), [(None, "does not exist"), ({"other": "x"}, "has nothing under 'mode'")])
async def test_a_config_map_of_the_environment_that_is_missing_is_named(data: Any, there: str) -> None:
    """Without it the kubelet would keep the pod from starting, and the Agent only say that it waits."""
    bench = Bench()
    if data:
        bench.api.put("ConfigMap", "settings", data=data)
    found = await ready(bench)
    assert found["reason"] == "ConfigMapNotFound"
    assert found["message"].startswith(
        f"spec.gateway.extraEnv[MODE].valueFrom.configMapKeyRef: ConfigMap 'settings' {there} in namespace demo: create"
    )
    assert bench.api.writes("Deployment") == []
    bench.api.put("ConfigMap", "settings", data={"mode": ""})
    bench.context.references.changed(BY_NAME["ConfigMap"], bench.api.items["ConfigMap", "settings"])
    assert (await ready(bench))["reason"] != "ConfigMapNotFound"
    assert bench.api.writes("Deployment") == [("apply", "ada-gateway")]


async def test_the_report_on_a_new_agent_waits_while_others_have_no_children(monkeypatch: pytest.MonkeyPatch) -> None:
    """By its turn among the news its Deployment has told more: one write instead of two. What is wrong is said now."""
    bench = Bench()
    agents = AgentReconciler(bench.context, {})
    monkeypatch.setattr(WorkQueue, "busy", True)
    queued: list[tuple[Key, bool]] = []
    monkeypatch.setattr(bench.queue, "add", lambda key, news=False: queued.append((key, news)))

    async def reconcile(name: str, spec: Any) -> list[str]:
        status = bench.api.items.get(("Agent", name), {}).get("status", {})
        await agents.reconcile(bench.primary("Agent", name, spec, status=status))
        return [name for verb, name in bench.api.writes("Agent") if verb == "status"]

    assert await reconcile("ada", {"model": MODEL}) == []
    assert bench.api.writes("Deployment") == [("apply", "ada-gateway")]
    assert (("Agent", "demo", "ada"), True) in queued
    assert await reconcile("ada", {"model": MODEL}) == ["ada"]
    queued.clear()
    assert await reconcile("ada", {"model": MODEL}) == ["ada"]
    assert queued == []
    assert await reconcile("bob", SPEC) == ["ada", "bob"]


async def test_a_report_that_was_put_off_and_fails_is_not_put_off_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The queue backs off only from what raises."""
    bench = Bench()
    agents = AgentReconciler(bench.context, {})
    monkeypatch.setattr(WorkQueue, "busy", True)
    agent = bench.primary("Agent", "ada", {"model": MODEL})

    async def refuse(*_: Any) -> Any:
        raise UnavailableError("no answer")

    monkeypatch.setattr(bench.api, "patch_status", refuse)
    await agents.reconcile(agent)
    for _ in range(2):
        with pytest.raises(UnavailableError):
            await agents.reconcile(agent)


async def test_skills_are_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a restart the operator knows from the status what an agent has."""
    bench = Bench()
    monkeypatch.setattr(WorkQueue, "busy", True)
    monkeypatch.setattr(agent_module, "_skills", lambda _: [{"name": "s", "version": "1.0.0", "digest": "d"}])
    await AgentReconciler(bench.context, {}).reconcile(bench.primary("Agent", "ada", {"model": MODEL}))
    assert bench.api.items["Agent", "ada"]["status"]["skills"]


async def test_a_variable_that_the_operator_sets_itself_is_not_looked_for() -> None:
    """Its pods never get it, so neither do they wait for its ConfigMap or Secret nor restart when that is edited."""
    bench = Bench()
    mine = [
        {**FROM_SETTINGS, "name": "OTEL_EXPORTER_OTLP_ENDPOINT"},
        {"name": "POD_NAME", "valueFrom": {"secretKeyRef": {"name": "absent", "key": "k"}}},
    ]
    spec = {"model": MODEL, "observability": {"traces": {"endpoint": "http://otel:4318"}}}
    await AgentReconciler(bench.context, {}).reconcile(
        bench.primary("Agent", "ada", spec | {"gateway": {"extraEnv": mine}})
    )
    template = bench.api.items["Deployment", "ada-gateway"]["spec"]["template"]
    assert "openclaw.io/environment-hash" not in template["metadata"]["annotations"]
    set_once = [item for item in template["spec"]["containers"][0]["env"] if item["name"] == mine[0]["name"]]
    assert set_once == [{"name": mine[0]["name"], "value": "http://otel:4318"}]


async def test_a_new_value_of_a_config_map_restarts_the_gateways_that_read_it() -> None:
    """A container reads its variables once. Other keys of the ConfigMap are none of its business."""
    bench = Bench()

    async def pods(data: dict[str, str]) -> Any:
        bench.api.put("ConfigMap", "settings", data=data)
        bench.context.references.changed(BY_NAME["ConfigMap"], bench.api.items["ConfigMap", "settings"])
        await ready(bench)
        return bench.api.items["Deployment", "ada-gateway"]["spec"]["template"]

    first = await pods({"mode": "calm"})
    assert await pods({"mode": "calm", "other": "x"}) == first
    second = await pods({"mode": "brisk"})
    assert second["spec"] == first["spec"]
    assert second["metadata"]["annotations"] != first["metadata"]["annotations"]
    assert await pods({"mode": "calm"}) == first


async def test_the_missing_key_of_a_further_model_is_named() -> None:
    bench = Bench()
    spare = {"provider": "openai", "name": "m", "credentials": {"secretKeyRef": {"name": "spare", "key": "k"}}}
    spec = {"model": MODEL | {"candidates": [MODEL], "fallbacks": [MODEL, spare]}}
    await AgentReconciler(bench.context, {}).reconcile(bench.primary("Agent", "ada", spec))
    found: Any = ready_condition(bench.api.items["Agent", "ada"]["status"])
    assert found["reason"] == "SecretNotFound"
    assert found["message"].startswith("spec.model.fallbacks[1].credentials.secretKeyRef: Secret 'spare' does not")


async def test_an_agent_that_lacks_something_can_be_stopped() -> None:
    """What runs without it goes on; but who suspends an agent, or restores its memory, wants no pods."""
    bench = Bench()
    bench.primary("MemoryStore", "mem", {})
    bench.api.put("ConfigMap", "settings", data={"mode": "x"})
    scaled = {**SPEC["gateway"], "autoscaling": {"minReplicas": 2}}
    spec = {**SPEC, "memory": {"storeRef": {"name": "mem"}}, "gateway": scaled}
    pools: dict[str, dict[str, list[Pool]]] = {}
    agents = AgentReconciler(bench.context, pools)
    handed: list[int] = []

    async def reconcile(**changes: Any) -> dict[str, Any]:
        status = bench.api.items.get(("Agent", "ada"), {}).get("status", {})
        await agents.reconcile(bench.primary("Agent", "ada", spec | changes, status=status))
        conditions = bench.api.items["Agent", "ada"]["status"]["conditions"]
        return {item["type"]: item for item in conditions}

    async def hand_over(_namespace: str, _name: str, replicas: int, *, uid: str) -> None:
        handed.append(replicas)

    bench.api.hand_over_replicas = hand_over  # type: ignore[attr-defined]
    await reconcile()
    deployment = bench.api.items["Deployment", "ada-gateway"]
    bench.child("Deployment", "ada-gateway", **{**deployment, "spec": {**deployment["spec"], "replicas": 2}})
    missing = bench.api.items.pop(("ConfigMap", "settings"))
    bench.context.references.removed(BY_NAME["ConfigMap"], "demo", "settings", "1")
    before = len(bench.api.log)
    assert (await reconcile())["Ready"]["reason"] == "ConfigMapNotFound"
    assert {kind for _, kind, _ in bench.api.log[before:]} == {"Agent", "Event"}

    told = await reconcile(suspend=True)
    assert (told["Available"]["reason"], told["Ready"]["reason"]) == ("Suspended", "ConfigMapNotFound")
    assert bench.api.items["Deployment", "ada-gateway"]["spec"]["replicas"] == 0
    assert ("HorizontalPodAutoscaler", "ada-gateway") not in bench.api.items
    bench.context.children.removed(BY_NAME["HorizontalPodAutoscaler"], "demo", "ada-gateway", str(10**9))
    assert pools["demo"]["ada"] == []
    before = len(bench.api.log)
    await reconcile(suspend=True)
    assert bench.api.log[before:] == []
    told = await reconcile()
    assert (told["Available"]["reason"], handed) == ("Progressing", [])

    bench.api.items["ConfigMap", "settings"] = missing
    bench.context.references.changed(BY_NAME["ConfigMap"], missing)
    await reconcile()
    assert handed == [2]
    assert ("HorizontalPodAutoscaler", "ada-gateway") in bench.api.items


async def test_a_child_that_is_deleted_meanwhile_is_nobody_elses() -> None:
    bench = Bench()
    bench.api.put("ConfigMap", "settings", data={"mode": "x"})
    agents = AgentReconciler(bench.context, {})
    spec: dict[str, Any] = SPEC | {"description": "calm"}
    await agents.reconcile(bench.primary("Agent", "ada", spec))

    def delete_service() -> None:
        if bench.api.items.pop(("Service", "ada-gateway"), None):
            bench.context.children.removed(BY_NAME["Service"], "demo", "ada-gateway", str(10**9))

    def soon(verb: str, kind: str, _name: str) -> None:
        if (verb, kind) == ("apply", "ConfigMap"):
            # After the Service was found to be as it should, and before all of them have been looked at.
            asyncio.get_running_loop().call_soon(delete_service)

    bench.api.fault = soon
    status = bench.api.items["Agent", "ada"]["status"]
    await agents.reconcile(bench.primary("Agent", "ada", spec | {"description": "bold"}, status=status))
    assert ("Service", "ada-gateway") not in bench.api.items
    status = bench.api.items["Agent", "ada"]["status"]
    assert "OwnershipConflict" not in {item["reason"] for item in status["conditions"]}
    bench.api.fault = lambda *_: None
    await agents.reconcile(bench.primary("Agent", "ada", spec | {"description": "bold"}, status=status))
    assert ("Service", "ada-gateway") in bench.api.items


async def test_a_trusted_skill_needs_the_mark_of_the_platform_engineer() -> None:
    """Without it the agent goes on without the skill; it is never given at another level than was asked for."""
    bench = Bench()
    skill = {
        "version": "1.0.0",
        "source": {"inline": {"files": {"scripts/main.py": "x"}}},
        "actions": [{"name": "echo", "description": "x"}],
        "sandbox": {"level": "trusted"},
    }
    status = {"digest": "sha256:" + "ab" * 32, "packageConfigMap": "echo-package-ab", "observedGeneration": 1}
    bench.primary("Skill", "echo", skill, status=status)
    wanted = {"model": MODEL, "skills": [{"name": "echo"}], "execution": {"sandbox": {"level": "trusted"}}}

    async def given() -> tuple[Any, list[Any]]:
        await AgentReconciler(bench.context, {}).reconcile(bench.primary("Agent", "ada", wanted))
        config = json.loads(bench.api.items["ConfigMap", "ada-gateway"]["data"]["config.yaml"])
        return ready_condition(bench.api.items["Agent", "ada"]["status"]), config["skills"]["installed"]

    refused, skills = await given()
    assert refused["reason"] == "SkillNotTrusted"
    assert "add 'demo/echo' to the chart value sandbox.trustedSkills" in refused["message"]
    assert skills == []
    bench.context = replace(bench.context, trusted_skills=("demo/echo",))
    allowed, (trusted,) = await given()
    assert allowed["reason"] != "SkillNotTrusted"
    assert (trusted["level"], trusted["pool"]) == ("trusted", None)


@pytest.mark.parametrize("kind", ["NetworkPolicy", "ServiceAccount", "PersistentVolumeClaim", "Role"])
async def test_no_pod_starts_without_what_it_stands_on(kind: str) -> None:
    bench = Bench()

    def quota(_verb: str, written: str, _name: str) -> None:
        if written == kind:
            raise ForbiddenError(403, "Forbidden", "exceeded quota")

    bench.api.fault = quota
    agents = AgentReconciler(bench.context, {})
    ada = bench.primary("Agent", "ada", {"model": MODEL})
    with pytest.raises(ForbiddenError):
        await agents.reconcile(ada)
    assert bench.api.writes("Deployment") == []
    assert bench.api.writes("RoleBinding") == []
    found = ready_condition(bench.api.items["Agent", "ada"]["status"])
    assert found
    assert (found["reason"], found["message"]) == ("Refused", "exceeded quota")
    bench.api.fault = lambda *_: None
    await agents.reconcile(ada)
    assert bench.api.writes("Deployment") == [("apply", "ada-gateway")]


@pytest.mark.parametrize(("kind", "name"), [("Service", "ada-gateway"), ("Secret", "ada-gateway-token")])
async def test_nothing_is_written_over_and_over_while_somebody_elses_object_has_the_name(kind: str, name: str) -> None:
    bench = Bench()
    bench.api.put(kind, name)
    agents = AgentReconciler(bench.context, {})
    ada = bench.primary("Agent", "ada", {"model": MODEL})
    for _ in range(3):
        assert await agents.reconcile(ada)
    tried = [written for _, written in bench.api.writes(kind)]
    assert tried.count(name) == 1
    del bench.api.items[kind, name]
    await agents.reconcile(ada)
    assert [written for _, written in bench.api.writes(kind)].count(name) == 2
    assert bench.api.writes("Deployment") == [("apply", "ada-gateway")]


async def test_a_token_of_the_users_takes_the_place_of_the_operators() -> None:
    bench = Bench()
    agents = AgentReconciler(bench.context, {})

    async def reconcile(**gateway: Any) -> dict[str, Any]:
        status = bench.api.items.get(("Agent", "ada"), {}).get("status", {})
        await agents.reconcile(bench.primary("Agent", "ada", {"model": MODEL, "gateway": gateway}, status=status))
        told = bench.api.items["Agent", "ada"]["status"]
        return {**told, "Ready": ready_condition(told)}

    def mounted() -> Any:
        volumes = bench.api.items["Deployment", "ada-gateway"]["spec"]["template"]["spec"]["volumes"]
        return next(item["secret"] for item in volumes if item["name"] == "token")

    def rolling(replicas: int, ready: int, updated: int = 1) -> None:
        status = {"replicas": replicas, "readyReplicas": ready, "updatedReplicas": updated, "observedGeneration": 1}
        body = bench.api.items["Deployment", "ada-gateway"] | {"status": status}
        bench.child("Deployment", "ada-gateway", **{key: body[key] for key in ("metadata", "spec", "status")})

    own: dict[str, Any] = {"auth": {"tokenSecretRef": {"name": "vault", "key": "bearer"}}}
    await reconcile()
    assert mounted() == {"secretName": "ada-gateway-token"}
    told = await reconcile(**own)
    assert told["Ready"]["reason"] == "SecretNotFound"
    assert told["Ready"]["message"] == (
        "spec.gateway.auth.tokenSecretRef: Secret 'vault' does not exist in namespace demo: create it with the key "
        "'bearer'"
    )
    # What runs goes on with the token it has.
    assert ("Secret", "ada-gateway-token") in bench.api.items
    bench.context.references.expect(("Agent", "demo", "ada"), set())

    bench.api.put("Secret", "vault", data={"bearer": "eA=="})
    told = await reconcile(**own)
    assert mounted() == {"secretName": "vault", "items": [{"key": "bearer", "path": "token"}]}
    # Until every pod is a new one, the old ones take the old token, and an evicted one comes back with it.
    for replicas, ready in ((2, 2), (1, 0)):
        assert told["tokenSecret"] == "ada-gateway-token"
        assert ("Secret", "ada-gateway-token") in bench.api.items
        rolling(replicas, ready)
        told = await reconcile(**own)
    rolling(0, 0, updated=0)
    told = await reconcile(**own, rollout={"paused": True})
    rolling(0, 0, updated=0)
    told = await reconcile(**own, rollout={"paused": True})
    assert told["tokenSecret"] == "ada-gateway-token"
    assert ("Secret", "ada-gateway-token") in bench.api.items
    await reconcile(**own)
    rolling(1, 1)
    told = await reconcile(**own)
    assert (told["tokenSecret"], told["tokenKey"]) == ("vault", "bearer")
    assert ("Secret", "ada-gateway-token") not in bench.api.items
    assert bench.api.writes("Secret").count(("delete", "vault")) == 0
    bench.context.children.removed(BY_NAME["Secret"], "demo", "ada-gateway-token", str(10**9))
    before = len(bench.api.log)
    await reconcile(**own)
    assert bench.api.log[before:] == []
    told = await reconcile()
    assert (told["tokenSecret"], told["tokenKey"]) == ("vault", "bearer")
    rolling(1, 1)
    told = await reconcile()
    assert (told["tokenSecret"], told.get("tokenKey")) == ("ada-gateway-token", None)
    assert ("Secret", "ada-gateway-token") in bench.api.items

"""The egress proxy of a namespace: there while a skill may go out, gone with the last, and its absence told."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from openclaw_operator.cluster.kinds import BY_NAME
from openclaw_operator.reconcile.pool import REFUSED_RECHECK_SECONDS
from openclaw_operator.reconcile.stalls import RECHECK_SECONDS
from openclaw_operator.reconcile.status import ready_condition
from openclaw_operator.resources.secrets import ROTATE, SIGNING_SECRET
from tests.unit.operator.test_pool_reconcile import CHECKED, KEY, SKILL, USES_ECHO, World

NAME = "openclaw-egress"
PARTS = {
    ("ConfigMap", f"{NAME}-keys"),
    ("Deployment", NAME),
    ("Service", NAME),
    ("Service", f"{NAME}-api"),
    ("NetworkPolicy", NAME),
    ("NetworkPolicy", "openclaw-sandbox-egress"),
}


def parts(world: World) -> set[tuple[str, str]]:
    return PARTS & world.api.items.keys()


def condition(world: World) -> dict[str, Any]:
    found = world.api.items["Agent", "ada"]["status"]["conditions"]
    return next((item for item in found if item["type"] == "EgressReady"), {})


async def settled(permissions: list[str]) -> World:
    world = World()
    world.primary("Skill", "echo", {**SKILL, "permissions": permissions}, **CHECKED)
    await world.settle(world.primary("Agent", "ada", USES_ECHO))
    return world


async def again(world: World) -> None:
    ada = world.context.primaries.get(("Agent", "demo", "ada"))
    assert ada
    await world.settle(ada)


async def test_the_proxy_comes_with_the_first_skill_that_may_go_out_and_goes_with_the_last() -> None:
    world = await settled(["network:external"])
    world.start_pods()
    assert parts(world) == PARTS
    block = world.api.items["NetworkPolicy", NAME]["spec"]["egress"][1]["to"][0]["ipBlock"]
    assert "10.0.0.0/8" in block["except"]
    world.primary("Skill", "echo", {**SKILL, "permissions": ["network:internal"]}, **CHECKED)
    await again(world)
    block = world.api.items["NetworkPolicy", NAME]["spec"]["egress"][1]["to"][0]["ipBlock"]
    assert "10.0.0.0/8" not in block["except"]
    assert "169.254.0.0/16" in block["except"]
    world.primary("Skill", "echo", SKILL, **CHECKED)
    await again(world)
    await world.settle()
    # Pods of the former pool may still be called, until gateways have read of the new one.
    assert parts(world) == PARTS
    proxied = [
        live for live in world.context.children.of_kind("Pod", "demo") if live.labels["openclaw.io/egress"] == "proxied"
    ]
    for live in proxied:
        going = world.api.items["Pod", live.name]
        meta = {**going["metadata"], "deletionTimestamp": "2026-01-01T00:00:30Z"}
        world.child("Pod", live.name, **{**going, "metadata": meta})
    await world.settle()
    # A call may go on in a pod that is being deleted.
    assert parts(world) == PARTS
    for live in proxied:
        world.api.items.pop(("Pod", live.name), None)
        world.context.children.removed(BY_NAME["Pod"], "demo", live.name, str(10**9))
    await world.settle()
    assert parts(world) == set()


async def test_where_nothing_may_go_out_there_is_no_proxy() -> None:
    world = await settled([])
    assert parts(world) == set()
    assert condition(world) == {}


async def test_the_agent_tells_whether_its_skills_have_their_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that starts is no fault, which would be a Warning and end a sync; one whose Deployment gives up is."""
    world = World()
    world.primary("Skill", "echo", {**SKILL, "permissions": ["network:external"]}, **CHECKED)
    ada = world.primary("Agent", "ada", USES_ECHO)
    await world.agents.reconcile(ada)
    # Not even made yet.
    assert (condition(world)["status"], condition(world)["reason"]) == ("False", "Progressing")
    await world.settle()
    await again(world)
    gateway = world.api.items["Deployment", "ada-gateway"]
    running = {"readyReplicas": 1, "replicas": 1, "updatedReplicas": 1, "observedGeneration": 1}
    world.child("Deployment", "ada-gateway", **{**gateway, "status": running})
    await again(world)
    ready = ready_condition(world.api.items["Agent", "ada"]["status"])
    assert ready
    assert (condition(world)["reason"], ready["reason"]) == ("Progressing", "Progressing")
    assert "the egress proxy starts, and echo reach nothing until" in ready["message"]
    assert world.api.writes("Event") == []

    deployment = world.api.items["Deployment", NAME]
    timed_out = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "timed out"}
    world.child("Deployment", NAME, **{**deployment, "status": {"conditions": [timed_out]}})
    await again(world)
    assert condition(world)["reason"] == "EgressNotReady"
    assert ": timed out: see kubectl describe pods" in condition(world)["message"]
    world.child("Deployment", NAME, **{**deployment, "status": {"readyReplicas": 1, "replicas": 1}})
    before = len(world.api.log)
    woken: list[Any] = []
    monkeypatch.setattr(world.queue, "add", woken.append)
    await world.pool.reconcile(("Pool", "demo", ""))
    assert ("Agent", "demo", "ada") in woken
    await again(world)
    assert condition(world)["status"] == "True"
    assert {kind for _, kind, _ in world.api.log[before:]} == {"Agent", "Event"}


async def test_a_failure_that_passed_while_no_operator_ran_is_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    world = await settled(["network:external"])
    stale = {"type": "EgressReady", "status": "False", "reason": "EgressNotReady", "message": "no image"}
    stale["lastTransitionTime"] = "2026-01-01T00:00:00Z"
    world.restart()
    ada = world.primary("Agent", "ada", USES_ECHO, status={"conditions": [stale]})
    await world.settle(ada)
    await again(world)
    assert condition(world)["message"] == "no image"
    woken: list[Any] = []
    monkeypatch.setattr(world.queue, "add", woken.append)
    world.time += RECHECK_SECONDS
    await world.pool.reconcile(KEY)
    assert woken == [("Agent", "demo", "ada")]
    await again(world)
    assert condition(world)["reason"] == "Progressing"
    woken.clear()
    world.time += RECHECK_SECONDS
    await world.pool.reconcile(KEY)
    assert woken == []


@pytest.mark.parametrize("part", sorted(PARTS))
async def test_somebody_elses_object_in_the_place_of_the_proxy_is_named(
    part: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World()
    world.primary("Skill", "echo", {**SKILL, "permissions": ["network:external"]}, **CHECKED)
    world.api.put(part[0], part[1], spec={}, data={})
    woken: list[Any] = []
    monkeypatch.setattr(world.queue, "add", woken.append)
    await world.settle(world.primary("Agent", "ada", USES_ECHO))
    assert ("Agent", "demo", "ada") in woken
    await again(world)
    assert condition(world)["reason"] == "OwnershipConflict"
    assert condition(world)["message"].startswith(f"{' '.join(part)} belongs to somebody else, so echo reach nothing")
    assert await world.pool.reconcile(KEY) == REFUSED_RECHECK_SECONDS
    before = len(world.api.log)
    woken.clear()
    await again(world)
    assert (world.api.log[before:], woken) == ([], [])
    world.api.items.pop(part)
    await world.pool.reconcile(KEY)
    assert parts(world) == PARTS
    await again(world)
    assert condition(world)["reason"] == "Progressing"


async def test_an_operator_without_the_proxy_says_so() -> None:
    world = World()
    world.context.egress = replace(world.context.egress, image="")
    world.primary("Skill", "echo", {**SKILL, "permissions": ["network:external"]}, **CHECKED)
    await world.settle(world.primary("Agent", "ada", USES_ECHO))
    assert parts(world) == set()
    assert condition(world)["reason"] == "EgressOff"
    assert '"egress": null' in world.api.items["ConfigMap", "ada-gateway"]["data"]["config.yaml"]


async def test_a_restart_does_not_touch_the_proxy_before_all_agents_have_spoken() -> None:
    world = await settled(["network:internal"])
    world.restart()
    before = len(world.api.log)
    await world.settle()
    assert world.api.log[before:] == []
    await again(world)
    assert [entry for entry in world.api.log[before:] if entry[1] in {"NetworkPolicy", "Deployment", "Service"}] == []


@pytest.mark.parametrize("killed_after", range(1, len(PARTS)))
async def test_an_operator_that_starts_anew_goes_on_with_a_half_made_proxy(killed_after: int) -> None:
    """Others may speak first: what an agent that has not spoken needs is not taken away meanwhile."""
    world = World()
    world.primary("Skill", "echo", {**SKILL, "permissions": ["network:internal"]}, **CHECKED)
    ada = world.primary("Agent", "ada", USES_ECHO)
    bob = world.primary("Agent", "bob", {**USES_ECHO, "skills": []})
    made = 0

    def kill(_verb: str, kind: str, name: str) -> None:
        nonlocal made
        made += (kind, name) in PARTS
        if made > killed_after:
            raise RuntimeError("killed")

    world.api.fault = kill
    with pytest.raises(RuntimeError):
        await world.settle(ada, bob)
    world.api.fault = lambda *_: None
    world.restart()
    before = len(world.api.log)
    await world.settle(bob)
    await world.settle(ada)
    assert parts(world) == PARTS
    written = [entry for entry in world.api.log[before:] if entry[1:] in PARTS]
    assert len(written) == len(PARTS) - killed_after, written


async def test_a_rotation_changes_what_the_proxy_reads_and_not_the_proxy() -> None:
    world = await settled(["network:external"])
    before = world.api.items["Deployment", NAME]["spec"]["template"]
    keys = world.api.items["ConfigMap", f"{NAME}-keys"]["data"]["public.keys"]
    secret = world.api.items["Secret", SIGNING_SECRET]
    world.child("Secret", SIGNING_SECRET, **{**secret, "metadata": {"annotations": {ROTATE: "now"}}})
    await world.settle()
    await world.settle()
    both = world.api.items["ConfigMap", f"{NAME}-keys"]["data"]["public.keys"].split(",")
    assert keys in both
    assert len(both) == 2
    assert world.api.items["Deployment", NAME]["spec"]["template"] == before
    assert world.api.writes("Deployment").count(("apply", NAME)) == 1

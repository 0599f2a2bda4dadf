"""Argo CD's health checks, in the Lua that Argo CD runs: version 5.1 without the standard libraries."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
import yaml
from lupa import lua51

from openclaw_operator.api.agent import Agent, AgentSpec
from openclaw_operator.api.memoryrestore import MemoryRestore
from openclaw_operator.api.memorystore import MemoryStore
from openclaw_operator.api.skill import Skill
from openclaw_operator.cluster.live import Live
from openclaw_operator.errors import SpecError
from openclaw_operator.reconcile import status as statuses
from openclaw_operator.reconcile.agent_conditions import conditions
from openclaw_operator.reconcile.children import Outcome
from openclaw_operator.reconcile.hibernation import Phase
from openclaw_operator.reconcile.shortage import sandbox_condition
from openclaw_operator.reconcile.status import MEANT_TO_STOP
from tests.cluster.paths import REPOSITORY

SCRIPTS = REPOSITORY / "charts" / "openclaw-operator" / "files" / "argocd"
EXAMPLES = REPOSITORY / "examples" / "argocd"
MODELS: dict[str, Any] = {"Agent": Agent, "Skill": Skill, "MemoryStore": MemoryStore, "MemoryRestore": MemoryRestore}
KINDS = sorted(MODELS)

SPECS: dict[str, dict[str, Any]] = {
    "Agent": {"model": {"provider": "openai", "name": "gpt-4o-mini"}},
    "Skill": {
        "version": "1.2.0",
        "source": {"inline": {"files": {"scripts/main.py": ""}}},
        "actions": [{"name": "run", "description": "Runs."}],
    },
    "MemoryStore": {},
    "MemoryRestore": {"storeRef": {"name": "memory"}},
}
STATUS: dict[str, dict[str, Any]] = {
    "Agent": {"replicas": 3, "readyReplicas": 3, "endpoint": "http://coordinator-gateway.agents.svc:7456/v1"},
    "Skill": {"digest": "sha256:" + "0" * 64, "users": 2},
    "MemoryStore": {"qdrantReady": "3/3", "users": 1},
    "MemoryRestore": {"phase": "Succeeded", "backup": "2026-01-01T02-00-00Z"},
}
# What Argo CD opens: https://argo-cd.readthedocs.io/en/stable/operator-manual/health/ ("Custom Health Checks").
CLOSED = ("string", "math", "io", "os", "debug", "coroutine", "python", "require", "load", "loadstring", "dofile")


def health(kind: str, obj: dict[str, Any]) -> tuple[str, str]:
    """Run the script of a kind as Argo CD does: `obj` is a global, the returned table holds status and message."""
    # What the operator's own models do not know would be a test of nothing.
    MODELS[kind].model_validate(obj)
    runtime = lua51.LuaRuntime(register_eval=False, register_builtins=False)
    runtime.execute('debug.setmetatable("", nil)')
    names = runtime.globals()
    for name in CLOSED:
        names[name] = None
    names.obj = runtime.table_from(obj, recursive=True)
    result = runtime.execute((SCRIPTS / kind / "health.lua").read_text())
    return result["status"], result["message"]


def resource(kind: str, status: dict[str, Any] | None, **metadata: Any) -> dict[str, Any]:
    meta = {"name": "coordinator", "namespace": "agents", "generation": 4, **metadata}
    result = {"apiVersion": "openclaw.io/v1alpha1", "kind": kind, "metadata": meta, "spec": SPECS[kind]}
    return result if status is None else {**result, "status": status}


def reported(kind: str, ready: str, reason: str, message: str, observed: int = 4) -> dict[str, Any]:
    common = {"lastTransitionTime": "2026-01-01T12:00:00Z", "observedGeneration": observed}
    conditions = [
        {"type": "ChildrenApplied", "status": "True", "reason": "Applied", "message": "as desired", **common},
        {"type": "Ready", "status": ready, "reason": reason, "message": message, **common},
    ]
    return {**STATUS[kind], "observedGeneration": observed, "conditions": conditions}


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("Agent", "3 of 3 gateway pods are ready"),
        ("Skill", "used by 2 agents"),
        ("MemoryStore", "3/3 Qdrant nodes are ready"),
        ("MemoryRestore", "fine"),
    ],
)
def test_ready_is_healthy(kind: str, message: str) -> None:
    assert health(kind, resource(kind, reported(kind, "True", "Ready", "fine"))) == ("Healthy", message)


@pytest.mark.parametrize("kind", KINDS)
def test_ready_without_numbers_is_healthy(kind: str) -> None:
    status = {key: value for key, value in reported(kind, "True", "Ready", "fine").items() if key not in STATUS[kind]}
    assert health(kind, resource(kind, status)) == ("Healthy", "fine")


@pytest.mark.parametrize("kind", KINDS)
def test_work_under_way_is_progressing(kind: str) -> None:
    status = reported(kind, "False", "Progressing", "waiting for pods to be ready")
    assert health(kind, resource(kind, status)) == ("Progressing", "waiting for pods to be ready")
    assert health(kind, resource(kind, reported(kind, "Unknown", "Checking", "not known yet")))[0] == "Progressing"


@pytest.mark.parametrize("kind", KINDS)
def test_a_problem_is_degraded_and_says_which(kind: str) -> None:
    status = reported(kind, "False", "OwnershipConflict", "Service x already exists: delete or rename it")
    assert health(kind, resource(kind, status)) == (
        "Degraded",
        "OwnershipConflict: Service x already exists: delete or rename it",
    )


@pytest.mark.parametrize("reason", sorted(MEANT_TO_STOP))
def test_an_agent_that_is_meant_to_stop_is_suspended(reason: str) -> None:
    status = reported("Agent", "False", reason, "set it to false to start the agent")
    assert health("Agent", resource("Agent", status)) == ("Suspended", "set it to false to start the agent")


def test_an_agent_that_hibernates_is_healthy_and_says_why_it_has_no_pods() -> None:
    spec = AgentSpec.model_validate({**SPECS["Agent"], "gateway": {"hibernation": {}}})
    live = cast("Live", SimpleNamespace(facts={**GATEWAY, "wanted": 0, "replicas": 0, "ready": 0, "updated": 0}))
    for phase, wanted in (("asleep", "Healthy"), ("stranded", "Degraded"), ("waking", "Progressing")):
        told = conditions(spec, live, None, Outcome(), sandbox_condition(None, {}), phase=cast("Phase", phase))
        found = statuses.conditions([], told, 4, "2026-01-01T12:00:00Z")
        status = {"replicas": 0, "readyReplicas": 0, "observedGeneration": 4, "conditions": found}
        health_, message = health("Agent", resource("Agent", status))
        assert health_ == wanted
        assert ("the next message" in message) == (phase == "asleep")


AUTOSCALED = {"gateway": {"autoscaling": {}}, "memory": {"storeRef": {"name": "memory"}}}
GATEWAY = {"wanted": 3, "replicas": 3, "ready": 3, "updated": 3, "current": True, "problem": None}


@pytest.mark.parametrize(
    ("spec", "facts", "problem", "wanted"),
    [
        ({}, GATEWAY, None, "Healthy"),
        ({}, None, None, "Progressing"),
        ({}, {**GATEWAY, "ready": 0}, None, "Progressing"),
        ({}, {**GATEWAY, "current": False}, None, "Progressing"),
        ({}, {**GATEWAY, "problem": "quota exceeded"}, None, "Degraded"),
        ({}, GATEWAY, SpecError("SkillNotReady", "spec.skills[0]: Skill git is not ready"), "Progressing"),
        ({}, GATEWAY, SpecError("SkillNotFound", "spec.skills[0]: there is no Skill git: create it"), "Degraded"),
        ({"suspend": True}, None, None, "Suspended"),
        ({"gateway": {"replicas": 0}}, {**GATEWAY, "wanted": 0}, None, "Suspended"),
        # Autoscalers leave it there; without one, the operator puts it back.
        (AUTOSCALED, {**GATEWAY, "wanted": 0}, None, "Suspended"),
        ({}, {**GATEWAY, "wanted": 0}, None, "Progressing"),
    ],
)
def test_what_the_operator_reports_is_understood(
    spec: dict[str, Any], facts: dict[str, Any] | None, problem: SpecError | None, wanted: str
) -> None:
    live = None if facts is None else cast("Live", SimpleNamespace(name="coordinator-gateway", facts=facts))
    parsed = AgentSpec.model_validate({**SPECS["Agent"], **spec})
    told = conditions(parsed, live, problem, Outcome(), sandbox_condition(None, {}))
    found = statuses.conditions([], told, 4, "2026-01-01T12:00:00Z")
    status = {**STATUS["Agent"], "observedGeneration": 4, "conditions": found}
    assert health("Agent", resource("Agent", status))[0] == wanted


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ready", ["True", "False"])
def test_an_old_status_says_nothing_about_the_last_change(kind: str, ready: str) -> None:
    status = reported(kind, ready, "Any", "of the spec before", observed=3)
    assert health(kind, resource(kind, status)) == ("Progressing", "waiting for the operator to see the last change")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("status", "message"),
    [
        (None, "waiting for the operator to see it"),
        ({}, "waiting for the operator to see it"),
        ({"observedGeneration": 4}, "waiting for the operator to report"),
        ({"observedGeneration": 4, "conditions": []}, "waiting for the operator to report"),
    ],
)
def test_no_report_yet_is_progressing(kind: str, status: dict[str, Any] | None, message: str) -> None:
    assert health(kind, resource(kind, status)) == ("Progressing", message)


@pytest.mark.parametrize("kind", KINDS)
def test_deletion_is_progressing_whatever_was_reported(kind: str) -> None:
    status = reported(kind, "True", "Ready", "fine")
    deleted = resource(kind, status, deletionTimestamp="2026-01-01T12:00:00Z")
    assert health(kind, deleted) == ("Progressing", "being deleted")


def test_a_store_that_is_held_for_want_of_its_last_backup_is_degraded() -> None:
    status = reported("MemoryStore", "False", "LastBackupFailed", "no such bucket: make it")
    deleted = resource("MemoryStore", status, deletionTimestamp="2026-01-01T12:00:00Z")
    assert health("MemoryStore", deleted) == ("Degraded", "LastBackupFailed: no such bucket: make it")


def test_the_patch_for_argocd_holds_these_scripts() -> None:
    patch = yaml.safe_load((EXAMPLES / "health.yaml").read_text())
    scripts = {kind: (SCRIPTS / kind / "health.lua").read_text() for kind in KINDS}
    wanted = {f"resource.customizations.health.openclaw.io_{kind}": script for kind, script in scripts.items()}
    assert patch == {"data": wanted}


def test_memory_comes_before_skills_and_skills_before_agents() -> None:
    application = yaml.safe_load((EXAMPLES / "application.yaml").read_text())
    waves = {}
    for entry in application["spec"]["source"]["kustomize"]["patches"]:
        (operation,) = yaml.safe_load(entry["patch"])
        waves[entry["target"]["kind"]] = int(operation["value"]["argocd.argoproj.io/sync-wave"])
    assert waves["MemoryStore"] < waves["Skill"] < waves["Agent"]
    # A restore is no state to keep.
    assert set(waves) == set(KINDS) - {"MemoryRestore"}

"""What the status of an Agent says, judged from its spec and what there is of it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from openclaw_operator.api.agent import AgentSpec
from openclaw_operator.cluster.live import Live
from openclaw_operator.errors import SpecError
from openclaw_operator.reconcile import hibernation
from openclaw_operator.reconcile.children import Outcome, applied_condition
from openclaw_operator.reconcile.stalls import Cause
from openclaw_operator.reconcile.status import HIBERNATED, Condition, told_condition
from openclaw_operator.resources import schedules
from openclaw_operator.resources.inputs import AgentInputs

FAILING = "GatewayFailing"
WAITING = "waiting for gateway pods to be ready"


def pending_restart(spec: AgentSpec, facts: dict[str, Any], old: Any) -> dict[str, Any] | None:
    """Gateway pods that still run what the spec asked for before; `old` while that cannot be told."""
    if not facts:
        return None
    if not facts["current"]:
        return dict(old) if old else None
    pods = max(facts["replicas"] - facts["updated"], 0)
    if not pods:
        return None
    message = (
        "spec.gateway.rollout.paused is true: set it to false to restart them"
        if spec.gateway.rollout.paused
        else "they are being replaced"
    )
    return {"pods": pods, "message": message}


def conditions(
    spec: AgentSpec,
    live: Live | None,
    problem: SpecError | None,
    outcome: Outcome,
    *of_skills: Condition,
    phase: hibernation.Phase | None = None,
    stalled: Cause | None = None,
) -> list[Condition]:
    """The conditions of an Agent, Ready last; `of_skills` are about what its skills need, and when they run.

    `stalled` is what keeps its gateway pods from getting ready.

    One that hibernates is ready: what it is sent wakes it, and is answered.
    """
    resolved = (
        Condition("ReferencesResolved", False, problem.reason, problem.message)
        if problem
        else Condition("ReferencesResolved", True, "Resolved", "everything the spec names was found")
    )
    applied = applied_condition(outcome)
    available = hibernation.available(phase) or _available(
        spec, live, stalled, waking=phase == "waking", lacks=problem is not None
    )
    parts = [resolved, applied, available, *of_skills]
    worst = next((part for part in parts if part.status is not True), None)
    if worst:
        ready = Condition("Ready", False, worst.reason, worst.message)
    elif available.reason == HIBERNATED:
        ready = Condition("Ready", True, HIBERNATED, available.message)
    else:
        ready = Condition("Ready", True, "Ready", "the gateway answers")
    return [*parts, *([hibernation.condition(phase)] if phase else []), ready]


def schedules_condition(spec: AgentSpec, inputs: AgentInputs | None) -> Condition | None:
    """Whether every schedule can run; None where there is none, or it is not known which skills there are."""
    if not spec.schedules or inputs is None:
        return None
    problem = schedules.first_problem(spec, inputs.skills)
    if problem:
        return Condition("SchedulesValid", False, problem.reason, problem.message)
    return Condition("SchedulesValid", True, "Valid", "every schedule can run")


def starts(spec: AgentSpec, live: Live | None, phase: hibernation.Phase | None) -> bool:
    """Whether gateway pods are to be ready and are not."""
    if live is None or spec.suspend or hibernation.available(phase):
        return False
    facts = live.facts
    return (facts["wanted"] > 0 or phase == "waking") and not (_is_up(spec, facts) and not facts["problem"])


def rolled_out(spec: AgentSpec, live: Live | None, wanted: str) -> bool:
    """Whether no pod is left, nor comes back, of what the Deployment was before `wanted`, the hash of what it is to be.

    Counts alone do not tell: a pod that was evicted is missing from them until there is another.
    """
    if live is None:
        return True
    facts = live.facts
    if live.applied_hash != wanted or not facts["current"] or facts["replicas"] > facts["updated"]:
        return False
    # At zero, one that is paused starts again with its old pods.
    return bool(facts["ready"] >= facts["updated"] >= max(facts["wanted"], spec.gateway.rollout.paused))


def told_stall(old: Mapping[str, Any]) -> Cause | None:
    """The cause that the status tells, which an operator does not know that has just started."""
    told = told_condition(old, "Available")
    if told is None or not told["message"].startswith(f"{WAITING}: "):
        return None
    return Cause(told["message"].removeprefix(f"{WAITING}: "), passing=told["reason"] != FAILING)


def _available(spec: AgentSpec, live: Live | None, stalled: Cause | None, *, waking: bool, lacks: bool) -> Condition:
    if spec.suspend:
        return Condition("Available", False, "Suspended", "spec.suspend is true: set it to false to start the agent")
    if live is None:
        return Condition("Available", False, "Progressing", "the gateway has not been created yet")
    facts = live.facts
    if facts["wanted"] == 0 and not waking:
        return _at_zero(spec, live, lacks=lacks)
    message = f"{WAITING}: {stalled.message}" if stalled else WAITING
    if facts["problem"]:
        return Condition("Available", False, FAILING, message if stalled else facts["problem"])
    if _is_up(spec, facts):
        paused = spec.gateway.rollout.paused
        up = "gateway pods are ready, and not restarted while paused" if paused else "gateway pods are ready"
        return Condition("Available", True, "Available", up)
    return Condition("Available", False, FAILING if stalled and not stalled.passing else "Progressing", message)


def _is_up(spec: AgentSpec, facts: Mapping[str, Any]) -> bool:
    """Whether gateways answer, all of them as the spec says or its author wants to wait with that."""
    if spec.gateway.rollout.paused and facts["ready"] >= facts["wanted"]:
        return True
    rolled_out = facts["current"] and facts["updated"] >= facts["wanted"] and facts["replicas"] <= facts["updated"]
    return bool(rolled_out and facts["ready"] > 0)


def _at_zero(spec: AgentSpec, live: Live, *, lacks: bool) -> Condition:
    """Of a Deployment without replicas; `lacks` something that the spec names."""
    if not (spec.gateway.autoscaling or spec.gateway.replicas):
        return Condition("Available", False, "ScaledToZero", "spec.gateway.replicas is 0: raise it to start the agent")
    if lacks:
        return Condition(
            "Available", False, "Progressing", "no gateway pods run until all that the spec names is there"
        )
    if spec.gateway.autoscaling is None:
        return Condition("Available", False, "Progressing", "the gateway starts")
    fix = f"kubectl scale deployment {live.name} --replicas={spec.gateway.autoscaling.min_replicas}"
    message = f"its Deployment was scaled to 0, where autoscalers leave it: start the agent with {fix}"
    return Condition("Available", False, "ScaledToZero", message)

"""What status says of pods that a change has not reached."""

from __future__ import annotations

from typing import Any

from openclaw_operator.api.agent import AgentSpec
from openclaw_operator.cluster.live import Live
from openclaw_operator.reconcile.agent_conditions import conditions, pending_restart
from openclaw_operator.reconcile.children import Outcome
from tests.unit.operator.fake_api import Bench

MODEL = {"provider": "openai-compatible", "name": "m", "baseURL": "http://llm:8000/v1"}


def spec(*, paused: bool) -> AgentSpec:
    return AgentSpec.model_validate({"model": MODEL, "gateway": {"replicas": 3, "rollout": {"paused": paused}}})


def live(updated: int, observed: int = 2, ready: int = 3) -> Live:
    status = {"replicas": 3, "readyReplicas": ready, "updatedReplicas": updated, "observedGeneration": observed}
    return Bench().child("Deployment", "ada-gateway", metadata={"generation": 2}, spec={"replicas": 3}, status=status)


def test_pods_that_are_still_to_be_replaced_are_counted() -> None:
    assert pending_restart(spec(paused=False), live(1).facts, None) == {
        "pods": 2,
        "message": "they are being replaced",
    }
    held = pending_restart(spec(paused=True), live(0).facts, None)
    assert held == {"pods": 3, "message": "spec.gateway.rollout.paused is true: set it to false to restart them"}
    assert pending_restart(spec(paused=False), live(3).facts, held) is None
    # Before the controller has looked, what was known is all there is to say: scaling restarts nothing.
    assert pending_restart(spec(paused=False), live(3, observed=1).facts, None) is None
    assert pending_restart(spec(paused=False), live(3, observed=1).facts, held) == held
    assert pending_restart(spec(paused=False), {}, held) is None


def test_an_agent_whose_restart_is_held_back_is_ready() -> None:
    def ready(found: Live) -> Any:
        return conditions(spec(paused=True), found, None, Outcome())[-1]

    assert ready(live(0)).status is True
    assert ready(live(0, ready=2)).reason == "Progressing"

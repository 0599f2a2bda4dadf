"""A claim cannot be changed: what was wished for later is reported, and what runs goes on."""

from __future__ import annotations

from typing import Any

import pytest

from openclaw_operator.api.agent import Workspace
from openclaw_operator.cluster.client import FIELD_MANAGER
from openclaw_operator.reconcile.agent import AgentReconciler
from openclaw_operator.reconcile.claim import settle
from openclaw_operator.reconcile.status import ready_condition
from tests.unit.operator.fake_api import Bench

MODEL = {"provider": "openai-compatible", "name": "m", "baseURL": "http://llm:8000/v1"}
OURS = [{"manager": FIELD_MANAGER, "operation": "Apply", "fieldsV1": {"f:spec": {"f:storageClassName": {}}}}]
LABELS = {"app.kubernetes.io/managed-by": "openclaw-operator", "openclaw.io/agent": "ada"}


def claim(bench: Bench, *, asked_for: bool = True, **spec: Any) -> Any:
    meta = {"labels": LABELS, "managedFields": OURS if asked_for else []}
    return bench.child(
        "PersistentVolumeClaim", "ada-workspace", metadata=meta, spec={"accessModes": ["ReadWriteOnce"], **spec}
    )


@pytest.mark.parametrize(
    ("has", "asked_for", "bound", "wish", "sent", "unmet"),
    [
        ("slow", True, True, "fast", "slow", True),
        ("slow", False, False, "fast", "slow", True),
        ("slow", True, True, "slow", "slow", False),
        # Not to name it any more must not take it away; a default was never asked for, and is not now.
        ("slow", True, True, None, "slow", False),
        ("slow", False, True, None, None, False),
        # Without a class there is one to be chosen until a volume is bound.
        (None, False, False, "fast", "fast", False),
        (None, False, True, "fast", None, True),
    ],
)
def test_the_class_of_a_claim_stays(
    has: str | None, asked_for: bool, bound: bool, wish: str | None, sent: str | None, unmet: bool
) -> None:
    spec = {"storageClassName": has} if has else {}
    live = claim(Bench(), asked_for=asked_for, **spec, **({"volumeName": "pv"} if bound else {}))
    settled, problem = settle(Workspace(storage_class_name=wish), live)
    assert settled.storage_class_name == sent
    assert bool(problem) == unmet


def test_the_access_mode_of_a_claim_stays() -> None:
    settled, problem = settle(Workspace(access_mode="ReadWriteMany"), claim(Bench()))
    assert settled.access_mode == "ReadWriteOnce"
    assert problem
    assert problem.message.startswith("spec.workspace.accessMode: 'ReadWriteMany', but the claim has 'ReadWriteOnce'")


async def test_the_agent_says_what_needs_a_new_claim_and_runs() -> None:
    bench = Bench()
    claim(bench, storageClassName="slow", volumeName="pv")
    agent = bench.primary("Agent", "ada", {"model": MODEL, "workspace": {"storageClassName": "fast"}})
    await AgentReconciler(bench.context, {}).reconcile(agent)
    found = ready_condition(bench.api.items["Agent", "ada"]["status"])
    assert found
    assert found["reason"] == "NewClaimNeeded"
    assert "spec.workspace.storageClassName: 'fast', but the claim has 'slow'" in found["message"]
    assert bench.api.items["PersistentVolumeClaim", "ada-workspace"]["spec"]["storageClassName"] == "slow"
    assert bench.api.writes("Deployment") == [("apply", "ada-gateway")]

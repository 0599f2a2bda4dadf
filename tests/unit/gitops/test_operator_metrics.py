"""What the alerts rest on: backups as a CronJob reports them, and agents that are meant to stand still."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from openclaw_operator.cluster.kinds import BY_NAME
from openclaw_operator.cluster.live import observe
from openclaw_operator.reconcile.context import Context
from openclaw_operator.reconcile.jobs import run_state
from openclaw_operator.reconcile.pool import PoolReconciler
from openclaw_operator.reconcile.status import readiness
from openclaw_operator.resources.pool import Pool
from openclaw_operator.telemetry import Metrics

NOON, ONE = "2026-01-01T12:00:00Z", "2026-01-01T13:00:00Z"
NOON_SECONDS = 1767268800.0
RUNNING = [{"kind": "Job", "name": "memory-backup-29454000"}]


def facts(status: dict[str, Any], **spec: Any) -> dict[str, Any]:
    cron_job = {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {
            "name": "memory-backup",
            "namespace": "agents",
            "uid": "1",
            "resourceVersion": "1",
            "creationTimestamp": NOON,
        },
        "spec": {"schedule": "0 2 * * *", **spec},
        "status": status,
    }
    return observe(BY_NAME["CronJob"], cron_job).facts


@pytest.mark.parametrize(
    ("status", "failed", "succeeded"),
    [
        ({}, None, None),
        ({"lastScheduleTime": NOON, "active": RUNNING}, False, None),
        ({"lastScheduleTime": NOON}, True, None),
        ({"lastScheduleTime": NOON, "lastSuccessfulTime": ONE}, False, NOON_SECONDS + 3600),
        ({"lastScheduleTime": ONE, "lastSuccessfulTime": NOON}, True, NOON_SECONDS),
        ({"lastScheduleTime": ONE, "lastSuccessfulTime": NOON, "active": RUNNING}, False, NOON_SECONDS),
        # A backup that was started by hand.
        ({"lastSuccessfulTime": NOON}, None, NOON_SECONDS),
    ],
)
def test_a_backup_failed_when_its_last_run_ended_without_success(
    status: dict[str, Any], failed: bool | None, succeeded: float | None
) -> None:
    assert run_state(facts(status)) == (failed, succeeded)


def test_a_suspended_or_missing_backup_is_not_expected() -> None:
    assert run_state(facts({"lastScheduleTime": NOON}, suspend=True)) == (None, None)
    assert run_state(None) == (None, None)


@pytest.mark.parametrize(
    ("status", "reason", "counted"),
    [
        ("True", "Ready", "True"),
        ("True", "Hibernated", "Hibernated"),
        ("False", "Progressing", "False"),
        ("False", "Suspended", "Suspended"),
        ("False", "ScaledToZero", "Suspended"),
    ],
)
def test_agents_that_are_meant_to_stop_are_counted_apart(status: str, reason: str, counted: str) -> None:
    assert readiness({"conditions": [{"type": "Ready", "status": status, "reason": reason}]}) == counted


def test_a_pool_that_is_gone_is_no_longer_wanted() -> None:
    metrics = Metrics()
    pools = PoolReconciler(cast("Context", SimpleNamespace(metrics=metrics, now=lambda: None)), {})

    def wanted() -> dict[tuple[str, str], float]:
        return {
            (sample.labels["namespace"], sample.labels["pool"]): sample.value
            for family in metrics.pool_pods.collect()
            for sample in family.samples
            if sample.labels["state"] == "wanted"
        }

    pool = cast("Pool", SimpleNamespace(warm=2))
    pools._observe("agents", {"one": pool, "two": pool}, [], complete=False)
    pools._observe("others", {"one": pool}, [], complete=False)
    assert wanted() == {("agents", "one"): 2, ("agents", "two"): 2, ("others", "one"): 2}
    pools._observe("agents", {"two": pool}, [], complete=False)
    assert wanted() == {("agents", "two"): 2, ("others", "one"): 2}
    pools._observe("agents", {}, [], complete=False)
    assert wanted() == {("others", "one"): 2}

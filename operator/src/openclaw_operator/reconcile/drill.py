"""What the restore drills of a MemoryStore have proven, from its CronJob and what the last pod said."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from openclaw_operator.api.memorystore import MemoryStoreSpec
from openclaw_operator.reconcile import jobs
from openclaw_operator.reconcile.context import Context
from openclaw_operator.reconcile.status import Condition, told_condition
from openclaw_operator.resources import drill
from openclaw_operator.resources.meta import Owner

TYPE = "RestoreProven"


async def judge(
    context: Context, owner: Owner, spec: MemoryStoreSpec, facts: Mapping[str, Any] | None, old: Mapping[str, Any]
) -> tuple[Mapping[str, Any] | None, Condition | None]:
    """status.lastDrill and the condition; None where none is asked for. Pods are looked at once for each drill.

    `old` is the status as it was. Raises ApiError for a fault.
    """
    if spec.backup is None or spec.backup.drill is None:
        return None, None
    told = told_condition(old, TYPE)
    failed, succeeded = jobs.run_state(facts)
    if facts is None or (not failed and succeeded is None):
        # Not yet, or suspended for a moment: what is known stays.
        return old.get("lastDrill"), _same(told) or Condition(TYPE, None, "NoDrillYet", _not_yet(spec))
    at: float = facts["scheduled"] if failed else facts["succeeded"]
    time = datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    known = old.get("lastDrill") or {}
    if told and (known.get("time"), known.get("proven")) == (time, not failed):
        return known, _same(told)
    pods = f"app.kubernetes.io/name={drill.SERVER},{owner.label}={owner.name}"
    if failed:
        cause = await jobs.cause(context.client, owner.namespace, pods) or "its Job failed"
        message = f"the drill of {time} failed: {cause}: see OpenClawBackupDrillFailed in the runbooks"
        return {"time": time, "proven": False}, Condition(TYPE, False, "DrillFailed", message)
    said = await jobs.summary(context.client, owner.namespace, pods, drill.SERVER)
    numbers: dict[str, Any] = {key: said[key] for key in ("backup", "rows", "points") if key in said}
    what = f"backup {said['backup']}" if "backup" in said else "the newest backup"
    message = f"{what} was restored into scratch servers on {time}, and everything was there"
    return {"time": time, "proven": True, **numbers}, Condition(TYPE, True, "Proven", message)


def _same(told: Mapping[str, Any] | None) -> Condition | None:
    status = {"True": True, "False": False}
    return Condition(TYPE, status.get(told["status"]), told["reason"], told["message"]) if told else None


def _not_yet(spec: MemoryStoreSpec) -> str:
    schedule = spec.backup.drill.schedule if spec.backup and spec.backup.drill else ""
    return f"no backup has been restored for a test yet; the schedule is {schedule!r}"

"""What became of CronJobs and Jobs: how they ended, what their pods said last, what keeps those from running."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from openclaw_operator.cluster.client import Client, Object
from openclaw_operator.cluster.kinds import BY_NAME
from openclaw_operator.cluster.live import Live, pod_problem
from openclaw_operator.errors import ConflictError, RejectedError
from openclaw_operator.reconcile.children import rejection
from openclaw_operator.reconcile.context import Context
from openclaw_operator.reconcile.pods import newest_first

# Its end is told by a watch; only whether its pod can run at all is not.
JOB_SECONDS = 10.0
# Rights and quotas are not of a moment.
REFUSED_SECONDS = 15.0


def run_state(facts: Mapping[str, Any] | None) -> tuple[bool | None, float | None]:
    """Whether the last scheduled run failed, and the Unix time of the last good one; None where there is none.

    `facts` are those of a CronJob. One that is suspended is not expected to do anything.
    """
    if facts is None or facts["suspended"]:
        return None, None
    scheduled, succeeded = facts["scheduled"], facts["succeeded"]
    if scheduled is None:
        return None, succeeded
    return not facts["running"] and (succeeded is None or succeeded < scheduled), succeeded


async def create(context: Context, body: Object) -> Live:
    """Make a Job, or find the one of that name. Raises SpecError where the API server will never take it."""
    kind, meta = BY_NAME["Job"], body["metadata"]
    try:
        item = await context.client.create(kind, meta["namespace"], body, "create")
    except ConflictError:
        # It was made before the operator started anew, and the watch has not told of it yet.
        item = await context.client.get(kind, meta["namespace"], meta["name"])
    except RejectedError as error:
        raise rejection("Job", meta["name"], error) from error
    return context.children.observe(kind, item)


async def summary(client: Client, namespace: str, selector: str, step: str) -> dict[str, Any]:
    """What a step that went well wrote about itself; nothing where its pod is gone already."""
    for pod in await newest_first(client, namespace, selector):
        for name, ended in _ended(pod):
            if name == step and ended.get("exitCode") == 0:
                try:
                    said = json.loads(ended.get("message", ""))
                except ValueError:
                    return {}
                return said if isinstance(said, dict) else {}
    return {}


async def stuck(client: Client, namespace: str, job: str) -> str | None:
    """What keeps the Job's pod from running, in the scheduler's or the kubelet's words."""
    for pod in await newest_first(client, namespace, of(job)):
        status = pod.get("status") or {}
        problem = pod_problem(status) if status.get("phase") == "Pending" else None
        if problem:
            return ": ".join(part for part in problem if part)
    return None


async def cause(client: Client, namespace: str, selector: str) -> str | None:
    """The last words of the step that failed."""
    for pod in await newest_first(client, namespace, selector):
        for name, ended in _ended(pod):
            if ended.get("exitCode"):
                lines = [line for line in str(ended.get("message", "")).splitlines() if line.strip()]
                last = lines[-1].removeprefix("error: ") if lines else f"exit code {ended['exitCode']}"
                return f"step {name}: {last}"
    return None


def running(job: str, stuck_by: str | None) -> str:
    """The message of a Job that has not ended."""
    return f"Job {job} is running" + (f", but its pod is stuck: {stuck_by}" if stuck_by else "")


def of(job: str) -> str:
    """The label selector of a Job's pods."""
    return f"batch.kubernetes.io/job-name={job}"


def _ended(pod: Object) -> list[tuple[str, Object]]:
    """(step, how it ended) of the steps of a pod that have; servers beside them are ended, and are none."""
    status, spec = pod.get("status") or {}, pod.get("spec") or {}
    beside = {item["name"] for item in spec.get("initContainers") or () if item.get("restartPolicy") == "Always"}
    containers = [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
    return [
        (item["name"], item["state"]["terminated"])
        for item in containers
        if "terminated" in (item.get("state") or {}) and item["name"] not in beside
    ]

"""Why the pods of a gateway or a server do not get ready.

The status of a Deployment or a StatefulSet does not tell, and a watch of all pods would be paid for by those that are
well. So the pods of one workload are listed, once it has been unready for a while, and seldom again until it is ready.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from openclaw_operator.cluster.client import Client, Object
from openclaw_operator.cluster.live import CRASH_LOOP, IMAGE_PULL_FAILED, Live, exit_text, pod_problem
from openclaw_operator.cluster.store import ChildStore
from openclaw_operator.errors import ApiError
from openclaw_operator.reconcile.pods import FINISHED, START_SECONDS, age_seconds, newest_first

LOG = logging.getLogger(__name__)
RECHECK_SECONDS = 15.0
# However many are not ready, at most two are looked at in a second: an outage must not become a load.
LOOK_SECONDS = 0.5
# So long room or a volume may take to come by itself: what a Deployment gives a rollout.
PATIENCE_SECONDS = 600.0
# The kubelet never waits longer than five minutes before it starts a container anew, and takes one that ran for twice
# as long for well.
_CRASHED_SECONDS = 600.0
# A container that ended for the first time is started at once; the second time the kubelet itself calls it a loop.
_LOOP_RESTARTS = 2


@dataclass(frozen=True)
class Workload:
    """What is not ready: its pods' label selector, and what to correct where its image or its size is wrong."""

    what: str
    selector: Mapping[str, str]
    image: str
    resources: str

    @property
    def labels(self) -> str:
        """The selector as kubectl and the API server take it."""
        return ",".join(f"{key}={value}" for key, value in self.selector.items())


@dataclass(frozen=True)
class Cause:
    """The problem and the fix. `passing`: it may be over without one, as when nodes are added."""

    message: str
    passing: bool


@dataclass
class Look:
    """What is known of a workload that is not ready. `known` is False until its pods were looked at."""

    due: float
    known: bool = False
    cause: Cause | None = None


class Stalls:
    """The workloads that are not ready. Nothing is kept of one that is."""

    def __init__(
        self, client: Client, children: ChildStore, now: Callable[[], datetime], monotonic: Callable[[], float]
    ) -> None:
        self._client = client
        self._children = children
        self._now = now
        self._monotonic = monotonic
        self._looks: dict[tuple[str, str, str], Look] = {}

    async def look(self, live: Live, workload: Workload) -> tuple[Look, float]:
        """What is known of one that is not ready, and after how many seconds to look again."""
        key, now = (live.kind, live.namespace, live.name), self._monotonic()
        look = self._looks.get(key)
        if look is None:
            look = self._looks[key] = Look(due=0.0)
            look.due = now + self._pause()
        if look.due <= now:
            look.due = now + self._pause()
            try:
                pods = await newest_first(self._client, live.namespace, workload.labels, cached=True)
            except ApiError as error:
                # What is known stays until it can be looked at: it only explains.
                LOG.warning("pods of %s %s/%s: %s", *key, error)
            else:
                look.known, look.cause = True, self._cause(pods, live, workload)
        return look, look.due - now

    def doubts(self, kind: str, namespace: str, name: str) -> bool:
        """Whether something keeps a workload from getting ready and it is to be looked at again now."""
        look = self._looks.get((kind, namespace, name))
        return look is not None and look.cause is not None and look.due <= self._monotonic()

    def seen(self, kind: str, namespace: str, name: str) -> Look | None:
        """What is known of a workload, None while it is not looked at."""
        return self._looks.get((kind, namespace, name))

    def over(self, kind: str, namespace: str, name: str) -> None:
        """A workload is ready, gone, or not meant to run."""
        self._looks.pop((kind, namespace, name), None)

    def _pause(self) -> float:
        return max(RECHECK_SECONDS, len(self._looks) * LOOK_SECONDS)

    def _cause(self, pods: Iterable[Object], live: Live, workload: Workload) -> Cause | None:
        now = self._now()

        def claim(name: str) -> Mapping[str, Any]:
            known = self._children.get("PersistentVolumeClaim", live.namespace, name)
            return known.facts if known else {}

        alive = [
            pod
            for pod in pods
            if "deletionTimestamp" not in pod["metadata"] and (pod.get("status") or {}).get("phase") not in FINISHED
        ]
        age, ready, seen = age_seconds(live.created, now), live.facts["ready"], live.facts["current"]
        if live.kind == "StatefulSet" and seen and not (alive or ready) and age >= START_SECONDS:
            # Unlike a Deployment it does not say what refuses its pods.
            look = f"see kubectl describe {live.kind.lower()} {live.name} -n {live.namespace}"
            message = f"{workload.what} has no pod, often for a quota or PodSecurity: {look}"
            return Cause(message, passing=age < PATIENCE_SECONDS)
        causes = (of_pod(pod, workload, live.namespace, now, claim) for pod in alive)
        return next((cause for cause in causes if cause), None)


def of_pod(
    pod: Object, workload: Workload, namespace: str, now: datetime, claim: Callable[[str], Mapping[str, Any]]
) -> Cause | None:
    """What keeps a pod from getting ready, if it is not and that can be told. Pure.

    `claim` gives the facts of a PersistentVolumeClaim, none of one that is not known.
    """
    status = pod.get("status") or {}
    is_true = {item["type"] for item in status.get("conditions") or () if item["status"] == "True"}
    if "Ready" in is_true:
        return None
    age, what = age_seconds(pod["metadata"]["creationTimestamp"], now), workload.what
    pods = f"pods -n {namespace} -l {workload.labels}"
    patient = age < PATIENCE_SECONDS
    (reason, detail), once = pod_problem(status) or ("", ""), False
    crash = _crashed(status, now) if reason in ("", "Ended") else None
    if crash:
        reason, (detail, once) = CRASH_LOOP, crash
    if reason == IMAGE_PULL_FAILED:
        return Cause(
            f"image {detail!r} of {what} cannot be pulled: correct {workload.image}, or let the nodes pull it; the "
            f"registry's answer is in kubectl describe {pods}",
            passing=False,
        )
    if reason == CRASH_LOOP:
        larger = f"raise the memory in {workload.resources}, or " if "OOMKilled" in detail else ""
        ends = "ended and starts anew" if once else "ends again and again"
        return Cause(
            f"the container of {what} {ends} ({detail}): {larger}see kubectl logs --previous"
            f"{pods.removeprefix('pods')}",
            passing=once,
        )
    if "PodScheduled" not in is_true:
        unbound = {name: facts for name in _claims(pod) if (facts := claim(name)) and not facts["bound"]}
        for name, facts in unbound.items():
            # Where no node has room either, that comes first.
            if not ("volume" in detail.lower() if detail else facts["placed"]):
                continue
            why = f" ({detail})" if detail else ""
            return Cause(
                f"{what} waits for the volume of PersistentVolumeClaim {name}{why}: see kubectl describe pvc {name} "
                f"-n {namespace}, and whether its storage class exists and has room",
                passing=patient,
            )
        if reason:
            return Cause(
                f"no node takes {what} ({detail}): make room or add nodes, or lower {workload.resources}",
                passing=patient,
            )
        return None
    if reason:
        return Cause(f"{what} does not start ({reason}: {detail}): see kubectl describe {pods}", passing=False)
    if age < START_SECONDS:
        return None
    if status.get("phase") == "Pending":
        return Cause(
            f"{what} has a node and does not start, often for a volume that cannot be mounted: see kubectl describe "
            f"{pods}",
            passing=patient,
        )
    return Cause(
        f"{what} runs and does not get ready: see kubectl logs{pods.removeprefix('pods')}",
        passing=patient,
    )


def _crashed(status: Object, now: datetime) -> tuple[str, bool] | None:
    """How a container ended that has just done so or runs anew, and whether it did so only once.

    What is told must not change with each end and start.
    """
    for container in (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())):
        states = (container.get("state") or {}, container.get("lastState") or {})
        last: Object = next((state["terminated"] for state in states if state.get("terminated")), {})
        ended = last.get("finishedAt")
        if ended and not container.get("ready") and age_seconds(ended, now) < _CRASHED_SECONDS:
            ran = age_seconds(last.get("startedAt") or ended, datetime.fromisoformat(ended))
            return exit_text(last), container.get("restartCount", 0) < _LOOP_RESTARTS or ran >= _CRASHED_SECONDS
    return None


def _claims(pod: Object) -> list[str]:
    volumes = (pod.get("spec") or {}).get("volumes") or ()
    return [item["persistentVolumeClaim"]["claimName"] for item in volumes if "persistentVolumeClaim" in item]

"""Why a sandbox pool has too few pods, in words that name the cause and the fix. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from openclaw_operator.cluster.live import IMAGE_PULL_FAILED, Live
from openclaw_operator.errors import ApiError, SpecError
from openclaw_operator.reconcile.pods import START_SECONDS
from openclaw_operator.reconcile.status import Condition, told_condition
from openclaw_operator.resources.meta import POOL_LABEL
from openclaw_operator.resources.sandbox import WORKSPACE_LABEL

SANDBOX_AVAILABLE = "SandboxAvailable"
_RUNTIME_CLASS = re.compile(r'RuntimeClass "([^"]+)" not found')
_QUOTA = re.compile(r"exceeded quota: ([^,]+)")


@dataclass(frozen=True)
class Shortage:
    """What keeps pods of a pool from starting: reason of a condition, and the message with the fix."""

    reason: str
    message: str


@dataclass(frozen=True)
class PoolState:
    """A pool at one moment: pods that are to wait, that do, that are at work and that start."""

    wanted: int
    warm: int
    busy: int
    starting: int
    shortage: Shortage | None

    @property
    def available(self) -> bool:
        """Whether calls get a sandbox, if not at once: one waits or works, or nothing keeps them from starting."""
        return self.shortage is None or self.warm + self.busy > 0

    @property
    def gist(self) -> tuple[bool, str | None]:
        """What is worth telling soon; the rest are numbers."""
        return self.available, self.shortage.reason if self.shortage else None

    def status(self, name: str) -> dict[str, Any]:
        """As in the status of a Skill."""
        numbers = {"wanted": self.wanted, "warm": self.warm, "busy": self.busy, "starting": self.starting}
        why = {"reason": self.shortage.reason, "message": self.shortage.message} if self.shortage else {}
        return {"name": name, **numbers, **why}


def of_refusal(error: ApiError) -> Shortage:
    """What the API server's refusal to create a pod means."""
    # The random name of the pod comes first; it would make a new message of each try.
    detail = error.message.rpartition(" is forbidden: ")[2]
    runtime_class = _RUNTIME_CLASS.search(detail)
    if runtime_class:
        return Shortage(
            "RuntimeClassNotFound",
            f"RuntimeClass {runtime_class[1]!r} does not exist in this cluster: create it, or correct "
            "runtimeClassName in spec.sandbox of the Skill or spec.execution.sandbox of the Agent",
        )
    quota = _QUOTA.search(detail)
    if quota:
        return Shortage(
            "QuotaExceeded",
            f"ResourceQuota {quota[1]!r} leaves no room for sandbox pods ({detail}): raise it, or lower spec.resources "
            "or spec.sandbox.warm of the Skill",
        )
    if "violates PodSecurity" in detail:
        return Shortage(
            "PodSecurityRefused", f"PodSecurity of the namespace refuses sandbox pods ({detail}): allow them there"
        )
    return Shortage("PodsRefused", f"the API server refuses sandbox pods: {detail}: allow them in this namespace")


def of_problem(error: SpecError) -> Shortage:
    """What stands in the way of every pod of a namespace."""
    return Shortage(error.reason, f"no sandbox pods are made: {error.message}")


def of_pod(pod: Live, age: float) -> Shortage | None:
    """What keeps a pod that was never ready from starting; `age` in seconds."""
    pool = pod.labels.get(POOL_LABEL, "")
    problem = pod.facts["problem"]
    if problem is None:
        if not pod.facts["scheduled"] or age < START_SECONDS:
            return None
        return Shortage(
            "PodsNotStarting",
            "sandbox pods have a node and do not start, often for a volume that cannot be mounted or a RuntimeClass "
            f"that the node does not have: see kubectl describe pods -l {POOL_LABEL}={pool}",
        )
    reason, detail = problem
    claim = pod.labels.get(WORKSPACE_LABEL)
    if reason == IMAGE_PULL_FAILED:
        return Shortage(
            reason,
            f"image {detail!r} cannot be pulled: correct its name or tag, or let the nodes pull it (registry, "
            f"credentials); the registry's answer is in kubectl describe pods -l {POOL_LABEL}={pool}",
        )
    if claim and "persistentvolumeclaim" in detail.lower():
        return Shortage(
            "WorkspaceUnavailable",
            f"no sandbox pod can mount the workspace {claim} ({detail}): see kubectl describe pvc {claim}; one that is "
            "being deleted goes, and is made again, once no pod uses it: kubectl delete pods -l "
            f"{WORKSPACE_LABEL}={claim}",
        )
    if reason in ("Unschedulable", "SchedulingGated"):
        return Shortage(
            reason,
            f"no node takes sandbox pods ({detail}): make room or add nodes, or lower spec.resources of the Skill",
        )
    if reason == "Ended":
        return ended(detail)
    return Shortage(reason, f"sandbox pods do not start: {detail}: see kubectl describe pods -l {POOL_LABEL}={pool}")


def ended(detail: str) -> Shortage:
    """Pods end before they were ready."""
    return Shortage(
        "PodsEnd", f"sandbox pods end before they are ready ({detail}): check the image and spec.resources of the Skill"
    )


def sandbox_condition(states: Mapping[str, PoolState] | None, old: Mapping[str, Any]) -> Condition:
    """Whether skills get sandboxes; the keys of `states` say what each is of, None stands for not known yet.

    What is not known is as it was told in the `old` status; nothing known is nothing wrong.
    """
    if states is None:
        told = told_condition(old, SANDBOX_AVAILABLE)
        if told and told["status"] == "False":
            return Condition(SANDBOX_AVAILABLE, False, told["reason"], told["message"])
    for name, state in (states or {}).items():
        if state.shortage and not state.available:
            return Condition(SANDBOX_AVAILABLE, False, state.shortage.reason, f"{name}: {state.shortage.message}")
    return Condition(SANDBOX_AVAILABLE, True, "Available", "nothing keeps sandbox pods from starting")

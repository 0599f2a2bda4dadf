"""Whether an agent sleeps, is on its way to it, or wakes.

The activator says that an agent is idle, in ConfigMap <agent>-hibernation. Then its Service is turned to the activator,
and only when no request that was under way can have met the gateways any more are these scaled to zero. A message turns
`state` to active: gateways start, and the Service follows once one of them is ready.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from openclaw_operator.api.agent import AgentSpec
from openclaw_operator.reconcile import activator
from openclaw_operator.reconcile.context import Context
from openclaw_operator.reconcile.primaries import Key, Primary
from openclaw_operator.reconcile.status import HIBERNATED, Condition
from openclaw_operator.resources.activator import COMPONENT, state_name

# `stranded`: asleep, and the activator that is to take its messages is not ready.
Phase = Literal["awake", "leaving", "asleep", "stranded", "waking"]
# Services are followed by every node within seconds, and gateways say every five that they are still idle.
LEAVING_SECONDS = 15.0
# So long before it is due again is an agent woken: a gateway takes that long to start.
LEAD_SECONDS = 30.0
NO_PODS = frozenset({"asleep", "stranded"})


@dataclass(frozen=True)
class Verdict:
    """What the activator says: idle, by so many gateway pods, and until when in Unix seconds; None for ever."""

    idle: bool = False
    replicas: int = 0
    wake_at: float | None = None


@dataclass(frozen=True)
class Sight:
    """What decides. `wanted` and `ready` are replicas, None while there is no Deployment; `left` for how long the
    Service has been the activator's, None while it is not."""

    wanted: int | None
    replicas: int
    ready: int
    held: bool
    activator_ready: bool
    left: float | None


def read_verdict(data: Mapping[str, Any]) -> Verdict:
    """The data of the ConfigMap. What cannot be read says nothing: the agent stays awake."""
    try:
        return Verdict(
            data.get("state") == "idle",
            int(data.get("replicas") or 0),
            datetime.fromisoformat(data["wakeAt"]).timestamp() if data.get("wakeAt") else None,
        )
    except (TypeError, ValueError):
        return Verdict()


def applies(spec: AgentSpec) -> bool:
    """Whether the agent ever hibernates: not one that its author stopped."""
    gateway = spec.gateway
    return gateway.hibernation is not None and not spec.suspend and bool(gateway.autoscaling or gateway.replicas)


def decide(verdict: Verdict, seen: Sight, now: float) -> Phase:
    """What an agent that may hibernate is to do. `now` is Unix time."""
    due = verdict.wake_at is not None and now >= verdict.wake_at - LEAD_SECONDS
    stopped = seen.wanted == 0
    if verdict.idle and not due:
        if stopped:
            return "asleep" if seen.activator_ready else "stranded"
        # A gateway that has not said it is idle may not be, and nobody is sent to where nobody is.
        if not seen.activator_ready or seen.wanted is None or seen.replicas > verdict.replicas:
            return "awake"
        return "asleep" if seen.left is not None and seen.left >= LEAVING_SECONDS else "leaving"
    return "waking" if stopped or (seen.held and not seen.ready) else "awake"


def available(phase: Phase | None) -> Condition | None:
    """The condition Available of an agent without gateway pods that its author did not stop; None for others."""
    if phase == "asleep":
        return Condition("Available", True, HIBERNATED, "idle, so no gateway pods run: the next message starts them")
    if phase == "stranded":
        message = (
            "it hibernates, and the activator that would take its messages is not ready: see kubectl describe pods "
            f"-l app.kubernetes.io/name={COMPONENT}"
        )
        return Condition("Available", False, "ActivatorNotReady", message)
    return None


def condition(phase: Phase) -> Condition:
    """The condition Hibernated."""
    if phase in NO_PODS:
        return Condition("Hibernated", True, "Idle", "no gateway pods run: the next message starts them")
    if phase == "waking":
        return Condition("Hibernated", False, "Waking", "gateway pods start; what came is held until one is ready")
    return Condition("Hibernated", False, "Awake", "gateway pods run")


class Hibernation:
    """What agents that hibernate are to do. Remembers since when a Service has been the activator's, and when an agent
    began to wake; the rest is in the cluster."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._left: dict[Key, float] = {}
        self._woken: dict[Key, float] = {}

    def phase(self, primary: Primary, spec: AgentSpec) -> tuple[Phase | None, float | None]:
        """What an agent is to do, None if it never hibernates; and when to look again though nothing happens."""
        context, key = self._context, primary.key
        if not applies(spec):
            self.gone(key)
            return None, None
        verdict = read_verdict(self._facts(primary, "ConfigMap", state_name(primary.name)))
        gateways, service = (
            self._facts(primary, kind, f"{primary.name}-gateway") for kind in ("Deployment", "Service")
        )
        now, unix = context.monotonic(), context.now().timestamp()
        seen = Sight(
            wanted=gateways.get("wanted"),
            replicas=gateways.get("replicas", 0),
            ready=gateways.get("ready", 0),
            held=service.get("selects") == COMPONENT,
            activator_ready=activator.ready(context, primary.namespace),
            left=now - self._left[key] if key in self._left else None,
        )
        phase = decide(verdict, seen, unix)
        if phase == "leaving":
            return phase, max(0.0, self._left.setdefault(key, now) + LEAVING_SECONDS - now)
        self._left.pop(key, None)
        if phase == "waking":
            self._woken.setdefault(key, now)
        elif (began := self._woken.pop(key, None)) is not None and phase == "awake":
            context.metrics.wakes.observe(now - began)
        if phase in NO_PODS and verdict.wake_at is not None:
            return phase, max(0.0, verdict.wake_at - LEAD_SECONDS - unix)
        return phase, None

    def gone(self, key: Key) -> None:
        """The agent was deleted, or hibernates no more."""
        self._left.pop(key, None)
        self._woken.pop(key, None)

    def _facts(self, primary: Primary, kind: str, name: str) -> Mapping[str, Any]:
        """The facts of a child of the agent; none while it is not there."""
        live = self._context.children.get(kind, primary.namespace, name)
        return live.facts if live and live.owner and live.owner.uid == primary.uid else {}

"""Keeps the egress proxy of a namespace for as long as a pool may use it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from openclaw_operator.errors import SpecError
from openclaw_operator.reconcile.children import of_namespace
from openclaw_operator.reconcile.context import Context
from openclaw_operator.reconcile.stalls import Workload
from openclaw_operator.reconcile.status import Condition
from openclaw_operator.resources import egress, network

LOG = logging.getLogger(__name__)
_NOT_READY = "EgressNotReady"
_PARTS = (
    ("ConfigMap", egress.KEYS_NAME),
    ("Deployment", egress.NAME),
    ("Service", egress.NAME),
    ("Service", egress.API_NAME),
    ("NetworkPolicy", network.SANDBOX_EGRESS_POLICY),
    ("NetworkPolicy", network.EGRESS_POLICY),
)


async def keep(context: Context, namespace: str, public_keys: str, *, internal: bool | None) -> bool:
    """Bring the proxy to what it should be, and return whether it is.

    What only the user can solve is logged, and told by the agents' condition.

    `public_keys` are those that grants may be signed with; `internal` whether a skill declares network:internal, None
    while that is not known: how far a proxy that is there may reach then stays as it is. Raises ApiError for a passing
    fault.
    """
    options = context.egress
    if not options.enabled:
        await drop(context, namespace)
        return True
    children = of_namespace(context.client, context.children, namespace)
    policies = network.egress_policies(
        namespace, internal=bool(internal), denied=options.denied, monitoring=context.monitoring
    )
    if internal is None and context.children.get("NetworkPolicy", namespace, network.EGRESS_POLICY):
        policies = [item for item in policies if item["metadata"]["name"] != network.EGRESS_POLICY]
    try:
        # The policies first, then the keys: no pod runs without them.
        for item in (*policies, *egress.build(namespace, public_keys, options)):
            await children.ensure_shared(item)
    except SpecError as error:
        LOG.warning("egress proxy of namespace %s: %s", namespace, error.message)
        return False
    return True


async def drop(context: Context, namespace: str) -> None:
    """Delete what there is of the proxy. Raises ApiError for a fault."""
    context.stalls.over("Deployment", namespace, egress.NAME)
    await of_namespace(context.client, context.children, namespace).drop_shared(_PARTS)


async def look(context: Context, namespace: str) -> float | None:
    """Find out why a proxy is not ready. Returns when to look again, None once it is."""
    live = context.children.get("Deployment", namespace, egress.NAME)
    if live is None or live.owner or live.facts["ready"] > 0:
        context.stalls.over("Deployment", namespace, egress.NAME)
        return None
    workload = Workload(
        what="the egress proxy",
        selector=egress.LABELS,
        image="images.egress of the operator's chart",
        resources="egress.resources of the operator's chart",
    )
    _, again = await context.stalls.look(live, workload)
    return again


def looked_at(context: Context, namespace: str) -> bool:
    """Whether the pods of a proxy that is not ready were looked at since the operator started."""
    seen = context.stalls.seen("Deployment", namespace, egress.NAME)
    return bool(seen and seen.known)


def condition(
    context: Context, namespace: str, skills: list[str], told: Mapping[str, Any] | None = None
) -> Condition | None:
    """Whether `skills`, those of an agent that declare network:*, have their way out; None where there are none.

    `told` is this condition as the status tells it.
    """
    if not skills:
        return None
    names = ", ".join(skills)
    if not context.egress.enabled:
        message = f"this operator runs no egress proxy, so {names} reach nothing: set egress.enabled of its chart"
        return Condition("EgressReady", False, "EgressOff", message)
    for kind, name in _PARTS:
        part = context.children.get(kind, namespace, name)
        if (part and part.owner) or (kind, namespace, name) in context.children.taken:
            whose = f"{part.owner.kind} {part.owner.name}" if part and part.owner else "somebody else"
            message = f"{kind} {name} belongs to {whose}, so {names} reach nothing: rename or delete it"
            return Condition("EgressReady", False, "OwnershipConflict", message)
    live = context.children.get("Deployment", namespace, egress.NAME)
    if live and live.facts["ready"] > 0:
        return Condition("EgressReady", True, "Ready", "the egress proxy takes connections")
    problem = live.facts["problem"] if live else None
    seen = context.stalls.seen("Deployment", namespace, egress.NAME)
    cause = seen.cause if seen else None
    if told and told["reason"] == _NOT_READY and not (seen and seen.known):
        # Told before the operator started anew.
        return Condition("EgressReady", False, _NOT_READY, told["message"])
    if problem or (cause and not cause.passing):
        look = f"see kubectl describe pods -l app.kubernetes.io/name=egress-proxy -n {namespace}"
        why = cause.message if cause else f"{problem}: {look}"
        message = f"the egress proxy is not ready, so {names} reach nothing: {why}"
        return Condition("EgressReady", False, _NOT_READY, message)
    # On its way, like a gateway: a tool that waits for the agent must not take it for broken.
    message = f"the egress proxy starts, and {names} reach nothing until it is ready"
    return Condition("EgressReady", False, "Progressing", f"{message}: {cause.message}" if cause else message)

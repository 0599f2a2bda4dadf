"""Keeps the activator of a namespace for as long as one of its agents hibernates."""

from __future__ import annotations

import logging

from pydantic import ValidationError

from openclaw_operator.api.gateway import Hibernation
from openclaw_operator.errors import SpecError
from openclaw_operator.reconcile.children import of_namespace
from openclaw_operator.reconcile.context import Context
from openclaw_operator.reconcile.queue import Key
from openclaw_operator.resources import activator, network
from openclaw_operator.resources.agent_identity import token_secret_name
from openclaw_operator.resources.meta import Owner

LOG = logging.getLogger(__name__)
# The kind of the queue's keys that stand for it.
KIND = "Activator"
REFUSED_RECHECK_SECONDS = 15.0
# In the order in which they go: no pod without its policy, which is also what tells that the others are to go.
_PARTS = (
    "Deployment",
    "PodDisruptionBudget",
    "Service",
    "RoleBinding",
    "Role",
    "ServiceAccount",
    "Secret",
    "NetworkPolicy",
)


def ready(context: Context, namespace: str) -> bool:
    """Whether an activator takes requests."""
    live = context.children.get("Deployment", namespace, activator.NAME)
    return live is not None and live.owner is None and live.facts["ready"] > 0


class ActivatorReconciler:
    """Reconciles the activators, one for each namespace with an agent that hibernates.

    `selective` means that other operators serve other agents: an activator that was not ours may be theirs.
    Each has so many `replicas`.
    """

    def __init__(self, context: Context, *, selective: bool = False, replicas: int = 1) -> None:
        self._context = context
        self._selective = selective
        self._replicas = replicas
        self._ready: dict[str, bool] = {}

    async def reconcile(self, key: Key) -> float | None:
        """Bring the activator of one namespace to what it should be. Raises ApiError for a passing fault."""
        context, namespace = self._context, key[1]
        children = of_namespace(context.client, context.children, namespace)
        names = context.primaries.hibernating(namespace)
        if not names:
            if namespace in self._ready or not self._selective:
                await children.drop_shared((kind, activator.NAME) for kind in _PARTS)
            self._ready.pop(namespace, None)
            return None
        sleepers = [sleeper for name in names if (sleeper := self._sleeper(namespace, name))]
        try:
            # The policy first: no pod runs without it.
            for item in (
                network.activator_policy(namespace, context.monitoring),
                *activator.build(namespace, sleepers, context.images, self._replicas),
            ):
                await children.ensure_shared(item)
            if self._replicas == 1:
                await children.drop_shared([("PodDisruptionBudget", activator.NAME)])
        except SpecError as error:
            LOG.warning("activator of namespace %s: %s", namespace, error.message)
            return REFUSED_RECHECK_SECONDS
        now = ready(context, namespace)
        if self._ready.get(namespace) != now:
            self._ready[namespace] = now
            for name in names:
                context.queue.add(("Agent", namespace, name))
        return None

    def _sleeper(self, namespace: str, name: str) -> activator.Sleeper | None:
        """An agent as the activator has to know it; None until its token is there.

        An agent whose spec this version does not take goes on as it is, and what is wrong of it is no matter here.
        """
        context = self._context
        primary = context.primaries.get(("Agent", namespace, name))
        if primary is None or primary.deleting:
            return None
        try:
            hibernation = Hibernation.model_validate(primary.load()["spec"]["gateway"]["hibernation"])
        except ValidationError:
            return None
        secret = token_secret_name(Owner("Agent", name, namespace, primary.uid))
        token = context.children.get("Secret", namespace, secret)
        if token is None or "token_sha256" not in token.facts:
            return None
        return activator.Sleeper(
            name, token.facts["token_sha256"], hibernation.idle_seconds, hibernation.wake_timeout_seconds
        )

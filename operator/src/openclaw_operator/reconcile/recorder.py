"""Kubernetes Events for people: one when readiness changes for a reason a user can act on, none otherwise."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from openclaw_operator.api import API_VERSION
from openclaw_operator.cluster.client import Client
from openclaw_operator.cluster.kinds import EVENT
from openclaw_operator.errors import ApiError
from openclaw_operator.reconcile.primaries import Primary

LOG = logging.getLogger(__name__)
# Reasons of a resource that is on its way: seen in its status, not worth an event.
QUIET = frozenset({"Progressing", "SkillNotReady", "Suspended"})


class Recorder:
    """Writes events.k8s.io/v1 Events. `instance` names this operator process."""

    def __init__(
        self, client: Client, now: Callable[[], datetime], random_bytes: Callable[[int], bytes], instance: str
    ) -> None:
        self._client = client
        self._now = now
        self._random_bytes = random_bytes
        self._instance = instance

    async def ready_changed(self, primary: Primary, before: Mapping[str, Any] | None, after: Mapping[str, Any]) -> None:
        """Tell of a new Ready condition; the same status and reason again is not told."""
        if before and before["status"] == after["status"] and before["reason"] == after["reason"]:
            return
        LOG.info(
            "%s %s/%s is %s: %s",
            primary.kind,
            primary.namespace,
            primary.name,
            "ready" if after["status"] == "True" else "not ready",
            after["message"],
        )
        if after["reason"] in QUIET:
            return
        await self.tell(primary, after["reason"], after["message"], warning=after["status"] != "True")

    async def tell(self, primary: Primary, reason: str, message: str, *, warning: bool = False) -> None:
        """An Event about a resource."""
        regarding = {
            "apiVersion": API_VERSION,
            "kind": primary.kind,
            "namespace": primary.namespace,
            "name": primary.name,
            "uid": primary.uid,
        }
        type_ = "Warning" if warning else "Normal"
        await self._create(primary.namespace, primary.name, regarding, type_, reason, message)

    async def namespace_goes(self, primary: Primary, reason: str, message: str) -> None:
        """Warn of what is lost with a namespace: about it, in `default`, since it takes no more events itself."""
        LOG.warning("%s %s/%s: %s", *primary.key, message)
        regarding = {"apiVersion": "v1", "kind": "Namespace", "name": primary.namespace}
        await self._create("default", primary.namespace, regarding, "Warning", reason, message)

    async def _create(
        self, namespace: str, name: str, regarding: Mapping[str, Any], type_: str, reason: str, note: str
    ) -> None:
        event = {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {
                "name": f"{name}.{self._random_bytes(8).hex()}",
                "namespace": namespace,
            },
            "eventTime": self._now().strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "type": type_,
            "reason": reason,
            "action": "Reconcile",
            "note": note[:1024],
            "regarding": regarding,
            "reportingController": "openclaw.io/operator",
            "reportingInstance": self._instance,
        }
        try:
            await self._client.create(EVENT, namespace, event, "event")
        except ApiError as error:
            # The condition or the log says the same; an event is not worth a retry.
            LOG.warning("event for %s %s: %s", regarding["kind"], name, error)

"""The kopf registry and settings: events only, so that kopf adds no annotation, finalizer or status of its own."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import kopf

from openclaw_operator.api import GROUP, VERSION
from openclaw_operator.cluster.connection import Connection
from openclaw_operator.cluster.kinds import PRIMARY
from openclaw_operator.reconcile.controller import Controller
from openclaw_operator.settings import Settings


class NoHistory(kopf.DiffBaseStorage):
    """Remembers nothing: nobody asks kopf what changed in a resource, and its default copies each one to find out."""

    def build(self, *, body: kopf.Body, extra_fields: Iterable[Any] | None = None) -> kopf.BodyEssence:  # noqa: ARG002
        """Nothing of an object matters to kopf."""
        return kopf.BodyEssence()

    def fetch(self, *, body: kopf.Body) -> kopf.BodyEssence | None:  # noqa: ARG002
        """Nothing was stored."""
        return None

    def store(self, *, body: kopf.Body, patch: kopf.Patch, essence: kopf.BodyEssence) -> None:
        """Store nothing."""


def build(controller: Controller, connection: Connection) -> kopf.OperatorRegistry:
    """A registry whose only handlers tell the controller of what was seen."""
    registry = kopf.OperatorRegistry()

    async def login(**_: Any) -> kopf.ConnectionInfo:
        return kopf.ConnectionInfo(
            server=connection.server,
            ca_path=connection.ca_path,
            insecure=connection.insecure,
            certificate_path=connection.certificate_path,
            private_key_path=connection.key_path,
            scheme="Bearer",
            token=await connection.token(),
        )

    async def changed(event: kopf.RawEvent, resource: kopf.Resource, **_: Any) -> None:
        item = event["object"]
        meta = item["metadata"]
        if event["type"] == "DELETED":
            controller.primary_removed(resource.kind or "", meta["namespace"], meta["name"], meta["resourceVersion"])
        else:
            controller.primary_changed(resource.kind or "", dict(item))

    kopf.on.login(registry=registry)(login)
    for kind in PRIMARY:
        kopf.on.event(GROUP, VERSION, kind.plural, registry=registry, id="tell")(changed)
    return registry


def configure(settings: Settings) -> kopf.OperatorSettings:
    """kopf's settings: quiet, bounded, and without the watches of namespaces and CRDs it does not need."""
    configured = kopf.OperatorSettings()
    configured.posting.enabled = False
    configured.peering.standalone = True
    configured.scanning.disabled = True
    configured.queueing.worker_limit = 50
    # Each object has a worker: one that waits for more keeps the next of a list waiting, parsed.
    configured.queueing.idle_timeout = 0.01
    configured.queueing.error_delays = (0.2, 1, 5, 15)
    configured.networking.request_timeout = settings.request_seconds
    configured.networking.connect_timeout = 10
    configured.networking.error_backoffs = (0.2, 0.5, 1, 2, 5, 10)
    configured.watching.chunk_size = settings.page_size
    configured.watching.connect_timeout = 10
    configured.watching.server_timeout = 300
    configured.watching.inactivity_timeout = settings.watch_silence_seconds
    # Between a watch that ended with 410 and the next list.
    configured.watching.reconnect_backoff = 1.0
    configured.queueing.exit_timeout = 0.5
    # Where kopf has failed, some of its tasks never end. A stop takes a second or two.
    configured.process.ultimate_exiting_timeout = 10
    configured.persistence.diffbase_storage = NoHistory()
    if settings.agent_selector:
        for kind in PRIMARY:
            configured.watching.label_selectors[GROUP, VERSION, kind.plural] = settings.agent_selector
    return configured

"""Keeps up with one collection: list, then watch, again after every break."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from typing import Protocol

from openclaw_operator.cluster.client import Client, Object
from openclaw_operator.cluster.kinds import Kind
from openclaw_operator.cluster.snapshot import snapshot
from openclaw_operator.errors import ApiError, GoneError, NotFoundError
from openclaw_operator.telemetry import Metrics

LOG = logging.getLogger(__name__)
FIRST_BACKOFF_SECONDS = 0.2
LAST_BACKOFF_SECONDS = 20.0
# How often a kind is looked for whose API is not installed.
ABSENT_SECONDS = 30.0


class Sink(Protocol):
    """What is told about a collection."""

    def changed(self, kind: Kind, item: Object) -> None:
        """An object was added or modified, or was there in a list."""

    def removed(self, kind: Kind, namespace: str, name: str, version: str) -> None:
        """An object is gone since resource version `version`, or no longer matches the selector."""

    def listed(self, kind: Kind, namespace: str | None, present: set[tuple[str, str]], version: str) -> None:
        """A list is complete: whatever is not in `present` (namespace, name) was gone at `version`."""


class Reflector:
    """One collection in one namespace (None: all) told to one sink. Run it as a task; it never ends by itself."""

    def __init__(
        self,
        client: Client,
        kind: Kind,
        namespace: str | None,
        sink: Sink,
        metrics: Metrics,
        *,
        selector: str | None,
        metadata_only: bool = False,
        jitter: Callable[[], float] = random.random,
        on_served: Callable[[Kind, bool], None] | None = None,
        absent_seconds: float = ABSENT_SECONDS,
    ) -> None:
        self._client = client
        self._kind = kind
        self._namespace = namespace
        self._sink = sink
        self._metrics = metrics
        self._selector = selector
        self._metadata_only = metadata_only
        self._jitter = jitter
        self._on_served = on_served
        self._absent_seconds = absent_seconds
        self.synced = asyncio.Event()

    async def run(self) -> None:
        """List and watch for ever."""
        version: str | None = None
        backoff = FIRST_BACKOFF_SECONDS
        while True:
            told = False
            try:
                if version is None:
                    version = await self._list()
                    self._serving(served=True)
                    self.synced.set()
                async for event in self._client.watch(
                    self._kind,
                    self._namespace,
                    version,
                    selector=self._selector,
                    metadata_only=self._metadata_only,
                    seconds=240 + int(self._jitter() * 120),
                ):
                    version = self._take(event)
                    backoff = FIRST_BACKOFF_SECONDS
                    told = True
            except GoneError:
                version = None
                self._metrics.watch_restarts.labels(self._kind.name, "gone").inc()
            except ApiError as error:
                told = False
                if isinstance(error, NotFoundError) and self._kind.from_addon:
                    # Its API is not installed, or not any more: that is no error, and may change.
                    version, backoff = None, self._absent_seconds
                    self._serving(served=False)
                    self.synced.set()
                else:
                    self._metrics.watch_restarts.labels(self._kind.name, "error").inc()
                    LOG.warning("watching %s: %s; again in %.1f s", self._kind.plural, error, backoff)
            if not told:
                # Not even a bookmark came: a server that ends each watch at once must not be asked in a tight loop.
                await asyncio.sleep(backoff * (0.75 + self._jitter() / 2))
                backoff = min(backoff * 2, LAST_BACKOFF_SECONDS)

    def _serving(self, *, served: bool) -> None:
        if self._on_served and self._kind.from_addon:
            self._on_served(self._kind, served)

    async def _list(self) -> str:
        present, version = await snapshot(
            self._client,
            self._kind,
            self._namespace,
            lambda item: self._sink.changed(self._kind, item),
            selector=self._selector,
            metadata_only=self._metadata_only,
        )
        self._sink.listed(self._kind, self._namespace, present, version)
        return version

    def _take(self, event: Object) -> str:
        item = event["object"]
        meta = item["metadata"]
        if event["type"] == "DELETED":
            self._sink.removed(self._kind, meta["namespace"], meta["name"], meta["resourceVersion"])
        elif event["type"] != "BOOKMARK":
            self._sink.changed(self._kind, item)
        version: str = meta["resourceVersion"]
        return version

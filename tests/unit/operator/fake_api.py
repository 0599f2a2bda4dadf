"""The API server as reconcilers see it: objects by key, a log of writes, and faults where a test wants them."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any, cast

from openclaw_operator.cluster.client import Client
from openclaw_operator.cluster.kinds import BY_NAME, Kind
from openclaw_operator.cluster.live import Live
from openclaw_operator.cluster.references import References
from openclaw_operator.cluster.store import ChildStore
from openclaw_operator.errors import ConflictError, NotFoundError
from openclaw_operator.patches import merged
from openclaw_operator.reconcile.context import Context
from openclaw_operator.reconcile.primaries import Primary, PrimaryStore, condense
from openclaw_operator.reconcile.queue import Key, WorkQueue
from openclaw_operator.reconcile.recorder import Recorder
from openclaw_operator.telemetry import Metrics
from tests.unit.operator.builders import EGRESS, IMAGES

NOW = datetime(2026, 1, 1, tzinfo=UTC)
Object = dict[str, Any]


class FakeApi:
    """Stands in for Client. `fault(verb, kind, name)` may raise."""

    def __init__(self) -> None:
        self.items: dict[tuple[str, str], Object] = {}
        self.log: list[tuple[str, str, str]] = []
        self.fault: Callable[[str, str, str], None] = lambda *_: None
        self._numbers = itertools.count(100)

    def put(self, kind: str, name: str, /, **body: Any) -> Object:
        """Make an object, or the next version of it."""
        old = self.items.get((kind, name), {}).get("metadata", {})
        meta = {"namespace": "demo", "creationTimestamp": "2026-01-01T00:00:00Z", "uid": f"uid-{next(self._numbers)}"}
        meta |= {"generation": 1} | old | body.pop("metadata", {})
        meta |= {"name": name, "resourceVersion": str(next(self._numbers))}
        self.items[kind, name] = {**body, "kind": kind, "metadata": meta}
        return self.items[kind, name]

    def writes(self, kind: str) -> list[tuple[str, str]]:
        """(verb, name) of the writes to a kind."""
        return [(verb, name) for verb, written, name in self.log if written == kind]

    def _note(self, verb: str, kind: str, name: str) -> None:
        self.fault(verb, kind, name)
        self.log.append((verb, kind, name))

    async def get(self, kind: Kind, _namespace: str, name: str) -> Object:
        if (kind.name, name) not in self.items:
            raise NotFoundError(404, "NotFound", f"{kind.name} {name}")
        return self.items[kind.name, name]

    async def pages(self, kind: Kind, _namespace: str, *, selector: str, **_: object) -> AsyncIterator[Object]:
        wanted = dict(part.split("=") for part in selector.split(","))
        found = [item for (name, _), item in self.items.items() if name == kind.name]
        yield {"items": [item for item in found if wanted.items() <= item["metadata"].get("labels", {}).items()]}

    async def create(self, kind: Kind, _namespace: str, body: Object, _reason: str) -> Object:
        name = body["metadata"]["name"]
        self._note("create", kind.name, name)
        if (kind.name, name) in self.items:
            raise ConflictError(409, "AlreadyExists", name)
        return self.put(kind.name, name, **body)

    async def apply(self, kind: Kind, body: Object, _reason: str, *, uid: str | None) -> Object:
        name = body["metadata"]["name"]
        self._note("apply", kind.name, name)
        live = self.items.get((kind.name, name))
        if (live["metadata"]["uid"] if live else None) != uid:
            raise ConflictError(409, "Conflict", name)
        return self.put(kind.name, name, **body)

    async def delete(self, kind: Kind, _namespace: str, name: str, _reason: str, **_: Any) -> None:
        self._note("delete", kind.name, name)
        self.items.pop((kind.name, name), None)

    async def merge(self, kind: Kind, _namespace: str, name: str, body: Object, _reason: str) -> Object:
        self._note("merge", kind.name, name)
        live = self.items[kind.name, name]
        if (
            body["metadata"].get("resourceVersion", live["metadata"]["resourceVersion"])
            != (live["metadata"]["resourceVersion"])
        ):
            raise ConflictError(409, "Conflict", name)
        return self.put(kind.name, name, **merged(live, body))

    async def set_finalizers(
        self, kind: Kind, _namespace: str, name: str, finalizers: tuple[str, ...], *, resource_version: str
    ) -> Object:
        self._note("finalizers", kind.name, name)
        live = self.items[kind.name, name]
        if live["metadata"]["resourceVersion"] != resource_version:
            raise ConflictError(409, "Conflict", name)
        return self.put(kind.name, name, **{**live, "metadata": {**live["metadata"], "finalizers": list(finalizers)}})

    async def patch_status(self, kind: Kind, _namespace: str, name: str, status: Object) -> Object:
        self._note("status", kind.name, name)
        return self.put(kind.name, name, **merged(self.items[kind.name, name], {"status": status}))


class Bench:
    """A Context over a FakeApi, and what a test looks at."""

    def __init__(self) -> None:
        self.api = FakeApi()
        self.time = 0.0
        self.changes: list[tuple[Live | None, Live | None]] = []
        client = cast("Client", self.api)
        metrics = Metrics()
        self.queue = WorkQueue(self._idle, metrics, monotonic=lambda: self.time, jitter=lambda: 0.5)
        numbers, events = itertools.count(), itertools.count()
        self.context = Context(
            client=client,
            children=ChildStore(lambda before, after: self.changes.append((before, after))),
            primaries=PrimaryStore(),
            references=References(client, self.queue.add),
            queue=self.queue,
            recorder=Recorder(client, lambda: NOW, lambda count: next(events).to_bytes(count, "big"), "test"),
            metrics=metrics,
            images=IMAGES,
            egress=EGRESS,
            cluster_domain="cluster.local",
            now=lambda: NOW,
            monotonic=lambda: self.time,
            random_bytes=lambda count: bytes([next(numbers) % 256] * count),
        )

    async def _idle(self, _key: Key) -> None:
        return None

    def primary(self, kind: str, name: str, /, spec: Object, **body: Any) -> Primary:
        """A resource as its watch tells it."""
        primary = condense(kind, self.api.put(kind, name, spec=spec, **body))
        self.context.primaries.put(primary)
        return primary

    def child(self, kind: str, name: str, /, **body: Any) -> Live:
        """A child as its watch tells it."""
        self.context.children.changed(BY_NAME[kind], self.api.put(kind, name, **body))
        live = self.context.children.get(kind, "demo", name)
        assert live
        return live

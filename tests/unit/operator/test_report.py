"""What a report does besides the request itself."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, cast

from openclaw_operator.cluster.client import Client
from openclaw_operator.cluster.kinds import Kind
from openclaw_operator.cluster.references import References
from openclaw_operator.cluster.store import ChildStore
from openclaw_operator.reconcile.context import Context
from openclaw_operator.reconcile.primaries import PrimaryStore, condense
from openclaw_operator.reconcile.queue import WorkQueue
from openclaw_operator.reconcile.recorder import Recorder
from openclaw_operator.reconcile.status import Condition
from openclaw_operator.resources.meta import Images
from openclaw_operator.telemetry import Metrics


class Server:
    """Answers status patches as the API server does, and notes who is woken."""

    def __init__(self) -> None:
        self.woken: list[tuple[str, str, str]] = []

    async def patch_status(self, kind: Kind, _namespace: str, name: str, _: dict[str, Any]) -> dict[str, Any]:
        return item(kind.name, name, "2", {})

    async def create(self, *parts: Any) -> dict[str, Any]:
        return dict(parts[2])

    def add(self, key: tuple[str, str, str]) -> None:
        self.woken.append(key)


def item(kind: str, name: str, version: str, spec: dict[str, Any]) -> dict[str, Any]:
    meta = {"name": name, "namespace": "demo", "uid": name, "resourceVersion": version, "generation": 1}
    return {"kind": kind, "metadata": meta, "spec": spec}


async def test_agents_that_use_a_skill_are_woken_by_its_report() -> None:
    """The watch's echo may come after the answer, and is then no news to anybody."""
    server, primaries = Server(), PrimaryStore()
    now = lambda: datetime(2026, 1, 1, tzinfo=UTC)  # noqa: E731
    client = cast("Client", server)
    context = Context(
        client=client,
        children=ChildStore(lambda *_: None),
        primaries=primaries,
        references=cast("References", None),
        queue=cast("WorkQueue", server),
        recorder=Recorder(client, now, bytes, "test"),
        metrics=Metrics(),
        images=Images("", "", "", "", "", "", ""),
        cluster_domain="cluster.local",
        now=now,
        monotonic=lambda: 0.0,
        random_bytes=bytes,
    )
    skill = condense("Skill", item("Skill", "shouting", "1", {}))
    primaries.put(skill)
    primaries.put(condense("Agent", item("Agent", "expert", "1", {"skills": [{"name": "shouting"}]})))
    primaries.put(condense("Agent", item("Agent", "other", "1", {})))
    ready = Condition("Ready", True, "Ready", "agents can call it")
    await context.report(skill, {}, {"digest": "sha256:0"}, [ready])
    assert server.woken == [("Agent", "demo", "expert")]

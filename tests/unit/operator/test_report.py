"""What a status write leaves behind in memory."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, cast

import pytest

from openclaw_operator.cluster.client import Client
from openclaw_operator.patches import merged as merge
from openclaw_operator.reconcile.context import Context
from openclaw_operator.reconcile.primaries import PrimaryStore, condense
from openclaw_operator.reconcile.recorder import Recorder
from openclaw_operator.reconcile.status import Condition
from tests.unit.operator.builders import EGRESS, IMAGES

NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Server:
    """One Agent in the API server. `before_write` is what somebody else does while the status is on its way."""

    def __init__(self, before_write: dict[str, Any]) -> None:
        self.item: dict[str, Any] = {
            "metadata": {
                "name": "ada",
                "namespace": "demo",
                "uid": "u",
                "resourceVersion": "10",
                "generation": 1,
                "labels": {"team": "a"},
            },
            "spec": {"role": "old"},
        }
        self.before_write = before_write

    async def patch_status(self, _kind: object, _namespace: str, _name: str, status: dict[str, Any]) -> dict[str, Any]:
        self.item = merge(self.item, self.before_write)
        version = int(self.item["metadata"]["resourceVersion"]) + 1
        self.item = merge(self.item, {"status": status, "metadata": {"resourceVersion": str(version)}})
        return {"metadata": self.item["metadata"]}

    async def create(self, *_: object) -> dict[str, Any]:
        return {}


async def write_status(server: Server) -> PrimaryStore:
    """Report on the Agent as the watch told it, then hear the echo of the write; returns what is known after it."""
    primaries = PrimaryStore()
    primary = condense("Agent", server.item)
    primaries.put(primary)
    client = cast("Client", server)
    context = Context(
        client=client,
        primaries=primaries,
        recorder=Recorder(client, lambda: NOW, lambda count: b"0" * count, "test"),
        images=IMAGES,
        egress=EGRESS,
        now=lambda: NOW,
        cluster_domain="cluster.local",
        monotonic=lambda: 0.0,
        random_bytes=lambda count: b"0" * count,
        **dict.fromkeys(("children", "references", "queue", "metrics"), cast("Any", None)),
    )
    await context.report(primary, {}, {"replicas": 1}, [Condition("Ready", False, "Progressing", "wait")])
    return primaries


async def test_the_echo_of_an_own_write_is_no_news() -> None:
    server = Server({})
    primaries = await write_status(server)
    echo = condense("Agent", server.item)
    assert primaries.put(echo) == echo
    assert primaries.get(echo.key) is not echo


@pytest.mark.parametrize(
    "change",
    [
        {"spec": {"role": "new"}, "metadata": {"generation": 2, "resourceVersion": "11"}},
        {"metadata": {"labels": {"team": "b"}, "resourceVersion": "11"}},
    ],
    ids=["spec", "labels"],
)
async def test_an_edit_that_the_status_write_overtook_is_not_lost(change: dict[str, Any]) -> None:
    server = Server(change)
    primaries = await write_status(server)
    echo = condense("Agent", server.item)
    primaries.put(echo)
    assert primaries.get(echo.key) is echo

"""What the watch tells while an apply is under way."""

from __future__ import annotations

from typing import Any

from openclaw_operator.cluster.kinds import BY_NAME
from openclaw_operator.reconcile.children import Children
from tests.unit.operator.builders import owner
from tests.unit.operator.fake_api import Bench

DESIRED: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "ada-gateway", "namespace": "demo"},
    "spec": {"type": "ClusterIP"},
}


async def apply_while(bench: Bench, *, edited: bool) -> None:
    """Apply; before the answer comes, the watch tells of the object, `edited` by somebody else since."""
    service = BY_NAME["Service"]
    plain = bench.api.apply

    async def slow(*args: Any, **options: Any) -> dict[str, Any]:
        answer = await plain(*args, **options)
        bench.context.children.changed(service, answer)
        if edited:
            bench.context.children.changed(service, bench.api.put("Service", "ada-gateway", spec={"type": "NodePort"}))
        return answer

    bench.api.apply = slow  # type: ignore[method-assign]
    await Children(bench.context.client, bench.context.children, owner("Agent", "ada")).ensure(DESIRED)


async def test_an_echo_that_comes_before_the_answer_wakes_nobody() -> None:
    bench = Bench()
    await apply_while(bench, edited=False)
    assert bench.changes == []
    live = bench.context.children.get("Service", "demo", "ada-gateway")
    assert live
    assert live.verified == live.applied_hash


async def test_an_edit_that_comes_before_the_answer_is_looked_at() -> None:
    bench = Bench()
    await apply_while(bench, edited=True)
    live = bench.context.children.get("Service", "demo", "ada-gateway")
    assert live
    assert live.verified is None
    assert bench.changes[-1] == (live, live)

"""The control loop: what a resource leaves behind that is deleted while it is worked on."""

from __future__ import annotations

from typing import Any, cast

import pytest

from openclaw_operator.cluster.client import Client
from openclaw_operator.cluster.kinds import BY_NAME, Kind
from openclaw_operator.errors import ApiError, ForbiddenError, GoneError, NotFoundError
from openclaw_operator.reconcile import controller as module
from openclaw_operator.reconcile.controller import Controller
from openclaw_operator.reconcile.queue import Key
from openclaw_operator.settings import Settings
from openclaw_operator.telemetry import Metrics
from tests.unit.operator.fake_api import NOW, FakeApi


def model(secret: str) -> dict[str, Any]:
    ref = {"secretKeyRef": {"name": secret, "key": "k"}}
    return {"provider": "openai", "name": "m", "credentials": ref}


def controller_of(api: FakeApi) -> Controller:
    return Controller(
        cast("Client", api),
        Settings(),
        Metrics(),
        now=lambda: NOW,
        monotonic=lambda: 0.0,
        jitter=lambda: 0.5,
        random_bytes=bytes,
        instance="test",
    )


async def test_the_first_list_is_begun_again_after_a_passing_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    faults: list[ApiError] = [ApiError(503, "Busy", "not now"), GoneError(410, "Expired", "too old")]
    lists: list[str] = []

    async def list_primaries() -> None:
        lists.append("begun")
        if faults:
            raise faults.pop(0)

    controller = controller_of(FakeApi())
    monkeypatch.setattr(controller, "_list_primaries", list_primaries)
    monkeypatch.setattr(module, "FIRST_BACKOFF_SECONDS", 0.0)
    await controller._begin()
    assert len(lists) == 3
    faults.append(ForbiddenError(403, "Forbidden", "no right to list agents"))
    with pytest.raises(ForbiddenError):
        await controller._begin()


async def test_what_is_missing_after_the_finalizer_was_set_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reconcile itself notes the new version of its resource, so that nobody else is woken by it."""
    api = FakeApi()
    controller = controller_of(api)
    spec = {"deletionPolicy": "Snapshot", "backup": {"destination": {"s3": {"bucket": "backups"}}}}
    controller.primary_changed("MemoryStore", api.put("MemoryStore", "mem", spec=spec))

    async def held(*_: Any, **__: Any) -> dict[str, Any]:
        return {"metadata": {"resourceVersion": "1000"}}

    async def missing(*_: Any, **__: Any) -> Any:
        raise NotFoundError(404, "NotFound", "roles are not there yet")

    monkeypatch.setattr(api, "set_finalizers", held, raising=False)
    monkeypatch.setattr(api, "apply", missing)
    monkeypatch.setattr(api, "create", missing)
    with pytest.raises(NotFoundError):
        await controller._reconcile(("MemoryStore", "demo", "mem"))


async def test_an_agent_deleted_while_it_is_reconciled_waits_for_nothing_any_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    api = FakeApi()
    controller = controller_of(api)
    api.put("Secret", "there", data={"k": "eA=="})
    agent = api.put("Agent", "ada", spec={"model": {**model("there"), "fallbacks": [model("missing")]}})
    controller.primary_changed("Agent", agent)
    get = api.get

    async def deleted_meanwhile(kind: Kind, namespace: str, name: str) -> dict[str, Any]:
        if name == "there":
            controller.primary_removed("Agent", "demo", "ada", str(10**9))
        return await get(kind, namespace, name)

    monkeypatch.setattr(api, "get", deleted_meanwhile)
    await controller._reconcile(("Agent", "demo", "ada"))
    # Else the Secret were asked for every ten seconds, until the operator ends.
    assert not controller._references._watched
    assert not controller._references._used_by


@pytest.mark.parametrize(
    ("gateway", "change", "news"),
    [
        ({}, {"status": {"readyReplicas": 1}}, True),
        ({}, {"spec": {"replicas": 7}}, False),
        ({"hibernation": {}}, {"status": {"readyReplicas": 1}}, False),
    ],
    ids=["a status", "a spec", "a status of one that wakes"],
)
async def test_the_status_of_a_child_is_news(
    monkeypatch: pytest.MonkeyPatch, gateway: Any, change: Any, news: bool
) -> None:
    api = FakeApi()
    controller = controller_of(api)
    agent = api.put("Agent", "ada", spec={"model": model("there"), "gateway": gateway})
    controller.primary_changed("Agent", agent)
    owner = {"apiVersion": "openclaw.io/v1alpha1", "kind": "Agent", "name": "ada", "uid": agent["metadata"]["uid"]}
    meta, body = {"ownerReferences": [{**owner, "controller": True}]}, {"spec": {"replicas": 1}}
    controller._children.changed(BY_NAME["Deployment"], api.put("Deployment", "ada-gateway", metadata=meta, **body))
    asked: list[tuple[Key, bool]] = []
    monkeypatch.setattr(controller._queue, "add_after", lambda key, _seconds, news=False: asked.append((key, news)))
    changed = api.put("Deployment", "ada-gateway", metadata=meta, **body | change)
    controller._children.changed(BY_NAME["Deployment"], changed)
    assert set(asked) == {(("Agent", "demo", "ada"), news)}

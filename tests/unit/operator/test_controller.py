"""The control loop: what a resource leaves behind that is deleted while it is worked on."""

from __future__ import annotations

from typing import Any, cast

import pytest

from openclaw_operator.cluster.client import Client
from openclaw_operator.cluster.kinds import Kind
from openclaw_operator.reconcile.controller import Controller
from openclaw_operator.settings import Settings
from openclaw_operator.telemetry import Metrics
from tests.unit.operator.fake_api import NOW, FakeApi


def model(secret: str) -> dict[str, Any]:
    ref = {"secretKeyRef": {"name": secret, "key": "k"}}
    return {"provider": "openai", "name": "m", "credentials": ref}


async def test_an_agent_deleted_while_it_is_reconciled_waits_for_nothing_any_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    api = FakeApi()
    controller = Controller(
        cast("Client", api),
        Settings(),
        Metrics(),
        now=lambda: NOW,
        monotonic=lambda: 0.0,
        jitter=lambda: 0.5,
        random_bytes=bytes,
        instance="test",
    )
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

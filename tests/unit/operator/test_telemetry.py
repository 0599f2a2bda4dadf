"""What the operator tells about its work: whose it is stands in every line of the log."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from openclaw_operator import telemetry
from openclaw_operator.cluster.client import Client
from openclaw_operator.cluster.connection import Connection
from openclaw_operator.cluster.live import APPLIED_HASH
from openclaw_operator.errors import UnavailableError
from openclaw_operator.handlers import registry
from openclaw_operator.reconcile.children import Children
from openclaw_operator.reconcile.queue import Key, WorkQueue
from openclaw_operator.resources.meta import child, digest, labels
from openclaw_operator.settings import Settings
from openclaw_operator.telemetry import Metrics
from tests.fakes.http_server import HttpServer, Reply, Seen, serve
from tests.unit.operator.builders import owner
from tests.unit.operator.fake_api import Bench

LOG = logging.getLogger(__name__)
ADA: Key = ("Agent", "demo", "ada")
ABOUT_ADA = {"kind": "Agent", "namespace": "demo", "name": "ada"}
OWNER = owner("Agent", "ada")
LABELS = labels(OWNER, "gateway", "gateway")
SERVICE = child("v1", "Service", "ada-gateway", OWNER, LABELS, spec={"type": "ClusterIP"})


def answer(seen: Seen) -> Reply:
    """An API server that takes everything, but for Secrets."""
    if "/secrets" in seen.path:
        return Reply(403, b'{"reason": "Forbidden", "message": "no"}')
    item = json.loads(seen.body)
    made = {"resourceVersion": "9", "creationTimestamp": "2026-01-01T00:00:00Z"}
    return Reply(200, json.dumps({**item, "metadata": {**item.get("metadata", {}), **made}}).encode())


@pytest.fixture
def server() -> Iterator[HttpServer]:
    with serve(answer) as running:
        yield running


def client_of(server: HttpServer) -> Client:
    async def no_token() -> str | None:
        return None

    return Client(Connection(server.url, no_token), Metrics())


@pytest.fixture
def root() -> Iterator[None]:
    """The root logger is as it was, afterwards."""
    logger = logging.getLogger()
    handlers, level = logger.handlers[:], logger.level
    yield
    logger.handlers[:] = handlers
    logger.setLevel(level)


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


async def worked_on(key: Key, reconcile: Callable[[Key], Awaitable[None]]) -> None:
    """One round of the queue over a key."""
    done = asyncio.Event()
    last: Key = ("Agent", "demo", "last")

    async def one(each: Key) -> None:
        if each == last:
            done.set()
        else:
            await reconcile(each)

    queue = WorkQueue(one, Metrics(), monotonic=lambda: 0.0, jitter=lambda: 0.5)
    queue.add(key)
    queue.add(last)
    running = asyncio.create_task(queue.run(1))
    await done.wait()
    queue.forget(key)
    running.cancel()


def drifted() -> Bench:
    """A Service that somebody edited, and a ConfigMap that nobody wants."""
    bench = Bench()
    applied = {**SERVICE["metadata"], "annotations": {APPLIED_HASH: digest(SERVICE)}}
    bench.child("Service", "ada-gateway", metadata=applied, spec={"type": "NodePort"})
    surplus = child("v1", "ConfigMap", "ada-old", OWNER, LABELS)
    bench.child("ConfigMap", "ada-old", metadata=surplus["metadata"])
    return bench


async def test_each_json_line_of_a_reconcile_names_its_object(
    root: None, server: HttpServer, capsys: pytest.CaptureFixture[str]
) -> None:
    telemetry.setup_logging("info", "json")
    bench = drifted()

    async def reconcile(_key: Key) -> None:
        async with client_of(server) as client:
            await Children(client, bench.context.children, OWNER).converge([SERVICE])
        task = asyncio.create_task(asyncio.to_thread(LOG.info, "beside it"))
        await task
        raise UnavailableError("no answer")

    await worked_on(ADA, reconcile)
    LOG.info("after it")
    drift, prune, beside, retry, after = lines(capsys)
    for line in (drift, prune, beside, retry):
        assert ABOUT_ADA.items() <= line.items()
    assert (drift["child"], drift["reason"]) == ("Service/ada-gateway", "drift")
    assert drift["message"] == "Service demo/ada-gateway was changed by somebody: putting it right"
    assert (prune["child"], prune["reason"]) == ("ConfigMap/ada-old", "prune")
    assert "again in" in retry["message"]
    assert not ABOUT_ADA.keys() & after.keys()


async def test_what_a_namespace_shares_has_no_name_in_the_log(root: None, capsys: pytest.CaptureFixture[str]) -> None:
    telemetry.setup_logging("info", "json")

    async def reconcile(_key: Key) -> None:
        LOG.info("here")

    await worked_on(("Pool", "demo", ""), reconcile)
    (line,) = lines(capsys)
    assert (line["kind"], line["namespace"]) == ("Pool", "demo")
    assert "name" not in line


def test_lines_of_kopf_about_an_object_have_the_same_fields(root: None, capsys: pytest.CaptureFixture[str]) -> None:
    telemetry.setup_logging("info", "json")
    ref = {"apiVersion": "openclaw.io/v1alpha1", **ABOUT_ADA, "uid": "u"}
    extra = {"k8s_ref": ref, "k8s_skip": True, "settings": registry.configure(Settings())}
    logging.getLogger("kopf.objects").warning("failed", extra=extra)
    (line,) = lines(capsys)
    assert line.keys() == {"time", "level", "logger", "message", *ABOUT_ADA}
    assert ABOUT_ADA.items() <= line.items()


async def test_text_is_for_people(root: None, capsys: pytest.CaptureFixture[str]) -> None:
    telemetry.setup_logging("info", "text")

    async def reconcile(_key: Key) -> None:
        LOG.info("here")

    await worked_on(ADA, reconcile)
    assert capsys.readouterr().err.endswith(f"INFO    {__name__} here\n")

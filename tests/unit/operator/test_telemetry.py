"""What the operator tells about its work: whose it is in each line of the log, and what it asked for in traces."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import INVALID_SPAN, SpanKind

from openclaw_operator import telemetry
from openclaw_operator.cluster import spans
from openclaw_operator.cluster.client import Client
from openclaw_operator.cluster.connection import Connection
from openclaw_operator.cluster.kinds import BY_NAME
from openclaw_operator.cluster.live import APPLIED_HASH
from openclaw_operator.errors import ForbiddenError, UnavailableError
from openclaw_operator.handlers import registry
from openclaw_operator.reconcile.children import Children
from openclaw_operator.reconcile.controller import Controller
from openclaw_operator.reconcile.primaries import Primary
from openclaw_operator.reconcile.queue import Key, WorkQueue
from openclaw_operator.resources.meta import child, digest, labels
from openclaw_operator.settings import Settings
from openclaw_operator.telemetry import Metrics
from tests.fakes.http_server import HttpServer, Reply, Seen, serve
from tests.unit.operator.builders import owner
from tests.unit.operator.fake_api import NOW, Bench, FakeApi

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


class Applies:
    """A reconciler that writes a Service and asks for a Secret it may not see."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def reconcile(self, _primary: Primary) -> float | None:
        await self._client.apply(BY_NAME["Service"], SERVICE, "create", uid=None)
        await self._client.create(BY_NAME["HorizontalPodAutoscaler"], "demo", {"metadata": {"name": "ada"}}, "create")
        await self._client.get(BY_NAME["Secret"], "demo", "token")
        return None

    def gone(self, key: Key) -> None:
        """Nothing is kept."""


async def test_a_reconcile_is_traced_with_each_request_it_makes(
    server: HttpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(telemetry, "TRACER", provider.get_tracer("test"))
    async with client_of(server) as client:
        controller = Controller(
            client,
            Settings(),
            Metrics(),
            now=lambda: NOW,
            monotonic=lambda: 0.0,
            jitter=lambda: 0.5,
            random_bytes=bytes,
            instance="test",
        )
        controller._reconcilers["Agent"] = Applies(client)
        controller.primary_changed("Agent", FakeApi().put("Agent", "ada", spec={}))
        with pytest.raises(ForbiddenError):
            await controller._reconcile(ADA)
        # Not a part of any work that is traced.
        await client.merge(BY_NAME["Service"], "demo", "ada-gateway", {}, "stop")
    service, scaler, secret, reconcile = exporter.get_finished_spans()
    assert reconcile.name == "reconcile Agent"
    assert reconcile.attributes == {"k8s.namespace.name": "demo", "openclaw.kind": "Agent", "openclaw.name": "ada"}
    for span in (service, scaler, secret):
        assert span.parent == reconcile.context
        assert span.kind is SpanKind.CLIENT
    assert service.name == "PATCH /api/v1/namespaces/{namespace}/services/{name}"
    assert service.attributes == {
        "http.request.method": "PATCH",
        "http.response.status_code": 200,
        "k8s.namespace.name": "demo",
        "k8s.service.name": "ada-gateway",
        "server.address": "127.0.0.1",
        "server.port": server.port,
        "url.full": f"{server.url}/api/v1/namespaces/demo/services/ada-gateway",
        "url.template": "/api/v1/namespaces/{namespace}/services/{name}",
    }
    assert service.status.is_unset
    assert (scaler.attributes or {})["k8s.hpa.name"] == "ada"
    assert {"http.response.status_code": 403, "error.type": "403"}.items() <= (secret.attributes or {}).items()
    assert not secret.status.is_ok
    assert secret.status.description


def test_without_tracing_a_request_makes_no_span(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telemetry, "TRACER", None)
    with spans.of_request("GET", "http://server", "/api/v1/namespaces/demo/secrets/token", None) as span:
        assert span is INVALID_SPAN


def test_traces_go_where_the_standard_variables_say(monkeypatch: pytest.MonkeyPatch) -> None:
    assert telemetry.build_tracing({"OTEL_SERVICE_NAME": "mine"}) is None
    monkeypatch.setenv("OTEL_SERVICE_NAME", "mine")
    for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"):
        provider = telemetry.build_tracing({name: "http://127.0.0.1:9"})
        assert provider
        provider.shutdown()
        assert provider.resource.attributes["service.name"] == "mine"

"""Prometheus metrics, JSON logs and OpenTelemetry traces of the operator."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from opentelemetry import trace
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

TRACER = trace.get_tracer("openclaw_operator")
# What kopf gives its records for its own use.
_KOPF = frozenset({"k8s_ref", "k8s_skip", "settings"})
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"} | _KOPF
_NOTHING: Mapping[str, str] = MappingProxyType({})
_SUBJECT: ContextVar[Mapping[str, str]] = ContextVar("subject", default=_NOTHING)


class Metrics:
    """Every metric of the operator, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.writes = Counter(
            "openclaw_operator_writes_total",
            "Writes sent to the API server.",
            ("kind", "verb", "reason"),
            registry=self.registry,
        )
        self.requests = Histogram(
            "openclaw_operator_api_request_seconds",
            "Duration of requests to the API server.",
            ("verb", "code"),
            buckets=(0.005, 0.02, 0.1, 0.5, 2, 10),
            registry=self.registry,
        )
        self.reconciles = Histogram(
            "openclaw_operator_reconcile_seconds",
            "Duration of reconciles.",
            ("kind", "result"),
            buckets=(0.005, 0.02, 0.1, 0.5, 2, 10),
            registry=self.registry,
        )
        self.queue = Gauge("openclaw_operator_queue_length", "Resources waiting for a worker.", registry=self.registry)
        self.resources = Gauge(
            "openclaw_operator_resources",
            "Resources served: ready is True, False, Unknown, Suspended where an agent is meant to stand still, or "
            "Hibernated where it sleeps until the next message.",
            ("kind", "ready"),
            registry=self.registry,
        )
        self.wakes = Histogram(
            "openclaw_operator_agent_wake_seconds",
            "How long hibernated agents took from the message that woke them until a gateway was ready.",
            buckets=(1, 2, 5, 10, 20, 40, 80, 160),
            registry=self.registry,
        )
        self.pool_pods = Gauge(
            "openclaw_operator_pool_pods",
            "Sandbox pods: ready, busy and starting ones, and how many are wanted to wait.",
            ("namespace", "pool", "state"),
            registry=self.registry,
        )
        self.backup_failed = Gauge(
            "openclaw_operator_backup_failed",
            "1 when the last scheduled backup of a MemoryStore ended without success.",
            ("namespace", "memorystore"),
            registry=self.registry,
        )
        self.backup_success = Gauge(
            "openclaw_operator_backup_last_success_timestamp_seconds",
            "Unix time of the last backup of a MemoryStore that succeeded.",
            ("namespace", "memorystore"),
            registry=self.registry,
        )
        self.drill_failed = Gauge(
            "openclaw_operator_backup_drill_failed",
            "1 when the last scheduled restore drill of a MemoryStore ended without success.",
            ("namespace", "memorystore"),
            registry=self.registry,
        )
        self.drill_success = Gauge(
            "openclaw_operator_backup_drill_last_success_timestamp_seconds",
            "Unix time of the last restore drill of a MemoryStore that succeeded.",
            ("namespace", "memorystore"),
            registry=self.registry,
        )
        self.watch_restarts = Counter(
            "openclaw_operator_watch_restarts_total",
            "Watches that broke and were started again.",
            ("kind", "cause"),
            registry=self.registry,
        )


@contextmanager
def about(kind: str, namespace: str, name: str) -> Iterator[None]:
    """Name the object that is worked on: each JSON line of the block and of the tasks it starts carries these fields.

    An empty `name` is left out: what the agents of a namespace share has none.
    """
    token = _SUBJECT.set({"kind": kind, "namespace": namespace, **({"name": name} if name else {})})
    try:
        yield
    finally:
        _SUBJECT.reset(token)


def _subject(record: logging.LogRecord) -> Mapping[str, str]:
    ref = vars(record).get("k8s_ref") or _NOTHING
    return {key: ref[key] for key in ("kind", "namespace", "name") if ref.get(key)} or _SUBJECT.get()


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            **_subject(record),
            "message": record.getMessage(),
        }
        entry.update({key: value for key, value in vars(record).items() if key not in _STANDARD})
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str)


def setup_logging(level: str, style: Literal["json", "text"]) -> None:
    """Log to standard error: one JSON object per line, or plain text for people."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        _JsonFormatter() if style == "json" else logging.Formatter("%(asctime)s %(levelname)-7s %(name)s %(message)s")
    )
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # They tell each event and each probe at info; ours say what was done about it.
    for name in ("kopf", "aiohttp.access"):
        logging.getLogger(name).setLevel(logging.WARNING)


def build_tracing(environ: Mapping[str, str]) -> TracerProvider | None:
    """A tracer provider that exports over OTLP, None where no endpoint is set.

    The standard variables apply: OTEL_EXPORTER_OTLP_ENDPOINT and its relatives
    (https://opentelemetry.io/docs/specs/otel/protocol/exporter/).
    """
    if not (environ.get("OTEL_EXPORTER_OTLP_ENDPOINT") or environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")):
        return None
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    # OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES win over ours.
    resource = Resource.create({"service.name": "openclaw-operator"}).merge(OTELResourceDetector().detect())
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider


def setup_tracing(environ: Mapping[str, str]) -> None:
    """Send spans where the environment says; where it says nothing, tracing costs nothing."""
    provider = build_tracing(environ)
    if provider:
        trace.set_tracer_provider(provider)

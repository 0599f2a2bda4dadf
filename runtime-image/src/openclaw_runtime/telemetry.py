"""What the runtime tells about itself: JSON logs, Prometheus metrics, OpenTelemetry traces."""

import json
import logging
import os
import resource
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

_LATENCY_MS = (5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000, 300_000)
_TOKENS = tuple(4**power for power in range(14))
_OPERATION_SECONDS = tuple(0.01 * 2**power for power in range(14))
_GEN_AI_LABELS = ("gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model")
_QUEUE_SECONDS = (0.001, 0.01, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60)
_SEARCH_MS = (1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000)
_STANDARD_FIELDS = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}
_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warn": logging.WARNING, "error": logging.ERROR}


class Metrics:
    """The metrics of one gateway, in a registry of their own."""

    def __init__(self, *, version: str, agent: str, start_time: float) -> None:
        self.registry = CollectorRegistry()
        # prometheus_client adds the _total suffix to counters itself.
        self.request_duration = Histogram(
            "openclaw_request_duration_ms",
            "Duration of HTTP requests, until the last byte of a stream.",
            ["route", "method", "status"],
            buckets=_LATENCY_MS,
            registry=self.registry,
        )
        self.errors = Counter("openclaw_errors", "Failed turns by reason.", ["type"], registry=self.registry)
        self.skill_executions = Counter(
            "openclaw_skill_executions", "Skill calls made.", ["skill", "action"], registry=self.registry
        )
        self.skill_errors = Counter(
            "openclaw_skill_errors", "Skill calls that failed.", ["skill", "action", "type"], registry=self.registry
        )
        self.skill_duration = Histogram(
            "openclaw_skill_duration_ms",
            "Duration of skill calls.",
            ["skill", "action"],
            buckets=_LATENCY_MS,
            registry=self.registry,
        )
        self.schedule_runs = Counter(
            "openclaw_schedule_runs",
            "Slots of schedules: succeeded, failed, skipped for a run that still ran, missed by more than the starting "
            "deadline, interrupted with their gateway.",
            ["schedule", "outcome"],
            registry=self.registry,
        )
        self.search_duration = Histogram(
            "openclaw_vector_search_duration_ms",
            "Duration of memory searches, embedding included.",
            buckets=_SEARCH_MS,
            registry=self.registry,
        )
        self.search_results = Counter(
            "openclaw_vector_search_results", "Records that memory searches returned.", registry=self.registry
        )
        self.memory_summaries = Counter(
            "openclaw_memory_summaries",
            "Summaries of records (of: records) and of MEMORY.md (of: file): made, or failed and tried again later.",
            ["of", "outcome"],
            registry=self.registry,
        )
        self.memory_records = Gauge(
            "openclaw_memory_records",
            "Records that a tier of the agent's memory holds.",
            ["tier"],
            registry=self.registry,
        )
        self.memory_forgotten = Counter(
            "openclaw_memory_forgotten", "Records that the coldest tier had no room for.", registry=self.registry
        )
        self.memory_feedback = Counter(
            "openclaw_memory_feedback",
            "What users thought of records: useful or useless.",
            ["verdict"],
            registry=self.registry,
        )
        self.queue_seconds = Histogram(
            "openclaw_sandbox_queue_seconds",
            "Time that skill calls waited for a sandbox: served, given up at their deadline, or cancelled.",
            ["pool", "outcome"],
            buckets=_QUEUE_SECONDS,
            registry=self.registry,
        )
        self.queue_waiting = Gauge(
            "openclaw_sandbox_waiting_calls", "Skill calls that wait for a sandbox.", ["pool"], registry=self.registry
        )
        # https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-metrics/ as Prometheus spells it.
        self.token_usage = Histogram(
            "gen_ai_client_token_usage",
            "Tokens of one model request.",
            [*_GEN_AI_LABELS, "gen_ai_token_type"],
            buckets=_TOKENS,
            registry=self.registry,
        )
        self.operation_duration = Histogram(
            "gen_ai_client_operation_duration_seconds",
            "Duration of model requests, until the end of a stream.",
            [*_GEN_AI_LABELS, "error_type"],
            buckets=_OPERATION_SECONDS,
            registry=self.registry,
        )
        self.model_cost = Counter(
            "openclaw_model_cost_usd",
            "What models cost in US dollars, where their price is known.",
            ["provider", "model"],
            registry=self.registry,
        )
        self.model_cache_requests = Counter(
            "openclaw_model_cache_requests",
            "Model requests that the cache was asked for, by what had the answer.",
            ["result"],
            registry=self.registry,
        )
        self.model_cache_refreshes = Counter(
            "openclaw_model_cache_refreshes",
            "Answers in the cache that were asked for anew.",
            ["outcome"],
            registry=self.registry,
        )
        self.background_requests = Counter(
            "openclaw_model_background_requests",
            "Model requests of skills, by how they were answered.",
            ["outcome"],
            registry=self.registry,
        )
        self.background_waiting_requests = Gauge(
            "openclaw_model_background_waiting",
            "Model requests of skills that wait for others to end.",
            registry=self.registry,
        )
        self.model_retries = Counter(
            "openclaw_model_retries",
            "Model requests that failed and were made again.",
            ["provider", "model", "reason"],
            registry=self.registry,
        )
        self.model_failures = Counter(
            "openclaw_model_failures",
            "Requests that a model did not answer, retries included.",
            ["provider", "model", "reason"],
            registry=self.registry,
        )
        self.model_fallbacks = Counter(
            "openclaw_model_fallbacks",
            "Requests that a model answered in place of one that failed before it.",
            ["provider", "model"],
            registry=self.registry,
        )
        self.turns_in_flight = Gauge("openclaw_turns_in_flight", "Turns running or waiting.", registry=self.registry)
        self.open_questions = Gauge(
            "openclaw_open_questions", "Questions of skills that wait for an answer.", registry=self.registry
        )
        self.active_skills = Gauge("openclaw_active_skills", "Skills that are loaded.", registry=self.registry)
        self.config_reloads = Counter(
            "openclaw_config_reloads", "Changes of the configuration.", ["outcome"], registry=self.registry
        )
        self.config_valid = Gauge(
            "openclaw_config_valid", "1 when the configuration file is the one in use.", registry=self.registry
        )
        self.config_valid.set(1)
        Gauge(
            "openclaw_memory_usage_bytes", "Resident memory of the gateway process.", registry=self.registry
        ).set_function(resident_bytes)
        Gauge("openclaw_start_time_seconds", "Unix time of the start.", registry=self.registry).set(start_time)
        Gauge("openclaw_build_info", "Always 1.", ["version", "agent"], registry=self.registry).labels(
            version, agent
        ).set(1)

    def searched(self, duration_ms: float, results: int) -> None:
        """Counts one memory search."""
        self.search_duration.observe(duration_ms)
        self.search_results.inc(results)

    def tier_holds(self, tier: str, records: int) -> None:
        """Notes how many records a tier of memory holds."""
        self.memory_records.labels(tier).set(records)

    def forgot(self, records: int) -> None:
        """Counts records that were forgotten."""
        self.memory_forgotten.inc(records)

    def model_retried(self, provider: str, model: str, reason: str) -> None:
        """Counts one attempt that is made again."""
        self.model_retries.labels(provider, model, reason).inc()

    def model_failed(self, provider: str, model: str, reason: str) -> None:
        """Counts one request that a model did not answer."""
        self.model_failures.labels(provider, model, reason).inc()

    def model_stood_in(self, provider: str, model: str) -> None:
        """Counts one request that a fallback answered."""
        self.model_fallbacks.labels(provider, model).inc()

    def model_cache_asked(self, result: str) -> None:
        """Counts one look into the cache."""
        self.model_cache_requests.labels(result).inc()

    def model_cache_refreshed(self, outcome: str) -> None:
        """Counts one answer that was asked for anew."""
        self.model_cache_refreshes.labels(outcome).inc()

    def background_waiting(self, requests: int) -> None:
        """Notes how many requests in the background wait."""
        self.background_waiting_requests.set(requests)

    def background_done(self, outcome: str) -> None:
        """Counts one request in the background."""
        self.background_requests.labels(outcome).inc()

    def model_called(self, provider: str, model: str, seconds: float, failure: str) -> None:
        """Counts one request to a provider."""
        self.operation_duration.labels("chat", provider, model, failure).observe(seconds)

    def model_used(self, provider: str, model: str, input_tokens: int, output_tokens: int, usd: float | None) -> None:
        """Counts the tokens and the cost of one answer."""
        self.token_usage.labels("chat", provider, model, "input").observe(input_tokens)
        self.token_usage.labels("chat", provider, model, "output").observe(output_tokens)
        if usd is not None:
            self.model_cost.labels(provider, model).inc(usd)

    def waiting(self, pool: str, calls: int) -> None:
        """Notes how many skill calls wait for a sandbox of a pool."""
        self.queue_waiting.labels(pool).set(calls)

    def waited(self, pool: str, seconds: float, outcome: str) -> None:
        """Counts one call that left the queue of a pool."""
        self.queue_seconds.labels(pool, outcome).observe(seconds)


def resident_bytes() -> float:
    """Returns the resident memory of this process in bytes."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
    return float(pages * os.sysconf("SC_PAGE_SIZE"))


class JsonFormatter(logging.Formatter):
    """One JSON object per line: time (UTC), level, logger, message, and the fields given as `extra`."""

    converter = staticmethod(time.gmtime)

    def format(self, record: logging.LogRecord) -> str:
        """Returns the line."""
        entry: dict[str, object] = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S") + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        entry.update({key: value for key, value in record.__dict__.items() if key not in _STANDARD_FIELDS})
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str, ensure_ascii=False)


def configure_logging(level: str, stream: TextIO, *, as_json: bool) -> None:
    """Sends all logs to `stream`. `level` is debug, info, warn or error."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter() if as_json else logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(_LEVELS[level])
    # At info these log every request and may name addresses; they matter only to someone debugging.
    for noisy in ("httpx", "httpx2", "httpcore", "openai", "wordllama", "watchfiles", "uvicorn.access"):
        logging.getLogger(noisy).setLevel(max(_LEVELS[level], logging.WARNING) if level != "debug" else logging.DEBUG)


def build_tracing(environ: Mapping[str, str], *, agent: str, version: str) -> "TracerProvider | None":
    """Returns a tracer provider that exports over OTLP, or None when no endpoint is set.

    The standard variables apply: OTEL_EXPORTER_OTLP_ENDPOINT and its relatives
    (https://opentelemetry.io/docs/specs/otel/protocol/exporter/).
    """
    if not (environ.get("OTEL_EXPORTER_OTLP_ENDPOINT") or environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")):
        return None
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    attributes = {"service.name": "openclaw-gateway", "service.version": version, "gen_ai.agent.name": agent}
    # OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES win over ours.
    provider = TracerProvider(resource=Resource.create(attributes).merge(OTELResourceDetector().detect()))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider

"""What the command line asks a running gateway."""

from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from openclaw_runtime.errors import OpenClawError

_SECONDS = 5.0


def fetch(address: str, path: str) -> httpx.Response:
    """Returns what the gateway at `address` answers. Raises `OpenClawError` when there is none."""
    try:
        answer = httpx.get(f"{address}{path}", timeout=_SECONDS, trust_env=False)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise OpenClawError(f"no gateway answers at {address}: {error}; start it with: openclaw gateway") from None
    # /ready says with 503 what is missing; anything else but success is not a gateway's.
    if answer.status_code not in (httpx.codes.OK, httpx.codes.SERVICE_UNAVAILABLE):
        raise OpenClawError(f"{address} is no gateway: {path} answers {answer.status_code}; check --address")
    return answer


def status(address: str) -> dict[str, Any]:
    """Returns what /health and /ready say. Raises `OpenClawError`."""
    try:
        return {"health": fetch(address, "/health").json(), "ready": fetch(address, "/ready").json()}
    except ValueError:
        raise OpenClawError(f"{address} is no gateway: its answer is not JSON; check --address") from None


def summarize(exposition: str, *, now: float) -> dict[str, float]:
    """Returns the summary of a metrics page: uptime in seconds, memory in MiB, mean duration in milliseconds."""
    totals: dict[str, float] = {}
    for family in text_string_to_metric_families(exposition):
        for sample in family.samples:
            if "le" not in sample.labels:
                totals[sample.name] = totals.get(sample.name, 0.0) + sample.value
    count = totals.get("openclaw_request_duration_ms_count", 0.0)
    duration = totals.get("openclaw_request_duration_ms_sum", 0.0)
    return {
        "uptime": round(now - totals.get("openclaw_start_time_seconds", now), 3),
        "active_skills": int(totals.get("openclaw_active_skills", 0)),
        "memory_usage_mb": round(totals.get("openclaw_memory_usage_bytes", 0.0) / 1024**2, 1),
        "total_requests": int(count),
        "avg_response_time_ms": round(duration / count, 3) if count else 0.0,
    }

"""Prometheus and Grafana configuration for agents. Pure: settings in, documents out.

https://prometheus.io/docs/prometheus/latest/configuration/configuration/
https://grafana.com/docs/grafana/latest/dashboards/build-dashboards/view-dashboard-json-model/
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

NAME_LABEL = "app_kubernetes_io_name"
AGENT_LABEL = "openclaw_io_agent"


@dataclass(frozen=True)
class Limits:
    """When the alerts fire: errors per second, resident megabytes, and for how long."""

    error_rate: float = 0.1
    error_for: str = "5m"
    memory_mb: int = 1024
    memory_for: str = "2m"


def scrape_by_discovery(job: str, namespaces: Sequence[str], interval: int, port: int) -> dict[str, Any]:
    """Returns a scrape job that finds the gateways' pods in a cluster, in all namespaces if none is named."""
    discovery: dict[str, Any] = {"role": "pod"}
    if namespaces:
        discovery["namespaces"] = {"names": list(namespaces)}
    meta = "__meta_kubernetes"
    return {
        "job_name": job,
        "scrape_interval": f"{interval}s",
        "metrics_path": "/metrics",
        "kubernetes_sd_configs": [discovery],
        "relabel_configs": [
            {"source_labels": [f"{meta}_pod_label_{NAME_LABEL}"], "regex": "gateway", "action": "keep"},
            {"source_labels": [f"{meta}_pod_container_port_number"], "regex": str(port), "action": "keep"},
            {"source_labels": [f"{meta}_pod_phase"], "regex": "Pending|Succeeded|Failed", "action": "drop"},
            {"source_labels": [f"{meta}_namespace"], "target_label": "namespace"},
            {"source_labels": [f"{meta}_pod_name"], "target_label": "pod"},
            {"source_labels": [f"{meta}_pod_label_{AGENT_LABEL}"], "target_label": "agent"},
        ],
    }


def scrape_targets(job: str, targets: Sequence[str], interval: int) -> dict[str, Any]:
    """Returns a scrape job for fixed `host:port` targets."""
    return {
        "job_name": job,
        "scrape_interval": f"{interval}s",
        "metrics_path": "/metrics",
        "static_configs": [{"targets": list(targets)}],
    }


def prometheus(jobs: Sequence[dict[str, Any]], interval: int, rule_files: Sequence[str]) -> dict[str, Any]:
    """Returns a whole Prometheus configuration."""
    document: dict[str, Any] = {
        "global": {"scrape_interval": f"{interval}s", "evaluation_interval": f"{interval}s"},
    }
    if rule_files:
        document["rule_files"] = list(rule_files)
    return {**document, "scrape_configs": list(jobs)}


def alert_rules(limits: Limits) -> dict[str, Any]:
    """Returns the alert rules of the agents."""
    return {
        "groups": [
            {
                "name": "openclaw-alerts",
                "rules": [
                    {
                        "alert": "HighErrorRate",
                        "expr": f"rate(openclaw_skill_errors_total[5m]) > {limits.error_rate:g}",
                        "for": limits.error_for,
                        "labels": {"severity": "warning"},
                        "annotations": {
                            "summary": "Skill {{ $labels.skill }} fails on {{ $labels.instance }}",
                            "description": "{{ $value | humanize }} errors per second.",
                        },
                    },
                    {
                        "alert": "MemoryUsageHigh",
                        "expr": f"openclaw_memory_usage_bytes / 1024 / 1024 > {limits.memory_mb}",
                        "for": limits.memory_for,
                        "labels": {"severity": "critical"},
                        "annotations": {
                            "summary": f"{{{{ $labels.instance }}}} uses more than {limits.memory_mb} MB",
                            "description": "{{ $value | humanize }} MB are in use.",
                        },
                    },
                ],
            }
        ]
    }


def _quantile(share: float, metric: str) -> str:
    return f"histogram_quantile({share}, sum by (le) (rate({metric}_bucket[$__rate_interval])))"


def _rate(metric: str, by: str) -> str:
    return f"sum by ({by}) (rate({metric}[$__rate_interval]))" if by else f"sum(rate({metric}[$__rate_interval]))"


def _durations(metric: str) -> tuple[tuple[str, str], ...]:
    return tuple((_quantile(share, metric), f"p{share * 100:g}") for share in (0.5, 0.9, 0.99))


PANELS: tuple[tuple[str, str, tuple[tuple[str, str], ...]], ...] = (
    ("Requests per second", "reqps", ((_rate("openclaw_request_duration_ms_count", "instance"), "{{instance}}"),)),
    ("Request duration", "ms", _durations("openclaw_request_duration_ms")),
    ("Errors per second", "short", ((_rate("openclaw_errors_total", "type"), "{{type}}"),)),
    ("Skill calls per second", "short", ((_rate("openclaw_skill_executions_total", "skill"), "{{skill}}"),)),
    ("Skill errors per second", "short", ((_rate("openclaw_skill_errors_total", "skill"), "{{skill}}"),)),
    ("Memory", "bytes", (("openclaw_memory_usage_bytes", "{{instance}}"),)),
    ("Vector search duration", "ms", _durations("openclaw_vector_search_duration_ms")),
    ("Vector results per second", "short", ((_rate("openclaw_vector_search_results_total", ""), "results"),)),
)
"""Title, unit, and expressions with their legends."""


def dashboard(title: str, uid: str, refresh: str) -> dict[str, Any]:
    """Returns a Grafana dashboard; the data source is chosen in it."""
    source = {"type": "prometheus", "uid": "${datasource}"}
    panels = [
        {
            "id": number + 1,
            "type": "timeseries",
            "title": name,
            "datasource": source,
            "gridPos": {"x": 12 * (number % 2), "y": 8 * (number // 2), "w": 12, "h": 8},
            "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
            "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
            "targets": [
                {"refId": chr(ord("A") + at), "expr": expression, "legendFormat": legend, "datasource": source}
                for at, (expression, legend) in enumerate(queries)
            ],
        }
        for number, (name, unit, queries) in enumerate(PANELS)
    ]
    return {
        "uid": uid,
        "title": title,
        "tags": ["openclaw"],
        "timezone": "browser",
        "schemaVersion": 39,
        "refresh": refresh,
        "time": {"from": "now-6h", "to": "now"},
        "templating": {
            "list": [{"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Data source"}]
        },
        "panels": panels,
    }

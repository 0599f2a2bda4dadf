"""A span for each request that a reconcile makes, named as OpenTelemetry names those of HTTP clients.

https://opentelemetry.io/docs/specs/semconv/http/http-spans/#http-client
https://opentelemetry.io/docs/specs/semconv/registry/attributes/k8s/
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import unquote, urlsplit

from opentelemetry import trace

from openclaw_operator import telemetry
from openclaw_operator.cluster.kinds import BY_NAME
from openclaw_operator.errors import ApiError

_KINDS = {kind.plural: kind.name for kind in BY_NAME.values()}
# All other attributes are the kind in lower case.
_NAMES = {"HorizontalPodAutoscaler": "k8s.hpa.name"}


@contextmanager
def of_request(method: str, server: str, path: str, body: Mapping[str, Any] | None) -> Iterator[trace.Span]:
    """The span of one request; one that never records where nobody traces what asked for it."""
    if not trace.get_current_span().is_recording():
        yield trace.INVALID_SPAN
        return
    template, attributes = _described(path, body)
    address = urlsplit(server)
    attributes |= {
        "http.request.method": method,
        "url.full": f"{server}{path}",
        "url.template": template,
        "server.address": address.hostname or "",
        "server.port": address.port or (80 if address.scheme == "http" else 443),
    }
    kind = trace.SpanKind.CLIENT
    with telemetry.TRACER.start_as_current_span(f"{method} {template}", kind=kind, attributes=attributes) as span:
        try:
            yield span
        except ApiError as error:
            span.set_attribute("error.type", str(error.status or error.reason))
            raise


def _described(path: str, body: Mapping[str, Any] | None) -> tuple[str, dict[str, str | int]]:
    """The path with its variable parts left open, and what it is about."""
    head, found, rest = path.partition("/namespaces/")
    if not found:
        return path, {}
    namespace, plural, *parts = rest.split("/")
    kind = _KINDS.get(plural, plural)
    attributes: dict[str, str | int] = {"k8s.namespace.name": unquote(namespace)}
    name = unquote(parts[0]) if parts else ((body or {}).get("metadata") or {}).get("name")
    if name:
        attributes[_NAMES.get(kind, f"k8s.{kind.lower()}.name")] = name
    opened = ["{namespace}", plural, *(["{name}", *parts[1:]] if parts else [])]
    return f"{head}/namespaces/{'/'.join(opened)}", attributes

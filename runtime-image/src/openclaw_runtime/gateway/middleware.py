"""What every request passes: measuring, the bearer token, and errors in OpenAI's shape."""

import hmac
import logging
from collections.abc import Callable
from contextlib import nullcontext

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from openclaw_runtime.gateway.idle import IdleClock
from openclaw_runtime.gateway.openai import RequestError, error_body
from openclaw_runtime.secrets import Secret
from openclaw_runtime.telemetry import Metrics

logger = logging.getLogger(__name__)

OPEN_PATHS = frozenset({"/health", "/ready", "/metrics"})
"""What answers without a token: probes and the scraper have none. Nothing there tells about conversations."""

_ROUTES = ("/v1/chat/completions", "/v1/models", "/health", "/ready", "/metrics", "/debug/tasks")
_API = "/api/v1/"
_API_ROUTES = ("skills", "attachments", "memory", "schedules", "sessions", "openapi.json")


def error_response(
    status: int,
    message: str,
    *,
    param: str | None = None,
    code: str | None = None,
    headers: dict[str, str] | None = None,
) -> Response:
    """Returns an error as OpenAI shapes it."""
    body = error_body(status, message, param=param, code=code)
    return Response(body, status_code=status, headers=headers, media_type="application/json")


def route_label(path: str) -> str:
    """Returns a path as a metric label: few values whatever is asked for, since anybody may ask without a token."""
    if path in _ROUTES:
        return path
    resource = path.removeprefix(_API).partition("/")[0]
    if path.startswith(_API) and resource in _API_ROUTES:
        return _API + resource
    return "other"


class Measure:
    """Measures every request until its last byte. `timer` is a monotonic clock in seconds.

    While one is served that is no probe or scrape, the gateway is not idle.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, timer: Callable[[], float], idle: IdleClock) -> None:
        self._app = app
        self._metrics = metrics
        self._timer = timer
        self._idle = idle

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = self._timer(), 500

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            with nullcontext() if scope["path"] in OPEN_PATHS else self._idle.busy():
                await self._app(scope, receive, watched)
        finally:
            duration = (self._timer() - started) * 1000
            route = route_label(scope["path"])
            self._metrics.request_duration.labels(route, scope["method"], str(status)).observe(duration)


class BearerToken:
    """Lets only requests with the gateway's token through, compared in constant time."""

    def __init__(self, app: ASGIApp, token: Secret) -> None:
        if not token.get_secret_value():
            raise ValueError("the token is empty")
        self._app = app
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves a request, or refuses it with 401."""
        if scope["type"] == "lifespan" or (scope["type"] == "http" and scope["path"] in OPEN_PATHS):
            await self._app(scope, receive, send)
            return
        header = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        scheme, _, given = header.partition(b" ")
        if scheme.lower() == b"bearer" and hmac.compare_digest(given.strip(), self._token.get_secret_value().encode()):
            await self._app(scope, receive, send)
            return
        reason = "the token is wrong" if header else "no token; send Authorization: Bearer <token>"
        refusal = error_response(401, reason, code="invalid_api_key", headers={"WWW-Authenticate": "Bearer"})
        await refusal(scope, receive, send)


async def on_http_exception(_request: Request, error: Exception) -> Response:
    """Shapes the framework's own errors, like an unknown path."""
    assert isinstance(error, HTTPException)
    return error_response(error.status_code, error.detail, headers=dict(error.headers or {}))


async def on_request_error(_request: Request, error: Exception) -> Response:
    """Shapes a refused request."""
    assert isinstance(error, RequestError)
    headers = {"Retry-After": "1"} if error.status in (429, 503) else None
    return error_response(error.status, str(error), param=error.param, code=error.code, headers=headers)


async def on_failure(_request: Request, error: Exception) -> Response:
    """Shapes anything unexpected. The server logs it with its trace."""
    logger.error("a request failed", exc_info=error)
    return error_response(500, "the gateway failed; its log has the details", code="internal_error")

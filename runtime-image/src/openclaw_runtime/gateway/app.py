"""The gateway's ASGI application."""

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

from openclaw_runtime.gateway.api import create_api
from openclaw_runtime.gateway.chat import routes as chat_routes
from openclaw_runtime.gateway.middleware import (
    BearerToken,
    Measure,
    on_failure,
    on_http_exception,
    on_request_error,
)
from openclaw_runtime.gateway.openai import RequestError
from openclaw_runtime.gateway.state import GatewayState
from openclaw_runtime.secrets import Secret


def create_app(state: GatewayState, token: Secret) -> Starlette:
    """Returns the application; everything but probes and metrics asks for `token`."""

    async def health(_request: Request) -> Response:
        return JSONResponse({"status": "ok", "version": state.version, "agents": [state.agent]})

    async def ready(_request: Request) -> Response:
        is_ready, details = await state.readiness()
        status = "ready" if is_ready else "not ready"
        return JSONResponse({"status": status, "details": details}, status_code=200 if is_ready else 503)

    async def metrics(_request: Request) -> Response:
        from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

        return Response(generate_latest(state.metrics.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def debug_tasks(_request: Request) -> Response:
        return JSONResponse(state.tasks())

    return Starlette(
        routes=[
            Route("/health", health),
            Route("/ready", ready),
            Route("/metrics", metrics),
            Route("/debug/tasks", debug_tasks),
            *chat_routes(state),
            Mount("/api/v1", create_api(state)),
        ],
        middleware=[
            Middleware(Measure, metrics=state.metrics, timer=state.timer, idle=state.idle),
            Middleware(BearerToken, token=token),
        ],
        exception_handlers={
            HTTPException: on_http_exception,
            RequestError: on_request_error,
            Exception: on_failure,
        },
    )

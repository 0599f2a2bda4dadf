"""What gateways tell the activator: how they are, and whom their messages are for."""

import hashlib
from collections.abc import Callable

import msgspec
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from openclaw_runtime.activator.board import Board, Report
from openclaw_runtime.activator.proxy import Metrics
from openclaw_runtime.activator.settings import Sleepers

LARGEST_BODY = 16 * 1024


class Wake(msgspec.Struct, frozen=True):
    """A message was left for an agent."""

    agent: str


def create_api(board: Board, sleepers: Callable[[], Sleepers], metrics: Metrics) -> Starlette:
    """Returns the application. A NetworkPolicy closes its port to all but gateways and who scrapes its metrics."""

    async def report(request: Request) -> Response:
        # A gateway speaks for itself only: who takes requests for an agent gets its clients' tokens.
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        agent = sleepers().of_token(hashlib.sha256(token.encode()).hexdigest())
        if agent is None:
            return _error(401, "the token is of no agent here")
        try:
            board.report(agent, msgspec.json.decode(await _body(request), type=Report))
        except msgspec.MsgspecError as error:
            return _error(400, str(error))
        return Response(status_code=204)

    async def wake(request: Request) -> Response:
        try:
            agent = msgspec.json.decode(await _body(request), type=Wake).agent
        except msgspec.MsgspecError as error:
            return _error(400, str(error))
        # One that never hibernates needs nobody to wake it.
        if agent in sleepers().agents:
            board.want(agent)
        return Response(status_code=204)

    async def health(_request: Request) -> Response:
        return JSONResponse({"status": "ok", "agents": len(sleepers().agents), "held": board.held})

    async def told(_request: Request) -> Response:
        return Response(generate_latest(metrics.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    return Starlette(
        routes=[
            Route("/v1/report", report, methods=["POST"]),
            Route("/v1/wake", wake, methods=["POST"]),
            Route("/health", health),
            Route("/ready", health),
            Route("/metrics", told),
        ]
    )


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST_BODY:
            raise msgspec.DecodeError(f"the body is larger than {LARGEST_BODY} bytes")
    return bytes(body)


def _error(status: int, message: str) -> Response:
    return JSONResponse({"error": message}, status_code=status)

"""Runs an activator: one server for requests to agents, one for what gateways tell, and the writer of states."""

import asyncio
import logging
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp

from openclaw_runtime.activator.api import create_api
from openclaw_runtime.activator.board import Board
from openclaw_runtime.activator.proxy import Metrics, Proxy
from openclaw_runtime.activator.settings import Settings, Sleepers
from openclaw_runtime.activator.states import ConfigMaps, States

_log = logging.getLogger(__name__)


class _Server(uvicorn.Server):
    """Stops when told to, not on a signal: what is held goes first."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Captures none."""
        yield


def _server(app: ASGIApp, host: str, port: int, grace_seconds: int) -> _Server:
    return _Server(
        uvicorn.Config(
            app,
            host=host,
            port=port,
            http="httptools",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=grace_seconds,
        )
    )


async def run(settings: Settings, sleepers: Callable[[], Sleepers], api: ConfigMaps, stop: asyncio.Event) -> None:
    """Runs until `stop` is set; what is held or under way then may end."""
    states = States(api, settings.namespace, sleepers)
    board = Board(time.monotonic, time.time, states.note, settle_seconds=settings.settle_seconds)
    metrics = Metrics(board)
    proxy = Proxy(board, sleepers, metrics)
    requests = _server(proxy, settings.host, settings.port, settings.grace_seconds)
    told = _server(create_api(board, sleepers, metrics), settings.host, settings.api_port, 1)
    serving = [asyncio.create_task(server.serve()) for server in (requests, told)]
    writing = asyncio.create_task(states.run(board))
    stopping = asyncio.create_task(stop.wait())
    _log.info("the activator listens", extra={"fields": {"port": settings.port, "agents": len(sleepers().agents)}})
    try:
        await asyncio.wait({*serving, writing, stopping}, return_when=asyncio.FIRST_COMPLETED)
        # Gateways are still listened to while what is held waits for them.
        requests.should_exit = True
        await serving[0]
        told.should_exit = True
        await serving[1]
    finally:
        for task in (writing, stopping):
            task.cancel()
        done = await asyncio.gather(writing, stopping, return_exceptions=True)
        await proxy.close()
    if isinstance(done[0], Exception):
        raise done[0]


def on_signals(stop: asyncio.Event) -> None:
    """Sets `stop` on SIGTERM and SIGINT."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)

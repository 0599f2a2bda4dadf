"""Runs an activator: one server for requests to agents, one for what gateways tell, and the writer of states."""

import asyncio
import logging
import signal
import time
from collections.abc import Callable
from functools import partial

from openclaw_runtime.activator.api import create_api
from openclaw_runtime.activator.board import Board
from openclaw_runtime.activator.proxy import Metrics, Proxy
from openclaw_runtime.activator.settings import Settings, Sleepers
from openclaw_runtime.activator.states import ConfigMaps, States
from openclaw_runtime.httpserver import http_server

_log = logging.getLogger(__name__)


async def run(settings: Settings, sleepers: Callable[[], Sleepers], api: ConfigMaps, stop: asyncio.Event) -> None:
    """Runs until `stop` is set; what is held or under way then may end."""
    states = States(api, settings.namespace, sleepers)
    board = Board(time.monotonic, time.time, states.note, settle_seconds=settings.settle_seconds)
    metrics = Metrics(board)
    proxy = Proxy(board, sleepers, metrics)
    serve = partial(http_server, host=settings.host, date_header=False)
    requests = serve(proxy, port=settings.port, grace_seconds=settings.grace_seconds)
    told = serve(create_api(board, sleepers, metrics), port=settings.api_port, grace_seconds=1)
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

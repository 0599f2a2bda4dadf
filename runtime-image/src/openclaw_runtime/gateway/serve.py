"""The gateway as a process: listen, follow the configuration, drain on SIGTERM."""

import asyncio
import logging
import signal
import socket
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from openclaw_runtime.config import RuntimeConfig
from openclaw_runtime.errors import OpenClawError
from openclaw_runtime.gateway.app import create_app
from openclaw_runtime.gateway.assembly import Gateway, SkillHost
from openclaw_runtime.gateway.reload import again, changes, follow
from openclaw_runtime.gateway.surroundings import Surroundings
from openclaw_runtime.httpserver import http_server
from openclaw_runtime.secrets import Secret

logger = logging.getLogger(__name__)

_CONNECTIONS_SECONDS = 5
_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


@dataclass(frozen=True)
class Place:
    """Where a gateway listens and what it follows. `config_path` is None when there is no file."""

    listener: socket.socket
    config_path: Path | None
    also_watch: tuple[Path, ...] = ()


def listen(host: str, port: int) -> socket.socket:
    """Returns a socket that listens. Raises `OpenClawError` with the fix when the port is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OpenClawError(f"gateway.port: cannot listen on {host}:{port}: {reason}; choose another port") from None


async def serve(config: RuntimeConfig, around: Surroundings, skills: SkillHost, token: Secret, place: Place) -> bool:
    """Runs the gateway until SIGTERM or SIGINT; a second signal does not wait for turns.

    Returns whether all turns in flight finished. Raises `ConfigError` when the gateway cannot start.
    """
    loop = asyncio.get_running_loop()
    stop, hurry = asyncio.Event(), asyncio.Event()

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        loop.call_soon_threadsafe((hurry if stop.is_set() else stop).set)

    previous = {number: signal.signal(number, on_signal) for number in _STOP_SIGNALS}
    try:
        gateway = Gateway(config, around, skills)
        await gateway.start()
        server = http_server(create_app(gateway.state, token), grace_seconds=_CONNECTIONS_SECONDS)
        serving = asyncio.create_task(server.serve(sockets=[place.listener]), name="http")
        following = asyncio.create_task(_follow(gateway, config, place, stop), name="follow-config")
        host, port = place.listener.getsockname()[:2]
        logger.info("the gateway listens", extra={"address": f"{host}:{port}", "agent": config.claw.name})
        await asyncio.wait({serving, asyncio.create_task(stop.wait())}, return_when=asyncio.FIRST_COMPLETED)
        finished = await _drain(gateway, config.gateway.drain_seconds, hurry)
        following.cancel()
        server.should_exit = True
        await asyncio.gather(serving, following, return_exceptions=True)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    logger.info("the gateway ended", extra={"all_turns_finished": finished})
    return finished


async def _drain(gateway: Gateway, seconds: float, hurry: asyncio.Event) -> bool:
    """Closes the gateway; turns have `seconds`, or until `hurry`."""
    gateway.state.draining = True
    closing = asyncio.create_task(gateway.close(seconds), name="drain")
    hurried = asyncio.create_task(hurry.wait(), name="hurry")
    await asyncio.wait({closing, hurried}, return_when=asyncio.FIRST_COMPLETED)
    hurried.cancel()
    if not closing.done():
        closing.cancel()
        await asyncio.gather(closing, return_exceptions=True)
        return False
    return closing.result()


async def _follow(gateway: Gateway, config: RuntimeConfig, place: Place, stop: asyncio.Event) -> None:
    reject = gateway.state.reject

    async def reapply() -> None:
        await gateway.apply(gateway.state.loop.config)

    async with asyncio.TaskGroup() as group:
        if place.config_path is not None:
            changed = changes([place.config_path.parent], stop)
            group.create_task(follow(place.config_path, config, changed, gateway.apply, reject))
        if place.also_watch:
            group.create_task(again(changes(place.also_watch, stop, deep=True), reapply, reject))

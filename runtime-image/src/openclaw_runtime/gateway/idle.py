"""Whether the gateway has anything to do, and how the activator learns of it."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Final

from openclaw_runtime.activator.board import Report
from openclaw_runtime.activator.client import ActivatorClient
from openclaw_runtime.errors import OpenClawError
from openclaw_runtime.secrets import Secret

REPORT_SECONDS: Final = 5.0

_log = logging.getLogger(__name__)


class IdleClock:
    """For how long nothing was done. `timer` is a monotonic clock in seconds.

    `working` says whether there is work under way that nobody marked as `busy`, like a turn.
    """

    def __init__(self, timer: Callable[[], float], working: Callable[[], bool]) -> None:
        self._timer = timer
        self._working = working
        self._busy = 0
        self._since = timer()

    @contextmanager
    def busy(self) -> Iterator[None]:
        """While something is done."""
        self._busy += 1
        try:
            yield
        finally:
            self._busy -= 1
            self._since = self._timer()

    def seconds(self) -> float:
        """Returns for how long nothing was done; 0 while something is."""
        if self._busy or self._working():
            self._since = self._timer()
        return self._timer() - self._since


class Reporter:
    """Tells the activator every few seconds how this gateway is, for as long as its agent hibernates.

    `wanted` says whether it does now. `backlog` counts the messages to the agent that nobody has handled.
    """

    def __init__(
        self,
        client: ActivatorClient,
        token: Secret,
        *,
        replica: str,
        address: str,
        idle: IdleClock,
        wanted: Callable[[], bool],
        backlog: Callable[[], Awaitable[int]],
        due: Callable[[], float | None],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._client = client
        self._token = token
        self._replica = replica
        self._address = address
        self._idle = idle
        self._wanted = wanted
        self._backlog = backlog
        self._due = due
        self._sleep = sleep

    async def run(self) -> None:
        """Tells for ever."""
        while True:
            if self._wanted():
                await self._client.report(await self._report(accepts=True), self._token)
            await self._sleep(REPORT_SECONDS)

    async def leave(self) -> None:
        """Says that this gateway takes no more requests."""
        if self._wanted():
            await self._client.report(await self._report(accepts=False), self._token)

    async def _report(self, *, accepts: bool) -> Report:
        try:
            waiting = await self._backlog()
        except OpenClawError as error:
            # Not known: there may be messages.
            _log.warning("the backlog of messages is not known: %s", error)
            waiting = 1
        seconds = 0.0 if waiting else self._idle.seconds()
        return Report(self._replica, self._address, seconds, accepts, self._due())

"""The gateway's side of the activator: says how this gateway is, and for whom a message was left."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import httpx
import msgspec

from openclaw_runtime.activator.board import Report
from openclaw_runtime.config import Activator
from openclaw_runtime.egress.client import lookup
from openclaw_runtime.netloc import in_url
from openclaw_runtime.secrets import Secret

ASK_SECONDS: Final = 2.0
WAKE_SECONDS: Final = 30.0
"""So long it is tried to tell of a message."""
_PAUSE_SECONDS: Final = 0.5

_log = logging.getLogger(__name__)
Lookup = Callable[[str, int], Awaitable[Sequence[str]]]


class ActivatorClient:
    """Talks to every replica of the activator, wherever `place` says it is; with None there is none."""

    def __init__(self, place: Callable[[], Activator | None], *, find: Lookup = lookup) -> None:
        self._place = place
        self._find = find
        self._http = httpx.AsyncClient(timeout=ASK_SECONDS, trust_env=False)
        self._waking: set[asyncio.Task[None]] = set()
        self._problem: str | None = None

    async def close(self) -> None:
        """Ends what is under way and closes connections."""
        for task in self._waking:
            task.cancel()
        await asyncio.gather(*self._waking, return_exceptions=True)
        await self._http.aclose()

    async def report(self, report: Report, token: Secret) -> None:
        """Says how this gateway is. An activator that does not hear it takes the agent for what it last was."""
        headers = {"Authorization": f"Bearer {token.get_secret_value()}"}
        await self._tell("/v1/report", msgspec.json.encode(report), headers)

    def wake(self, agent: str) -> None:
        """Has an agent woken, if it hibernates, for a message that is left to it. Returns at once."""
        if self._place() is None:
            return
        task = asyncio.create_task(self._wake(agent), name=f"wake-{agent}")
        self._waking.add(task)
        task.add_done_callback(self._waking.discard)

    async def _wake(self, agent: str) -> None:
        body = msgspec.json.encode({"agent": agent})
        try:
            async with asyncio.timeout(WAKE_SECONDS):
                while not await self._tell("/v1/wake", body, {}):  # noqa: ASYNC110 - the activator tells nobody
                    await asyncio.sleep(_PAUSE_SECONDS)
        except TimeoutError:
            _log.warning("agent %s was not woken for a message: %s", agent, self._problem)

    async def _tell(self, path: str, body: bytes, headers: dict[str, str]) -> bool:
        """Returns whether a replica took it."""
        place = self._place()
        if place is None:
            return True
        try:
            pods = await self._find(place.host, place.port)
            answers = await asyncio.gather(
                *(
                    self._http.post(f"http://{in_url(pod)}:{place.port}{path}", content=body, headers=headers)
                    for pod in pods
                ),
                return_exceptions=True,
            )
        except OSError as error:
            answers = [error]
        problem = next((text for answer in answers if (text := _problem(answer))), None)
        if problem != self._problem:
            self._problem = problem
            _log.info("the activator %s", f"is not there: {problem}" if problem else "is there")
        return any(_problem(answer) is None for answer in answers)


def _problem(answer: Any) -> str | None:
    if isinstance(answer, httpx.Response):
        return None if answer.is_success else f"it answers {answer.status_code}"
    if isinstance(answer, Exception):
        return f"{type(answer).__name__} {answer}".rstrip()
    raise answer

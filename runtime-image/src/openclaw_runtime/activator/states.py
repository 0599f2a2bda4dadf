"""Tells the operator what the board says, in the ConfigMap of each agent, where that holds something else."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Final, Protocol

import msgspec

from openclaw_runtime.activator.board import ACTIVE, Board, State
from openclaw_runtime.activator.settings import Sleepers
from openclaw_runtime.sandbox.kube import KubeError

RETRY_SECONDS: Final = 1.0
_NOT_FOUND: Final = 404

_log = logging.getLogger(__name__)


class ConfigMaps(Protocol):
    """The ConfigMaps of the cluster."""

    async def get_config_map(self, namespace: str, name: str) -> dict[str, Any]:
        """Returns a ConfigMap. Raises `KubeError`."""
        ...

    async def merge_config_map(self, namespace: str, name: str, change: dict[str, Any]) -> dict[str, Any]:
        """Merges a change into a ConfigMap and returns it. Raises `KubeError`."""
        ...


class States:
    """Writes states. `note` an agent whose state may have changed."""

    def __init__(self, api: ConfigMaps, namespace: str, sleepers: Callable[[], Sleepers]) -> None:
        self._api = api
        self._namespace = namespace
        self._sleepers = sleepers
        self._told: dict[str, State] = {}
        self._noted: set[str] = set()
        self._news = asyncio.Event()

    def note(self, agent: str) -> None:
        """Has the agent looked at."""
        self._noted.add(agent)
        self._news.set()

    async def run(self, board: Board) -> None:
        """Writes for ever."""
        while True:
            await self._news.wait()
            self._news.clear()
            noted, self._noted = sorted(self._noted), set()
            failed = await asyncio.gather(*(self._settle(agent, board) for agent in noted))
            if any(failed):
                await asyncio.sleep(RETRY_SECONDS)
                for agent, again in zip(noted, failed, strict=True):
                    if again:
                        self.note(agent)

    async def _settle(self, agent: str, board: Board) -> bool:
        """Returns whether it is to be tried again."""
        sleeper = self._sleepers().agents.get(agent)
        state = board.state(agent, sleeper) if sleeper else None
        if state is None:
            return False
        try:
            name = f"{agent}-hibernation"
            # Whoever edits a state by hand is not noticed; but a gateway that is needed and not there is.
            if agent not in self._told or (state == ACTIVE and board.asleep(agent)):
                self._told[agent] = _read(await self._api.get_config_map(self._namespace, name))
            if self._told[agent] != state:
                await self._api.merge_config_map(self._namespace, name, {"data": msgspec.to_builtins(state)})
                self._told[agent] = state
                _log.info("agent %s is %s", agent, state.state)
        except KubeError as error:
            self._told.pop(agent, None)
            _log.warning("the state of agent %s cannot be told: %s", agent, error)
            return error.status != _NOT_FOUND
        return False


def _read(config_map: dict[str, Any]) -> State:
    """What a ConfigMap holds; one without a state stands for an agent that is active."""
    data = config_map.get("data") or {}
    try:
        return msgspec.convert({"state": ACTIVE.state} | data, State)
    except msgspec.ValidationError:
        return State("unreadable")

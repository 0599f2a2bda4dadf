"""Finding out which tools MCP servers have: once per content or address, again when a server says they changed."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

from openclaw_runtime.errors import OpenClawError
from openclaw_runtime.sandbox.errors import CallTimeoutError, SandboxError, SkillCrashedError, SkillFailedError
from openclaw_runtime.sandbox.jsonrpc import Json, canonical_sha256
from openclaw_runtime.skills.mcp.tools import Listing, to_listing
from openclaw_runtime.skills.types import InstalledSkill

logger = logging.getLogger(__name__)

LIST_TOOLS: Final = "tools/list"
"""The action of a discovery; no action of a skill can have this name."""
_FIRST_PAUSE: Final = 1.0
_LONGEST_PAUSE: Final = 60.0
_LONGEST_PAUSE_OF_BROKEN: Final = 3600.0
"""After a failure of a program that we start: each try uses up a sandbox, and the same package rarely does better."""
_BROKEN: Final = (SkillFailedError, SkillCrashedError, CallTimeoutError)


class Discovery:
    """Knows the tools of the MCP servers among the skills, and asks those it does not know in the background."""

    def __init__(
        self,
        ask: Callable[[InstalledSkill], Awaitable[list[Json]]],
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._ask = ask
        self._sleep = sleep
        self._known: dict[str, Listing] = {}
        self._errors: dict[str, str] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._changed: Callable[[], None] = lambda: None

    def watch(self, changed: Callable[[], None]) -> None:
        """Has `changed` called whenever actions came to be known or differ."""
        self._changed = changed

    def with_actions(self, skill: InstalledSkill) -> InstalledSkill:
        """Returns the skill with the actions its server has, as far as they are known."""
        if skill.mcp is None:
            return skill
        key = key_of(skill)
        known = self._known.get(key, Listing())
        error = self._errors.get(key)
        problems = known.problems + ((error,) if error else ())
        return replace(skill, actions=known.actions, problems=problems)

    def update(self, skills: Iterable[InstalledSkill]) -> None:
        """Asks the servers that are new, and forgets those that are gone."""
        wanted = {key_of(skill): skill for skill in skills if skill.mcp is not None}
        for key in self._tasks.keys() - wanted.keys():
            self._tasks.pop(key).cancel()
        self._known = {key: value for key, value in self._known.items() if key in wanted}
        self._errors = {key: value for key, value in self._errors.items() if key in wanted}
        for key, skill in wanted.items():
            if key not in self._known and key not in self._tasks:
                self._start(key, skill)

    def refresh(self, skill: InstalledSkill) -> None:
        """Asks again; what was known holds until the answer."""
        key = key_of(skill)
        if key not in self._tasks:
            self._start(key, skill)

    async def close(self) -> None:
        """Ends all questions."""
        tasks = list(self._tasks.values())
        self._tasks.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def settled(self) -> None:
        """Returns when no question is open."""
        while self._tasks:
            await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def _start(self, key: str, skill: InstalledSkill) -> None:
        task = asyncio.create_task(self._find(key, skill), name=f"mcp-tools-{skill.name}")
        self._tasks[key] = task
        task.add_done_callback(lambda _: self._tasks.pop(key, None) if self._tasks.get(key) is task else None)

    async def _find(self, key: str, skill: InstalledSkill) -> None:
        assert skill.mcp is not None
        pause = _FIRST_PAUSE
        while True:
            try:
                listing = to_listing(skill.mcp, await self._ask(skill))
            except (SandboxError, OpenClawError) as error:
                told = f"the tools are not known yet: {error}"
                if self._errors.get(key) != told:
                    logger.warning("MCP skill %s: %s", skill.name, told)
                self._errors[key] = told
                await self._sleep(pause)
                broken = skill.mcp.url is None and isinstance(error, _BROKEN)
                pause = min(pause * 2, _LONGEST_PAUSE_OF_BROKEN if broken else _LONGEST_PAUSE)
                continue
            break
        self._errors.pop(key, None)
        for problem in listing.problems:
            logger.warning("MCP skill %s: %s", skill.name, problem)
        if self._known.get(key) != listing:
            self._known[key] = listing
            logger.info("MCP skill %s has the tools %s", skill.name, [action.name for action in listing.actions])
            self._changed()


def key_of(skill: InstalledSkill) -> str:
    """Returns what the tools depend on: the package and how the server is started, or the address."""
    assert skill.mcp is not None
    server = skill.mcp
    facts: Mapping[str, Any] = {
        "name": skill.name,
        "digest": skill.digest,
        "command": list(server.command),
        "env": dict(server.env),
        "url": server.url,
        "tools": list(server.tools) if server.tools is not None else None,
        "pool": skill.pool,
    }
    return canonical_sha256(facts)

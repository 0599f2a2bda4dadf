"""An executor that makes the calls of remote MCP servers itself and leaves all others to another one."""

import asyncio
from collections.abc import Callable
from typing import Any

from openclaw_runtime.skills.mcp.outward import Outward
from openclaw_runtime.skills.mcp.remote import call_remote
from openclaw_runtime.skills.types import (
    CallContext,
    InstalledSkill,
    QueueObserver,
    SkillCall,
    SkillExecutor,
    SkillResult,
)


class McpExecutor:
    """Implements `SkillExecutor`. `outward` judges where remote servers are; see `call_remote`."""

    def __init__(self, inner: SkillExecutor, outward: Outward | None = None) -> None:
        self._inner = inner
        self._outward = outward
        self.changed: Callable[[InstalledSkill], None] = lambda _: None
        """Called with the skill of a server that says that its tools are others now."""
        self._calls: set[asyncio.Task[SkillResult]] = set()

    async def start(self) -> None:
        """Starts the other one."""
        await self._inner.start()

    async def close(self) -> None:
        """Cancels remote calls in flight and closes the other one."""
        for task in self._calls:
            task.cancel()
        await asyncio.gather(*self._calls, return_exceptions=True)
        await self._inner.close()

    async def execute(self, call: SkillCall, context: CallContext) -> SkillResult:
        """Runs one call to its end. Raises `SandboxError`."""
        server = call.skill.mcp
        if server is None or server.url is None:
            return await self._inner.execute(call, context)
        # A task of its own: the SDK's cancel scopes belong to one, and end with it whatever happens to the caller.
        task = asyncio.ensure_future(
            call_remote(call, server, context, lambda: self.changed(call.skill), self._outward)
        )
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)
        try:
            return await task
        finally:
            task.cancel()

    def status(self) -> dict[str, Any]:
        """Returns the other one's status."""
        return self._inner.status()

    def observe(self, queue: QueueObserver) -> None:
        """Tells `queue` from now on how calls wait; remote servers have no queue."""
        self._inner.observe(queue)

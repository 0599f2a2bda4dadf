"""Running skill calls in processes of this machine."""

import asyncio
import base64
import logging
import random
import shutil
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

from openclaw_runtime.sandbox import bubblewrap, errors
from openclaw_runtime.sandbox.calling import CallRunner
from openclaw_runtime.sandbox.client import SandboxClient
from openclaw_runtime.sandbox.endpoint import SandboxQueue
from openclaw_runtime.sandbox.local import Host, Lane, LocalPool, start_runner
from openclaw_runtime.sandbox.signing import Signer
from openclaw_runtime.skills.types import (
    CallContext,
    Level,
    QueueObserver,
    SecurityLevel,
    SkillCall,
    SkillResult,
    stricter,
)

_log = logging.getLogger(__name__)


class SubprocessExecutor:
    """Runs calls in processes of this machine, each used once. Implements `SkillExecutor` and `Source`.

    Sandboxes are walled with bubblewrap where it works, unless `walled` is False. Those of Python skills without
    permissions are warmed from the start, others from their first call on. `warm` of a kind wait, and up to `max_warm`
    where so many calls came at once.
    """

    def __init__(
        self,
        *,
        workspace: Path | None = None,
        security: SecurityLevel = "strict",
        level: Level = "trusted",
        warm: int = 2,
        max_warm: int = 0,
        limit: int = 16,
        keep_leases: int = 4,
        walled: bool = True,
    ) -> None:
        signer = Signer.generate()
        self._level: Level = level
        self._key = base64.b64encode(signer.public_key).decode()
        self._queue = SandboxQueue(random.Random(), time.monotonic)  # noqa: S311 - spreads load, guards nothing
        # Sandboxes work elsewhere, and bubblewrap wants what it mounts named from the root.
        self._workspace = workspace.resolve() if workspace is not None else None
        self._warm = warm
        self._max_warm = max_warm
        self._limit = limit
        self._walled = walled
        self._host = Host()
        self._isolation = "starting"
        self._folder: Path | None = None
        self._pools: dict[str, LocalPool] = {}
        self._runner = CallRunner(self, self._queue, SandboxClient(signer), security, keep_leases)

    async def start(self) -> None:
        """Looks at what this machine has, and starts warming processes."""
        bwrap, self._isolation = await bubblewrap.find() if self._walled else (None, "not asked for")
        node = shutil.which("node")
        self._host = Host(bwrap, Path(node) if node else None)
        if bwrap is None:
            _log.info("skills run as confined processes that may read this user's files: %s", self._isolation)
        self._folder = Path(tempfile.mkdtemp(prefix="openclaw-sandbox-"))
        if self._warm:
            self._lane(Lane(files="none" if bwrap else "rw"))

    async def close(self) -> None:
        """Ends every process, calls in flight included."""
        await self._runner.close()
        folder, self._folder = self._folder, None
        pools, self._pools = self._pools, {}
        await asyncio.gather(*(pool.close() for pool in pools.values()))
        if folder is not None:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    def _lane(self, lane: Lane) -> str:
        """Returns the pool of a lane, made if it is the first time; it is filled either way."""
        pool = self._pools.get(lane.name)
        if pool is None and self._folder is not None:
            start = partial(start_runner, self._key, self._folder, self._workspace, lane, self._host)
            # A leased one waits for its session's next call itself.
            warm, most = (0, 0) if lane.leased else (self._warm, self._max_warm)
            pool = self._pools[lane.name] = LocalPool(
                self._queue, start, lane.name, warm=warm, max_warm=most, limit=self._limit
            )
        if pool is not None:
            # Whoever comes now may have to wait; a process for it should be on its way already.
            asyncio.get_running_loop().call_soon(pool.expect)
        return lane.name

    async def execute(self, call: SkillCall, context: CallContext) -> SkillResult:
        """Runs one call to its end. Raises `SandboxError`."""
        return await self._runner.execute(call, context)

    def status(self) -> dict[str, Any]:
        """Returns what is warm, starting, running, leased and waiting."""
        queued, leased = self._queue.status(), self._runner.leases.counts()
        pools = {
            pool.name: pool.status()
            | queued.get(pool.name, {"free": 0, "waiting": 0})
            | {"leased": leased.get(pool.name, 0)}
            for pool in self._pools.values()
        }
        return {
            "provider": "subprocess",
            "isolation": self._isolation,
            "running": self._runner.running,
            "pools": pools,
            "error": next((pool.last_error for pool in self._pools.values() if pool.last_error), None),
        }

    def pool_for(self, call: SkillCall) -> str:
        """Returns the lane of a call. Raises `SandboxUnavailableError` for what this machine cannot run."""
        skill = call.skill
        if skill.runtime == "image":
            raise errors.SandboxUnavailableError(
                f"skill {skill.name}: runtime image needs a cluster, there are no container images here; apply it with "
                "openclaw skill manifest, or use runtime python, node or bash"
            )
        if skill.runtime == "node" and self._host.node is None:
            raise errors.SandboxUnavailableError(
                f"skill {skill.name}: node is not on the PATH; install Node.js 20 or newer"
            )
        leased = stricter(self._level, skill.level) == "restricted"
        return self._lane(Lane.of(skill, walled=self._host.bwrap is not None, leased=leased))

    def taken(self, uid: str) -> None:
        """See `Source`."""
        for pool in self._pools.values():
            pool.taken(uid)

    def given_up(self, uid: str) -> None:
        """Ends the process: it is of no use to anybody else, and nothing else would end one that got no call."""
        for pool in self._pools.values():
            pool.end(uid)

    def lives(self, uid: str) -> bool:
        """See `Source`."""
        return any(pool.lives(uid) for pool in self._pools.values())

    async def fate(self, uid: str) -> str | None:  # noqa: ARG002 - of `Source`
        """See `Source`. A process of this machine leaves no word."""
        return None

    def may_grow(self, pool: str) -> bool:
        """See `Source`."""
        found = self._pools.get(pool)
        return found is not None and not found.full

    def explain(self, pool: str) -> str | None:
        """See `Source`."""
        found = self._pools.get(pool)
        return found.last_error if found else None

    def observe(self, queue: QueueObserver) -> None:
        """Tells `queue` from now on how calls wait."""
        self._queue.observer = queue

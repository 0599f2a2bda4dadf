"""Running skill calls in sandbox pods."""

import random
import time
from typing import Any

from openclaw_runtime.egress.client import EgressClient, ProxiedCalls
from openclaw_runtime.sandbox import errors
from openclaw_runtime.sandbox.calling import CallRunner
from openclaw_runtime.sandbox.client import Calls, SandboxClient
from openclaw_runtime.sandbox.endpoint import SandboxQueue
from openclaw_runtime.sandbox.kube import KubeApi
from openclaw_runtime.sandbox.pool import PodPool
from openclaw_runtime.sandbox.signing import Signs
from openclaw_runtime.skills.types import (
    CallContext,
    QueueObserver,
    SecurityLevel,
    SkillCall,
    SkillExecutor,
    SkillResult,
)


class PodExecutor:
    """Runs calls in sandbox pods. Implements `SkillExecutor` and `Source`.

    Skills of level `trusted` run in a local process instead; it is started when the first of them is called.
    """

    def __init__(
        self,
        api: KubeApi,
        namespace: str,
        signer: Signs,
        *,
        port: int,
        security: SecurityLevel = "strict",
        trusted: SkillExecutor | None = None,
        keep_leases: int = 4,
        egress: EgressClient | None = None,
    ) -> None:
        spread = random.Random()  # noqa: S311 - spreads load, guards nothing
        self._queue = SandboxQueue(spread, time.monotonic)
        self._pool = PodPool(api, namespace, self._queue, port, spread)
        calls: Calls = SandboxClient(signer)
        self._egress = egress
        if egress is not None:
            calls = ProxiedCalls(calls, egress)
        self._runner = CallRunner(self, self._queue, calls, security, keep_leases)
        self._trusted = trusted
        self._trusted_started = False

    async def start(self) -> None:
        """Starts watching pods; returns at once."""
        self._pool.start()

    async def close(self) -> None:
        """Gives leased pods back and ends the watch. The API client belongs to whoever made it."""
        await self._runner.close()
        await self._pool.close()
        if self._egress is not None:
            await self._egress.close()
        if self._trusted is not None and self._trusted_started:
            await self._trusted.close()

    async def execute(self, call: SkillCall, context: CallContext) -> SkillResult:
        """Runs one call to its end. Raises `SandboxError`."""
        if call.skill.level == "trusted" and self._trusted is not None:
            if not self._trusted_started:
                self._trusted_started = True
                await self._trusted.start()
            return await self._trusted.execute(call, context)
        return await self._runner.execute(call, context)

    def status(self) -> dict[str, Any]:
        """Returns per pool what is warm, used, leased and waiting."""
        waiting, leased = self._queue.status(), self._runner.leases.counts()
        pools = {pool: counts | {"waiting": 0, "leased": 0} for pool, counts in self._pool.status().items()}
        for pool, counts in waiting.items():
            none = {"pods": 0, "warm": 0, "used": 0, "leased": 0}
            pools.setdefault(pool, none)["waiting"] = counts["waiting"]
        for pool, count in leased.items():
            if pool in pools:
                pools[pool]["leased"] = count
        # Once the pods are known, calls go on without the API server: an outage there must not take all agents away.
        error = None if self._pool.synced.is_set() else self._pool.last_error
        return {"provider": "pods", "running": self._runner.running, "pools": pools, "error": error}

    def pool_for(self, call: SkillCall) -> str:
        """Returns the pool the operator gave the skill."""
        if not call.skill.pool:
            raise errors.SandboxUnavailableError(f"skill {call.skill.name} has no sandbox pool; is its Skill ready?")
        return call.skill.pool

    def taken(self, uid: str) -> None:
        """See `Source`."""
        self._pool.taken(uid)

    def given_up(self, uid: str) -> None:
        """See `Source`."""
        self._pool.suspect(uid)

    def lives(self, uid: str) -> bool:
        """See `Source`."""
        return self._pool.lives(uid)

    async def fate(self, uid: str) -> str | None:
        """See `Source`."""
        return await self._pool.fate(uid)

    def may_grow(self, pool: str) -> bool:
        """See `Source`. Pods that start are sure to come; whether more of them follow, nothing here knows."""
        return self._pool.starts(pool)

    def explain(self, pool: str) -> str | None:
        """See `Source`."""
        return self._pool.explain(pool)

    def observe(self, queue: QueueObserver) -> None:
        """Tells `queue` from now on how calls wait."""
        self._queue.observer = queue
        if self._trusted is not None:
            self._trusted.observe(queue)

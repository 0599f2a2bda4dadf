"""Making one skill call: a sandbox is found for it, tried, leased and given back. Every executor calls this way."""

import asyncio
import contextlib
import time
from dataclasses import replace
from typing import Final, Protocol

from openclaw_runtime.sandbox import errors
from openclaw_runtime.sandbox.client import CallOptions, Calls, UnreachableError
from openclaw_runtime.sandbox.endpoint import Endpoint, SandboxQueue
from openclaw_runtime.sandbox.leases import Lease, Leases
from openclaw_runtime.sandbox.protocol import Holder, Limits
from openclaw_runtime.skills.checks import context_methods
from openclaw_runtime.skills.types import CallContext, SecurityLevel, SkillCall, SkillResult

MAX_UNAUTHORIZED: Final = 3
"""While a signing key is rotated some pods know only the other key. More refusals than this are a real fault."""

PATIENCE_SECONDS: Final = 2.0
"""How long a call waits for a sandbox before an idle lease of another session is given up for it."""


class Source(Protocol):
    """Where sandboxes come from."""

    def pool_for(self, call: SkillCall) -> str:
        """Returns the pool a call belongs to. Raises `SandboxUnavailableError` if there is none."""
        ...

    def taken(self, uid: str) -> None:
        """A sandbox was handed out."""

    def given_up(self, uid: str) -> None:
        """A sandbox was handed out and its call failed: it could not be reached, or perhaps never got the call."""

    def lives(self, uid: str) -> bool:
        """Returns whether a sandbox that was handed out is still there."""
        ...

    async def fate(self, uid: str) -> str | None:
        """Returns why a sandbox that went away is over and what to do, as far as it becomes known within a moment."""
        ...

    def may_grow(self, pool: str) -> bool:
        """Returns whether another sandbox of the pool is sure to come without one of those in use ending."""
        ...

    def explain(self, pool: str) -> str | None:
        """Returns why the pool may have no free sandbox and what to do, as far as is known."""
        ...


class CallRunner:
    """Finds a sandbox for a call and makes it; the part both executors share.

    Of leased sandboxes, `keep_leases` per pool may wait for the next call of their session.
    """

    def __init__(
        self,
        source: Source,
        queue: SandboxQueue,
        client: Calls,
        security: SecurityLevel,
        keep_leases: int = 0,
    ) -> None:
        self._source = source
        self._queue = queue
        self._client = client
        self._security = security
        self._releasing: set[asyncio.Task[None]] = set()
        self.leases = Leases(keep_leases, time.monotonic)
        self.running = 0

    async def execute(self, call: SkillCall, context: CallContext) -> SkillResult:
        """Runs one call. See `SkillExecutor.execute`."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        deadline = started + call.deadline_seconds
        pool = self._source.pool_for(call)
        try:
            async with asyncio.timeout_at(deadline):
                package = await call.skill.load_package()
        except TimeoutError:
            raise errors.SandboxUnavailableError(
                f"the package of {call.skill.name} could not be loaded in time"
            ) from None
        refused = 0
        last: errors.SandboxError | None = None
        holder = Holder(call.agent, call.session, call.skill.name)
        while True:
            leased = self._leased(pool, holder)
            endpoint = leased or await self._acquire(pool, deadline, last)
            self.running += 1
            queued_ms = round((loop.time() - started) * 1000, 3)
            lease = Lease(pool, holder, endpoint)
            kept: list[float] = []
            try:
                limits = self._limits(call, deadline - loop.time())
                options = CallOptions(package, limits, self._methods(call), kept.append)
                result = await self._client.call(endpoint, call, options, context)
                return replace(result, timings={"queue_ms": queued_ms, **result.timings})
            except errors.SandboxBusyError as error:
                last = error
            except errors.UnauthorizedError as error:
                last = error
                # It is good for a call once this gateway has the key it believes in.
                self._source.given_up(endpoint.uid)
                # Leases are as old as the session: that they know only the other key says nothing of the pool.
                refused += leased is None
                if refused >= MAX_UNAUTHORIZED:
                    raise
            except UnreachableError as error:
                last = error
                self._source.given_up(endpoint.uid)
            except errors.SandboxLostError as error:
                self._source.given_up(endpoint.uid)
                fate = await self._source.fate(endpoint.uid)
                raise errors.SandboxLostError("; ".join(filter(None, (str(error), fate)))) from None
            except BaseException:
                if not kept:
                    self._source.given_up(endpoint.uid)
                raise
            finally:
                self.running -= 1
                if kept:
                    self._keep(lease, kept[0])

    def _leased(self, pool: str, holder: Holder) -> Endpoint | None:
        """Returns the sandbox that waits for this session's skill. One that is gone is forgotten."""
        while (lease := self.leases.take(pool, holder)) is not None:
            if self._source.lives(lease.endpoint.uid):
                return lease.endpoint
        return None

    def _keep(self, lease: Lease, idle_seconds: float) -> None:
        """Keeps a lease for the next call, and gives the oldest back where there are too many."""
        if (surplus := self.leases.put(lease, idle_seconds)) is not None:
            self._release(surplus)

    def _release(self, lease: Lease) -> None:
        task = asyncio.ensure_future(self._give_back(lease))
        self._releasing.add(task)
        task.add_done_callback(self._releasing.discard)

    async def _give_back(self, lease: Lease) -> None:
        # One that does not answer ends by itself.
        with contextlib.suppress(errors.SandboxError):
            await self._client.release(lease.endpoint, lease.holder)

    async def _press(self, pool: str) -> None:
        """While a call waits, gives back the lease that was idle for longest: its pod may be all the pool can have."""
        while True:
            await asyncio.sleep(PATIENCE_SECONDS)
            if not self._source.may_grow(pool) and (idle := self.leases.oldest(pool)) is not None:
                self._release(idle)

    async def close(self) -> None:
        """Gives every idle lease back."""
        for lease in self.leases.drain():
            self._release(lease)
        await asyncio.gather(*self._releasing)

    async def _acquire(self, pool: str, deadline: float, last: errors.SandboxError | None) -> Endpoint:
        endpoint = self._queue.take(pool) or await self._wait(pool, deadline, last)
        self._source.taken(endpoint.uid)
        return endpoint

    async def _wait(self, pool: str, deadline: float, last: errors.SandboxError | None) -> Endpoint:
        """Waits for a sandbox. Raises `SandboxUnavailableError` with all that is known of why there is none."""
        pressure = asyncio.ensure_future(self._press(pool))
        try:
            return await self._queue.acquire(pool, deadline)
        except errors.SandboxUnavailableError as error:
            reasons = [str(error), self._source.explain(pool), f"last try: {last}" if last else None]
            raise errors.SandboxUnavailableError("; ".join(filter(None, reasons))) from None
        finally:
            pressure.cancel()

    def _limits(self, call: SkillCall, remaining: float) -> Limits:
        action = call.skill.action(call.action)
        declared = action.timeout_seconds if action else Limits().timeout_seconds
        timeout = max(0.001, min(declared, remaining))
        return replace(Limits(), timeout_seconds=timeout, memory_bytes=call.skill.memory_bytes)

    def _methods(self, call: SkillCall) -> frozenset[str]:
        return context_methods(call.skill.permissions, self._security)

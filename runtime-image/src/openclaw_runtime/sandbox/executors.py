"""Running skill calls in sandboxes: one way to make a call, two kinds of sandbox (pods, local processes)."""

import asyncio
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Protocol

from openclaw_runtime.config import RuntimeConfig
from openclaw_runtime.errors import ConfigError, ConfigProblem
from openclaw_runtime.sandbox import errors
from openclaw_runtime.sandbox.client import CallOptions, SandboxClient, UnreachableError
from openclaw_runtime.sandbox.endpoint import Endpoint, SandboxQueue
from openclaw_runtime.sandbox.keyfile import KeyFile
from openclaw_runtime.sandbox.kube import KubeApi, KubeError
from openclaw_runtime.sandbox.local import POOL, LocalPool
from openclaw_runtime.sandbox.pool import PodPool
from openclaw_runtime.sandbox.protocol import Limits
from openclaw_runtime.sandbox.signing import Signer, SigningError, Signs
from openclaw_runtime.skills.checks import context_methods
from openclaw_runtime.skills.types import (
    CallContext,
    QueueObserver,
    SecurityLevel,
    SkillCall,
    SkillExecutor,
    SkillResult,
)

MAX_UNAUTHORIZED: Final = 3
"""While a signing key is rotated some pods know only the other key. More refusals than this are a real fault."""


class Source(Protocol):
    """Where sandboxes come from."""

    def pool_for(self, call: SkillCall) -> str:
        """Returns the pool a call belongs to. Raises `SandboxUnavailableError` if there is none."""
        ...

    def taken(self, uid: str) -> None:
        """A sandbox was handed out."""

    def given_up(self, uid: str) -> None:
        """A sandbox was handed out and its call failed: it could not be reached, or perhaps never got the call."""

    def explain(self, pool: str) -> str | None:
        """Returns why the pool may have no free sandbox and what to do, as far as is known."""
        ...


class CallRunner:
    """Finds a sandbox for a call and makes it; the part both executors share."""

    def __init__(self, source: Source, queue: SandboxQueue, client: SandboxClient, security: SecurityLevel) -> None:
        self._source = source
        self._queue = queue
        self._client = client
        self._security = security
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
        while True:
            endpoint = await self._acquire(pool, deadline, last)
            self.running += 1
            queued_ms = round((loop.time() - started) * 1000, 3)
            try:
                options = CallOptions(package, self._limits(call, deadline - loop.time()), self._methods(call))
                result = await self._client.call(endpoint, call, options, context)
                return replace(result, timings={"queue_ms": queued_ms, **result.timings})
            except errors.SandboxBusyError as error:
                last = error
            except errors.UnauthorizedError as error:
                last = error
                # It is good for a call once this gateway has the key it believes in.
                self._source.given_up(endpoint.uid)
                refused += 1
                if refused >= MAX_UNAUTHORIZED:
                    raise
            except UnreachableError as error:
                last = error
                self._source.given_up(endpoint.uid)
            except BaseException:
                self._source.given_up(endpoint.uid)
                raise
            finally:
                self.running -= 1

    async def _acquire(self, pool: str, deadline: float, last: errors.SandboxError | None) -> Endpoint:
        waiting = self._queue.acquire(pool, deadline)
        try:
            endpoint = await waiting
        except errors.SandboxUnavailableError as error:
            reasons = [str(error), self._source.explain(pool), f"last try: {last}" if last else None]
            raise errors.SandboxUnavailableError("; ".join(filter(None, reasons))) from None
        self._source.taken(endpoint.uid)
        return endpoint

    def _limits(self, call: SkillCall, remaining: float) -> Limits:
        action = call.skill.action(call.action)
        declared = action.timeout_seconds if action else Limits().timeout_seconds
        return replace(Limits(), timeout_seconds=max(0.001, min(declared, remaining)))

    def _methods(self, call: SkillCall) -> frozenset[str]:
        return context_methods(call.skill.permissions, self._security)


class SubprocessExecutor:
    """Runs calls in processes of this machine, each used once. Implements `SkillExecutor` and `Source`."""

    def __init__(
        self,
        *,
        workspace: Path | None = None,
        security: SecurityLevel = "strict",
        warm: int = 2,
        limit: int = 16,
    ) -> None:
        signer = Signer.generate()
        self._queue = SandboxQueue(random.Random(), time.monotonic)  # noqa: S311 - spreads load, guards nothing
        self._pool = LocalPool(self._queue, signer.public_key, workspace, warm=warm, limit=limit)
        self._runner = CallRunner(self, self._queue, SandboxClient(signer), security)

    async def start(self) -> None:
        """Starts warming processes; returns at once."""
        self._pool.start()

    async def close(self) -> None:
        """Ends every process, calls in flight included."""
        await self._pool.close()

    async def execute(self, call: SkillCall, context: CallContext) -> SkillResult:
        """Runs one call to its end. Raises `SandboxError`."""
        return await self._runner.execute(call, context)

    def status(self) -> dict[str, Any]:
        """Returns what is warm, starting, running and waiting."""
        return {
            "provider": "subprocess",
            "running": self._runner.running,
            "pools": {POOL: self._pool.status() | self._queue.status().get(POOL, {"free": 0, "waiting": 0})},
            "error": self._pool.last_error,
        }

    def pool_for(self, call: SkillCall) -> str:
        """Every call uses the one local pool."""
        del call
        # Whoever comes now may have to wait; a process for it should be on its way already.
        asyncio.get_running_loop().call_soon(self._pool.fill)
        return POOL

    def taken(self, uid: str) -> None:
        """See `Source`."""
        self._pool.taken(uid)

    def given_up(self, uid: str) -> None:
        """Ends the process: it is of no use to anybody else, and nothing else would end one that got no call."""
        self._pool.end(uid)

    def explain(self, pool: str) -> str | None:
        """See `Source`."""
        del pool
        return self._pool.last_error

    def observe(self, queue: QueueObserver) -> None:
        """Tells `queue` from now on how calls wait."""
        self._queue.observer = queue


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
    ) -> None:
        spread = random.Random()  # noqa: S311 - spreads load, guards nothing
        self._queue = SandboxQueue(spread, time.monotonic)
        self._pool = PodPool(api, namespace, self._queue, port, spread)
        self._runner = CallRunner(self, self._queue, SandboxClient(signer), security)
        self._trusted = trusted
        self._trusted_started = False

    async def start(self) -> None:
        """Starts watching pods; returns at once."""
        self._pool.start()

    async def close(self) -> None:
        """Ends the watch. The API client belongs to whoever made it."""
        await self._pool.close()
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
        """Returns per pool what is warm, used and waiting."""
        waiting = self._queue.status()
        pools = {pool: counts | {"waiting": 0} for pool, counts in self._pool.status().items()}
        for pool, counts in waiting.items():
            pools.setdefault(pool, {"pods": 0, "warm": 0, "used": 0})["waiting"] = counts["waiting"]
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

    def explain(self, pool: str) -> str | None:
        """See `Source`."""
        return self._pool.explain(pool)

    def observe(self, queue: QueueObserver) -> None:
        """Tells `queue` from now on how calls wait."""
        self._queue.observer = queue
        if self._trusted is not None:
            self._trusted.observe(queue)


def create_executor(
    config: RuntimeConfig,
    environ: Mapping[str, str],
    *,
    workspace: Path | None = None,
    api: Callable[[], KubeApi] | None = None,
) -> SkillExecutor:
    """Returns the executor that `execution.sandbox` asks for. Raises `ConfigError`.

    `workspace` is where skills with a filesystem permission work when they run on this machine. `api` makes the
    Kubernetes client; the default is the cluster this process runs in.
    """
    sandbox = config.execution.sandbox
    security = config.skills.security_level
    local = SubprocessExecutor(workspace=workspace, security=security, limit=4 * config.execution.max_concurrent)
    if sandbox.provider == "subprocess":
        return local
    assert sandbox.signing_key_file is not None
    try:
        signer = KeyFile(sandbox.signing_key_file)
    except (OSError, SigningError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        problem = ConfigProblem("execution.sandbox.signing_key_file", f"{sandbox.signing_key_file}: {reason}")
        raise ConfigError("sandbox", [problem]) from None
    try:
        client = api() if api else KubeApi.in_cluster(dict(environ))
    except KubeError as error:
        raise ConfigError("sandbox", [ConfigProblem("execution.sandbox.provider", str(error))]) from None
    return PodExecutor(client, config.claw.namespace, signer, port=sandbox.port, security=security, trusted=local)

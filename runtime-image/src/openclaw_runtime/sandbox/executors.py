"""Running skill calls in sandboxes: one way to make a call, two kinds of sandbox (pods, local processes)."""

import asyncio
import base64
import contextlib
import logging
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol

from openclaw_runtime.config import RuntimeConfig
from openclaw_runtime.egress.client import EgressClient, ProxiedCalls
from openclaw_runtime.errors import ConfigError, ConfigProblem
from openclaw_runtime.sandbox import bubblewrap, errors
from openclaw_runtime.sandbox.client import CallOptions, Calls, SandboxClient, UnreachableError
from openclaw_runtime.sandbox.endpoint import Endpoint, SandboxQueue
from openclaw_runtime.sandbox.keyfile import KeyFile
from openclaw_runtime.sandbox.kube import KubeApi, KubeError
from openclaw_runtime.sandbox.leases import Lease, Leases
from openclaw_runtime.sandbox.local import Host, Lane, LocalPool, start_runner
from openclaw_runtime.sandbox.pool import PodPool
from openclaw_runtime.sandbox.protocol import Holder, Limits
from openclaw_runtime.sandbox.signing import Signer, SigningError, Signs
from openclaw_runtime.skills.checks import context_methods
from openclaw_runtime.skills.types import (
    CallContext,
    Level,
    QueueObserver,
    SecurityLevel,
    SkillCall,
    SkillExecutor,
    SkillResult,
    stricter,
)

MAX_UNAUTHORIZED: Final = 3
"""While a signing key is rotated some pods know only the other key. More refusals than this are a real fault."""


PATIENCE_SECONDS: Final = 2.0
"""How long a call waits for a sandbox before an idle lease of another session is given up for it."""

_log = logging.getLogger(__name__)


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
        pressure = asyncio.ensure_future(self._press(pool))
        try:
            endpoint = await self._queue.acquire(pool, deadline)
        except errors.SandboxUnavailableError as error:
            reasons = [str(error), self._source.explain(pool), f"last try: {last}" if last else None]
            raise errors.SandboxUnavailableError("; ".join(filter(None, reasons))) from None
        finally:
            pressure.cancel()
        self._source.taken(endpoint.uid)
        return endpoint

    def _limits(self, call: SkillCall, remaining: float) -> Limits:
        action = call.skill.action(call.action)
        declared = action.timeout_seconds if action else Limits().timeout_seconds
        return replace(Limits(), timeout_seconds=max(0.001, min(declared, remaining)))

    def _methods(self, call: SkillCall) -> frozenset[str]:
        return context_methods(call.skill.permissions, self._security)


class SubprocessExecutor:
    """Runs calls in processes of this machine, each used once. Implements `SkillExecutor` and `Source`.

    Sandboxes are walled with bubblewrap where it works, unless `walled` is False. Those of Python skills without
    permissions are warmed from the start, others from their first call on.
    """

    def __init__(
        self,
        *,
        workspace: Path | None = None,
        security: SecurityLevel = "strict",
        level: Level = "trusted",
        warm: int = 2,
        limit: int = 16,
        keep_leases: int = 4,
        walled: bool = True,
    ) -> None:
        signer = Signer.generate()
        self._level: Level = level
        self._key = base64.b64encode(signer.public_key).decode()
        self._queue = SandboxQueue(random.Random(), time.monotonic)  # noqa: S311 - spreads load, guards nothing
        self._workspace = workspace
        self._warm = warm
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
            pool = self._pools[lane.name] = LocalPool(
                self._queue, start, lane.name, warm=0 if lane.leased else self._warm, limit=self._limit
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
    concurrent = config.execution.max_concurrent
    # In a cluster the operator has decided: what the configuration calls trusted runs here, everything else does not.
    level: Level = "trusted" if sandbox.provider == "pods" else sandbox.level
    local = SubprocessExecutor(
        workspace=workspace, security=security, level=level, limit=4 * concurrent, keep_leases=concurrent
    )
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
    proxy = sandbox.egress
    return PodExecutor(
        client,
        config.claw.namespace,
        signer,
        port=sandbox.port,
        security=security,
        trusted=local,
        keep_leases=concurrent,
        egress=EgressClient(signer, proxy.host, proxy.port, proxy.api_port) if proxy else None,
    )

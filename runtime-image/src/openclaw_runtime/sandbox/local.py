"""Sandboxes as processes of this machine: the same runner as in a pod, each listening on a private Unix socket.

Sandboxes that are set up alike are a lane, as pods that look alike are a pool.
"""

import asyncio
import contextlib
import logging
import shutil
import socket
import sys
import time
import uuid
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from openclaw_runtime.sandbox import bubblewrap
from openclaw_runtime.sandbox.demand import KEEP_SECONDS, Peak
from openclaw_runtime.sandbox.endpoint import Endpoint, SandboxQueue
from openclaw_runtime.skills.types import InstalledSkill

_START_SECONDS: Final = 20.0
_STOP_SECONDS: Final = 5.0
_RETRY_SECONDS: Final = 1.0
_REFILL_SECONDS: Final = 0.1

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Lane:
    """How a local sandbox is set up before it knows its call.

    `execute` and `network` matter where the program of a runtime is started before its call, and `network` and `files`
    where bubblewrap decides what there is; elsewhere the call itself says what holds.
    """

    runtime: Literal["python", "node"] = "python"
    execute: bool = False
    network: bool = False
    files: Literal["none", "ro", "rw"] = "rw"
    leased: bool = False

    @classmethod
    def of(cls, skill: InstalledSkill, *, walled: bool, leased: bool) -> "Lane":
        """Returns the lane of a skill; `walled` is with bubblewrap, `leased` one session's alone."""
        node = skill.runtime == "node"
        network = any(permission.startswith("network:") for permission in skill.permissions)
        files: Literal["none", "ro", "rw"] = "rw"
        if walled:
            files = "ro" if "filesystem:read" in skill.permissions else "none"
            if "filesystem:write" in skill.permissions:
                files = "rw"
        return cls(
            runtime="node" if node else "python",
            execute=node and "process:execute" in skill.permissions,
            network=network and (node or walled),
            files=files,
            leased=leased,
        )

    @property
    def name(self) -> str:
        """The name of its pool, for people."""
        parts = {
            "node": self.runtime == "node",
            "execute": self.execute,
            "network": self.network,
            f"files-{self.files}": self.files != "rw",
            "restricted": self.leased,
        }
        return "-".join(["local", *(part for part, holds in parts.items() if holds)])


@dataclass(frozen=True, slots=True)
class Host:
    """What this machine has for local sandboxes: bubblewrap and Node.js, each None without."""

    bwrap: bubblewrap.Bubblewrap | None = None
    node: Path | None = None


@dataclass(frozen=True, slots=True)
class LocalRunner:
    """A running sandbox process. Closing its lifeline ends it."""

    endpoint: Endpoint
    process: Process
    lifeline: socket.socket


class StartError(Exception):
    """A runner did not become ready. `str()` says why; what it wrote is on this process's stderr."""


async def start_runner(
    public_keys: str,
    folder: Path,
    workspace: Path | None,
    lane: Lane = Lane(),
    host: Host = Host(),
    **settings: str,
) -> LocalRunner:
    """Starts one runner and waits until it is ready. Raises `StartError`.

    `public_keys` are base64 and comma separated, as in the pod's environment; `settings` are more of its environment.
    `folder` is a private folder; the runner's own, for its socket and scratch files, is made in it. With bubblewrap
    these files are memory that only the runner sees, so that the socket is opened here. The environment is built from
    nothing, so no key of this process is handed down.
    """
    if lane.runtime == "node" and host.node is None:
        raise StartError("node: not on the PATH; install Node.js 20 or newer to run skills of runtime node")
    uid = uuid.uuid4().hex
    own = folder / uid[:12]
    own.mkdir()
    path = own / "sock"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    ours, theirs = socket.socketpair()
    environment = {
        "OPENCLAW_SANDBOX_PUBLIC_KEYS": public_keys,
        "OPENCLAW_SANDBOX_SOCKET_FD": str(listener.fileno()),
        "OPENCLAW_SANDBOX_SCRATCH": str(own),
        "OPENCLAW_SANDBOX_WORKSPACE": str(workspace or folder / "no-workspace"),
        "OPENCLAW_SANDBOX_LIFELINE_FD": str(theirs.fileno()),
        "OPENCLAW_SANDBOX_LOG_LEVEL": "warning",
        "OPENCLAW_SANDBOX_LEVEL": "restricted" if lane.leased else "isolated",
        "POD_NAME": f"local-{uid[:8]}",
        "POD_UID": uid,
        "LANG": "C.UTF-8",
        **settings,
    }
    if lane.runtime == "node":
        environment |= {
            "OPENCLAW_SANDBOX_RUNTIME": "node",
            "OPENCLAW_SANDBOX_NODE": str(host.node),
            "OPENCLAW_SANDBOX_ALLOWANCES": ",".join(_allowances(lane)),
        }
    with listener, theirs:
        process = await asyncio.create_subprocess_exec(
            *(_wall(lane, host, path, workspace) if host.bwrap else ()),
            sys.executable,
            "-I",
            "-m",
            "openclaw_runtime.sandbox.runner",
            stdin=DEVNULL,
            stdout=DEVNULL,
            env=environment,
            cwd="/",
            pass_fds=[listener.fileno(), theirs.fileno()],
            start_new_session=True,
        )
    runner = LocalRunner(Endpoint(environment["POD_NAME"], uid, path), process, ours)
    ours.setblocking(False)
    try:
        async with asyncio.timeout(_START_SECONDS):
            ready = await asyncio.get_running_loop().sock_recv(ours, 1)
    except TimeoutError:
        await stop_runner(runner)
        raise StartError(f"a sandbox process was not ready within {_START_SECONDS:g} s") from None
    except asyncio.CancelledError:
        await asyncio.shield(stop_runner(runner))
        raise
    if not ready:
        code = await process.wait()
        ours.close()
        raise StartError(f"a sandbox process ended with code {code} before it was ready")
    return runner


def _allowances(lane: Lane) -> list[str]:
    wanted = {"process:execute": lane.execute, "network:external": lane.network}
    return [name for name, given in wanted.items() if given]


def _wall(lane: Lane, host: Host, listener: Path, workspace: Path | None) -> list[str]:
    """Returns the command line of bubblewrap; the folder of `listener` is the runner's own."""
    assert host.bwrap is not None
    readable = bubblewrap.interpreter_folders()
    if lane.runtime == "node" and host.node is not None:
        readable.append(host.node.resolve())
    return bubblewrap.arguments(
        host.bwrap,
        readable=readable,
        scratch=listener.parent,
        listener=listener,
        workspace=workspace,
        files=lane.files,
        network=lane.network,
    )


async def stop_runner(runner: LocalRunner) -> None:
    """Ends a runner, its call included, and waits for it."""
    runner.lifeline.close()
    try:
        async with asyncio.timeout(_STOP_SECONDS):
            await runner.process.wait()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            runner.process.kill()
        await runner.process.wait()


class LocalPool:
    """Keeps `warm` runners of a lane ready and at most `limit` alive. Used ones exit by themselves and are replaced.

    As many are kept ready as there were calls at once in the last minutes, up to `max_warm`.
    """

    def __init__(
        self,
        queue: SandboxQueue,
        start: Callable[[], Awaitable[LocalRunner]],
        name: str,
        *,
        warm: int,
        max_warm: int,
        limit: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._queue = queue
        self._start = start
        self.name = name
        self._warm = warm
        self._max_warm = max(warm, max_warm)
        self._limit = limit
        self._peak = Peak(clock)
        self._later: asyncio.TimerHandle | None = None
        self._closed = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._free: set[str] = set()
        self._alive: dict[str, LocalRunner] = {}
        self._starting = 0
        self.last_error: str | None = None

    def fill(self) -> None:
        """Starts the runners that are missing, and ends those that are too many since fewer calls came of late."""
        target = self._target()
        self._start_missing(target)
        for uid in list(self._free):
            # One that the queue does not have was just handed to a call.
            if len(self._free) > target and self._queue.withdraw(self.name, uid):
                self._free.discard(uid)
                self.end(uid)
        if target > self._warm and self._later is None and not self._closed:
            self._later = asyncio.get_running_loop().call_later(KEEP_SECONDS, self._look_again)

    def _look_again(self) -> None:
        self._later = None
        self.fill()

    def _target(self) -> int:
        """Returns how many runners are to be ready."""
        return max(self._warm, min(self._peak.value(), self._max_warm))

    def _waiting(self) -> int:
        return self._queue.status().get(self.name, {}).get("waiting", 0)

    def _start_missing(self, ready: int) -> None:
        """Starts one runner for each call that waits; where none does, as many as are missing to `ready`.

        What is only for later would take the CPU from those that are waited for.
        """
        if self._closed:
            return
        missing = (self._waiting() or ready - len(self._free)) - self._starting
        for _ in range(min(missing, self._limit - len(self._tasks))):
            self._starting += 1
            task = asyncio.ensure_future(self._live())
            self._tasks.add(task)
            task.add_done_callback(self._ended)

    def expect(self) -> None:
        """Starts a runner for a call that has come, unless one is free."""
        if not self._free:
            self.fill()

    def taken(self, uid: str) -> None:
        """Notes that a runner was handed to a call, and starts another one: at once if it was the last.

        All others wait for a moment, since a start costs as much CPU as many calls, and most calls are short.
        """
        if uid not in self._alive:
            return  # of another lane
        self._free.discard(uid)
        self._peak.note(len(self._alive) - len(self._free) + self._waiting())
        if not self._free:
            self._start_missing(min(1, self._warm))
        asyncio.get_running_loop().call_later(_REFILL_SECONDS, self.fill)

    def end(self, uid: str) -> None:
        """Ends a runner that was taken; one whose call is over ends by itself and is fine."""
        if (runner := self._alive.get(uid)) is not None:
            runner.lifeline.close()

    def lives(self, uid: str) -> bool:
        """Returns whether a runner has not ended yet."""
        return uid in self._alive

    @property
    def full(self) -> bool:
        """Whether no other runner may be started."""
        return len(self._tasks) >= self._limit

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        self.fill()

    async def _live(self) -> None:
        """The life of one runner, from its start to its exit."""
        try:
            runner = await self._start()
        except (StartError, OSError) as error:
            self.last_error = str(error)
            _log.error("cannot start a sandbox: %s", error)
            await asyncio.sleep(_RETRY_SECONDS)
            return
        finally:
            self._starting -= 1
        self.last_error = None
        uid = runner.endpoint.uid
        try:
            self._free.add(uid)
            self._alive[uid] = runner
            self._queue.offer(self.name, runner.endpoint)
            await runner.process.wait()
        finally:
            self._free.discard(uid)
            del self._alive[uid]
            self._queue.withdraw(self.name, uid)
            await stop_runner(runner)
            runner.lifeline.close()
            assert isinstance(runner.endpoint.address, Path)
            await asyncio.to_thread(shutil.rmtree, runner.endpoint.address.parent, ignore_errors=True)

    async def close(self) -> None:
        """Ends every runner."""
        self._closed = True
        if self._later is not None:
            self._later.cancel()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def status(self) -> dict[str, int]:
        """Returns how many runners are warm, starting and alive."""
        return {"warm": len(self._free), "starting": self._starting, "alive": len(self._tasks) - self._starting}

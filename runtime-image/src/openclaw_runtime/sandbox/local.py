"""Sandboxes as processes of this machine: the same runner as in a pod, each listening on a private Unix socket."""

import asyncio
import base64
import contextlib
import logging
import shutil
import socket
import sys
import tempfile
import uuid
from asyncio.subprocess import DEVNULL, Process
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from openclaw_runtime.sandbox.endpoint import Endpoint, SandboxQueue

POOL: Final = "local"
LEASED_POOL: Final = "local-restricted"
_START_SECONDS: Final = 20.0
_STOP_SECONDS: Final = 5.0
_RETRY_SECONDS: Final = 1.0
_REFILL_SECONDS: Final = 0.1

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LocalRunner:
    """A running sandbox process. Closing its lifeline ends it."""

    endpoint: Endpoint
    process: Process
    lifeline: socket.socket


class StartError(Exception):
    """A runner did not become ready. `str()` says why; what it wrote is on this process's stderr."""


async def start_runner(
    public_keys: str, folder: Path, workspace: Path | None, *, leased: bool = False, **settings: str
) -> LocalRunner:
    """Starts one runner and waits until it is ready. Raises `StartError`.

    `public_keys` are base64 and comma separated, as in the pod's environment. A `leased` one serves all calls of one
    session's skill; `settings` are more of its environment. `folder` is a private folder for its socket and scratch
    files. The environment is built from nothing, so no key of this process is handed down.
    """
    uid = uuid.uuid4().hex
    path = folder / f"{uid}.sock"
    ours, theirs = socket.socketpair()
    environment = {
        "OPENCLAW_SANDBOX_PUBLIC_KEYS": public_keys,
        "OPENCLAW_SANDBOX_SOCKET": str(path),
        "OPENCLAW_SANDBOX_SCRATCH": str(folder),
        "OPENCLAW_SANDBOX_WORKSPACE": str(workspace or folder / "no-workspace"),
        "OPENCLAW_SANDBOX_LIFELINE_FD": str(theirs.fileno()),
        "OPENCLAW_SANDBOX_LOG_LEVEL": "warning",
        "OPENCLAW_SANDBOX_LEVEL": "restricted" if leased else "isolated",
        "POD_NAME": f"local-{uid[:8]}",
        "POD_UID": uid,
        "LANG": "C.UTF-8",
        **settings,
    }
    with theirs:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-I",
            "-m",
            "openclaw_runtime.sandbox.runner",
            stdin=DEVNULL,
            stdout=DEVNULL,
            env=environment,
            cwd="/",
            pass_fds=[theirs.fileno()],
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
    """Keeps `warm` runners ready and at most `limit` alive. Used ones exit by themselves and are replaced."""

    def __init__(
        self,
        queue: SandboxQueue,
        public_key: bytes,
        workspace: Path | None,
        *,
        warm: int,
        limit: int,
        leased: bool = False,
    ) -> None:
        self.name = LEASED_POOL if leased else POOL
        self._leased = leased
        self._queue = queue
        self._public_key = public_key
        self._workspace = workspace
        self._warm = warm
        self._limit = limit
        self._folder: Path | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._free: set[str] = set()
        self._alive: dict[str, LocalRunner] = {}
        self._starting = 0
        self.last_error: str | None = None

    def start(self) -> None:
        """Starts warming."""
        self._folder = Path(tempfile.mkdtemp(prefix="openclaw-sandbox-"))
        self.fill()

    def fill(self) -> None:
        """Starts as many runners as are missing: the warm ones, and one for each call that waits."""
        if self._folder is None:
            return
        waiting = self._queue.status().get(self.name, {}).get("waiting", 0)
        missing = self._warm + waiting - len(self._free) - self._starting
        for _ in range(min(missing, self._limit - len(self._tasks))):
            self._starting += 1
            task = asyncio.ensure_future(self._live(self._folder))
            self._tasks.add(task)
            task.add_done_callback(self._ended)

    def expect(self) -> None:
        """Starts a runner for a call that has come, unless one is free."""
        if not self._free:
            self.fill()

    def taken(self, uid: str) -> None:
        """Notes that a runner was handed to a call, and starts another one: at once if it was the last.

        Else that waits for a moment, since a start costs as much CPU as many calls, and most calls are short.
        """
        self._free.discard(uid)
        if self._free:
            asyncio.get_running_loop().call_later(_REFILL_SECONDS, self.fill)
        else:
            self.fill()

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

    async def _live(self, folder: Path) -> None:
        """The life of one runner, from its start to its exit."""
        try:
            keys = base64.b64encode(self._public_key).decode()
            runner = await start_runner(keys, folder, self._workspace, leased=self._leased)
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
            runner.endpoint.address.unlink(missing_ok=True)

    async def close(self) -> None:
        """Ends every runner and removes the folder."""
        folder, self._folder = self._folder, None
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if folder is not None:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    def status(self) -> dict[str, int]:
        """Returns how many runners are warm, starting and alive."""
        return {"warm": len(self._free), "starting": self._starting, "alive": len(self._tasks) - self._starting}

"""Runtime node: a Node.js process that is started before the call, confined from its first instruction on.

A filter cannot be put over another process, so the process is started with the one it will need. Which one that is
depends on two permissions; a sandbox knows those its calls have (`Languages.allowances`), and where a call differs,
the process is replaced by one with the right filter. Nothing of the call is given to it before that is settled.

The call itself is between Node.js and the runner: this process hands over its channel and waits for the end.
"""

import asyncio
import fcntl
import json
import os
import shutil
import signal
import socket
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, NoReturn

import openclaw_skill
from openclaw_runtime.sandbox.attachments import MAX_ATTACHMENT_BYTES
from openclaw_runtime.sandbox.protocol import CallPayload, Limits
from openclaw_runtime.sandbox.runner import linux, seccomp
from openclaw_runtime.sandbox.runner.languages import LanguageError
from openclaw_runtime.sandbox.runner.languages.programs import Places, ProgramError
from openclaw_runtime.sandbox.runner.network import proxy_environment

WORKER: Final = Path(__file__).with_name("node_worker.mjs")
MODULE: Final = Path(openclaw_skill.__file__).with_name("node")
"""What `import "openclaw-skill"` finds."""

CHANNEL_FD: Final = 3
CONTROL_FD: Final = 4
_HIGH_FD: Final = 100
_START_SECONDS: Final = 15.0
_HEAP_SHARE: Final = 0.75
_OUTSIDE_HEAP: Final = 2 * 1024 * 1024 * 1024
"""What V8 counts as data without using it: half a GiB of address space for code, for each worker thread once more."""
_CGROUP_LIMITS: Final = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


@dataclass(frozen=True, slots=True)
class Allowance:
    """The part of a call's permissions that its filter depends on."""

    execute: bool
    network: bool

    @classmethod
    def of(cls, permissions: Collection[str]) -> "Allowance":
        """Returns the part of some permissions."""
        network = any(permission.startswith("network:") for permission in permissions)
        return cls("process:execute" in permissions, network)


class Node:
    """One Node.js process for one call, warm if it was started with the right permissions.

    `policy` is what holds beside these two, `memory_bytes` what its calls are expected to have.
    """

    def __init__(
        self,
        program: Path | None,
        channel: socket.socket,
        environment: Mapping[str, str],
        policy: seccomp.Policy,
        memory_bytes: int,
    ) -> None:
        self._program = program or shutil.which("node", path=environment.get("PATH"))
        self._channel = channel
        self._environment = environment
        self._policy = policy
        self._memory_bytes = memory_bytes
        self._allowance: Allowance | None = None
        self._process = 0
        self._control: socket.socket

    async def start(self, allowance: Allowance) -> None:
        """Starts the process and waits until it is warm. Raises `LanguageError`."""
        if self._program is None:
            raise LanguageError("node: not found; use an image with Node.js 20 or newer")
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = os.fork()
            if self._process == 0:
                policy = replace(self._policy, execute=allowance.execute, network=allowance.network)
                _become(str(self._program), self._channel, theirs, self._environment, policy, self._memory_bytes)
        self._control, self._allowance = ours, allowance
        ours.setblocking(False)
        try:
            async with asyncio.timeout(_START_SECONDS):
                said = await asyncio.get_running_loop().sock_recv(ours, 1)
        except TimeoutError:
            said = b""
        if not said:
            self.stop()
            raise LanguageError(f"{self._program}: did not start; Node.js 20 or newer is needed")

    async def prepare(self, allowance: Allowance) -> None:
        """Sees to it that the process has the filter a call needs. Raises `LanguageError`."""
        if self._allowance != allowance:
            self.stop()
            await self.start(allowance)

    def stop(self) -> None:
        """Ends the process, if there is one."""
        if self._process:
            os.kill(self._process, signal.SIGKILL)
            os.waitpid(self._process, 0)
            self._control.close()
            self._process, self._allowance = 0, None

    def limit(self, memory_bytes: int, cpu_seconds: int) -> None:
        """Sets the limits of a call; to be done before this process is confined and loses the right to."""
        linux.limit_process(self._process, memory_bytes=memory_bytes + _OUTSIDE_HEAP, cpu_seconds=cpu_seconds)

    async def run(self, payload: CallPayload, places: Places) -> NoReturn:
        """Hands the call and the channel over and waits for the end, which is the runner's to bring.

        Raises `ProgramError` if the process ends first.
        """
        modules = places.scratch.parent / "node_modules"
        modules.mkdir()
        (modules / "openclaw-skill").symlink_to(MODULE)
        job = {
            "payload": payload.encode(),
            "package": str(places.package),
            "scratch": str(places.scratch),
            "workspace": str(places.workspace) if places.workspace else None,
            "environment": proxy_environment(payload),
            "maxAttachmentBytes": MAX_ATTACHMENT_BYTES,
        }
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._channel)
        await loop.sock_sendall(self._control, json.dumps(job).encode() + b"\n")
        try:
            while await loop.sock_recv(self._control, 64):
                pass
        except asyncio.CancelledError:
            # It got the signal as well and has its moment to clean up; the runner ends both.
            while await loop.sock_recv(self._control, 64):
                pass
            raise
        finally:
            # Node.js made it non-blocking; the failure is written by us.
            self._channel.setblocking(True)
        _, status = os.waitpid(self._process, 0)  # noqa: ASYNC222 - it is over: its end of the control is closed
        raise ProgramError(_death(os.waitstatus_to_exitcode(status), payload.limits))


def heap_megabytes(memory_bytes: int) -> int:
    """Returns the size of the heap that fits into the memory of a call and of this cgroup."""
    limits = [memory_bytes]
    for path in _CGROUP_LIMITS:
        try:
            text = Path(path).read_text(encoding="ascii").strip()
        except OSError:
            continue
        if text.isdigit():
            limits.append(int(text))
    return max(64, int(min(limits) * _HEAP_SHARE) >> 20)


def _become(
    program: str,
    channel: socket.socket,
    control: socket.socket,
    environment: Mapping[str, str],
    policy: seccomp.Policy,
    memory_bytes: int,
) -> NoReturn:
    """The life of the forked process until it is Node.js."""
    try:
        linux.die_with_parent()
        linux.limit_files()
        for source, target in ((channel, CHANNEL_FD), (control, CONTROL_FD)):
            # Aside first: one of the two may be where the other one belongs.
            os.dup2(fcntl.fcntl(source, fcntl.F_DUPFD, _HIGH_FD + target), _HIGH_FD * 2 + target)
        for target in (CHANNEL_FD, CONTROL_FD):
            os.dup2(_HIGH_FD * 2 + target, target, inheritable=True)
        linux.close_descriptors_except([CHANNEL_FD, CONTROL_FD])
        argv = [program, f"--max-old-space-size={heap_megabytes(memory_bytes)}", str(WORKER)]
        seccomp.exec_once(program, argv, environment, replace(policy, own=os.getpid()))
    except BaseException as error:  # noqa: BLE001 - this is the end of the process, whatever it was
        os.write(2, f"node: {error}\n".encode())
        os._exit(70)


def _death(code: int, limits: Limits) -> str:
    if code >= 0:
        return f"Node.js ended with exit code {code} before the action did"
    name = signal.Signals(-code).name
    if -code in (signal.SIGABRT, signal.SIGTRAP, signal.SIGILL, signal.SIGKILL):
        return f"Node.js was killed by {name}, perhaps for lack of memory: {limits.memory_hint}"
    return f"Node.js was killed by {name}"

"""Processes: start with a log file, know again by pid and start time, end."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from fcntl import LOCK_EX, flock
from pathlib import Path

from tests.cluster.errors import CommandError, ComponentError

POLL_SECONDS = 0.05
# Below what Kubernetes gives to NodePorts.
_PORTS = (10_000, 30_000)


@dataclass(frozen=True)
class ProcessId:
    """A pid alone may belong to a stranger after a while; with its start time (clock ticks since boot) it cannot."""

    pid: int
    start_time: int


def parse_start_time(stat: str) -> int:
    """Field 22 of /proc/PID/stat; the name in field 2 may itself hold spaces and brackets."""
    return int(stat.rpartition(")")[2].split()[19])


def is_zombie(stat: str) -> bool:
    return stat.rpartition(")")[2].split()[0] in {"Z", "X"}


def identify(pid: int) -> ProcessId | None:
    """The identity of a live process, or None."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if is_zombie(stat) else ProcessId(pid, parse_start_time(stat))


def alive(process: ProcessId) -> bool:
    return identify(process.pid) == process


def end(process: ProcessId, *, grace_seconds: float) -> None:
    """SIGTERM, then SIGKILL after the grace; returns when the process is gone."""
    for sign, wait in ((signal.SIGTERM, grace_seconds), (signal.SIGKILL, 10.0)):
        if not alive(process):
            return
        if wait == 0:
            continue
        try:
            os.kill(process.pid, sign)
        except ProcessLookupError:
            return
        if poll(lambda: not alive(process), seconds=wait):
            return


def poll(condition: Callable[[], bool], *, seconds: float, interval: float = POLL_SECONDS) -> bool:
    """True as soon as the condition holds, False when the time is over."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(interval)
    return True


def free_ports(count: int) -> list[int]:
    """Loopback TCP ports nobody listens on now, all different.

    None of those that the kernel gives to outgoing connections (32768 on), which take one before it is listened on.
    """
    found: list[int] = []
    while len(found) < count:
        port = random.randrange(*_PORTS)
        if port not in found and port_is_free(port):
            found.append(port)
    return found


def port_is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def run(
    command: Sequence[str | Path],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: str | None = None,
    log: Path | None = None,
) -> str:
    """Run to the end and return stdout. With `log`, all output goes there instead and "" is returned.

    Raises CommandError with the output when the program fails.
    """
    arguments = [str(part) for part in command]
    with ExitStack() as stack:
        if log is None:
            done = subprocess.run(arguments, env=env, cwd=cwd, input=stdin, capture_output=True, text=True, check=False)
            output = done.stdout + done.stderr
        else:
            log.parent.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context(log.open("ab"))
            done = subprocess.run(
                arguments,
                env=env,
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
            )
            output = f"see {log}"
    if done.returncode != 0:
        if log is not None:
            raise ComponentError(Path(arguments[0]).name, f"ended with {done.returncode}", log)
        raise CommandError(arguments, done.returncode, output)
    return done.stdout or ""


@contextmanager
def exclusive(file: Path) -> Iterator[None]:
    """One holder at a time, across processes; the others wait. A killed holder holds nothing."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w") as handle:
        flock(handle, LOCK_EX)
        yield


@dataclass
class Component:
    """A long-running child process that writes to its own log and dies with its parent."""

    name: str
    log: Path
    process: subprocess.Popen[bytes]

    @classmethod
    def start(
        cls, name: str, command: Sequence[str | Path], log: Path, env: Mapping[str, str] | None = None
    ) -> Component:
        """Start it in its own session (a Ctrl-C is handled by us, in order), with stdout and stderr in `log`."""
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as file:
            process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *(str(part) for part in command)],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=env,
                start_new_session=True,
            )
        return cls(name, log, process)

    def wait_until(self, ready: Callable[[], bool], *, seconds: float) -> None:
        """Return when it is ready. Raises ComponentError when it ends first or time is over."""

        def ended_or_ready() -> bool:
            return self.process.poll() is not None or ready()

        if not poll(ended_or_ready, seconds=seconds):
            raise ComponentError(self.name, f"was not ready after {seconds:.0f} s", self.log)
        if self.process.poll() is not None:
            raise ComponentError(self.name, f"ended with {self.process.returncode}", self.log)

    def stop(self, *, grace_seconds: float = 5.0) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(grace_seconds)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.process.wait()

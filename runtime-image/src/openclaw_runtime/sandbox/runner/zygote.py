"""The zygote of a leased sandbox: a small process that forks a fresh, warm child for each call and sees none of them.

It is forked while the runner is small, loads and rehearses what every child needs, and from then on only takes three
descriptors and forks. Packages, inputs and secrets go from the runner straight to the child. It stays single-threaded,
so that what it forks starts from a known state, and a child can neither read nor signal it (see `linux.hide` and the
filter in `worker`).
"""

import os
import socket
import struct
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

from openclaw_runtime.sandbox.runner import linux
from openclaw_runtime.sandbox.runner.child import Ends, Forked, open_ends
from openclaw_runtime.sandbox.runner.languages import Languages

_PID: Final = struct.Struct("=i")
_DESCRIPTORS: Final = 3
_FORK_SECONDS: Final = 10.0
_ADOPTION_SECONDS: Final = 5.0
_MAX_DETAIL: Final = 4000


class ZygoteError(Exception):
    """The zygote is gone or does not answer: no further call can be served."""


@dataclass(frozen=True, slots=True)
class Zygote:
    """The runner's end: the process, and the socket it takes orders from."""

    pid: int
    control: socket.socket

    def fork(self) -> Forked:
        """Has a fresh child forked. Blocks for a few milliseconds. Raises `ZygoteError`."""
        ours, theirs = open_ends()
        try:
            socket.send_fds(self.control, [b"f"], list(theirs.descriptors()))
            data = self.control.recv(_PID.size, socket.MSG_WAITALL)
        except OSError as error:
            raise ZygoteError(f"the zygote does not answer: {error.strerror or type(error).__name__}") from None
        finally:
            theirs.close()
        if len(data) < _PID.size:
            raise ZygoteError("the zygote is gone")
        return Forked(_PID.unpack(data)[0], ours)


def fork_zygote(workspace: Path, scratch: Path, languages: Languages) -> Zygote:
    """Forks the zygote. Call it before anything is open and while there is one thread."""
    ours, theirs = socket.socketpair()
    ours.settimeout(_FORK_SECONDS)
    runner = os.getpid()
    pid = os.fork()
    if pid == 0:
        ours.close()
        _live(theirs, runner, workspace, scratch, languages)
    theirs.close()
    return Zygote(pid, ours)


def _live(control: socket.socket, runner: int, workspace: Path, scratch: Path, languages: Languages) -> NoReturn:
    try:
        os.setsid()
        linux.die_with_parent()
        linux.close_descriptors_except([control.fileno()])
        with Path(os.devnull).open("r+b") as null:
            os.dup2(null.fileno(), 0)
            os.dup2(null.fileno(), 1)
        from openclaw_runtime.sandbox.runner.worker import run_child, warm_up

        warm_up(scratch)
        linux.hide()
        while True:
            data, descriptors, _, _ = socket.recv_fds(control, 1, _DESCRIPTORS)
            if not data or len(descriptors) != _DESCRIPTORS:  # the runner is gone
                os._exit(0)
            ends = Ends(socket.socket(fileno=descriptors[0]), descriptors[1], descriptors[2])
            between = os.fork()
            if between == 0:
                zygote = os.getppid()
                _fork_orphan(control, runner)
                run_child(ends, workspace, scratch, languages, zygote)
            ends.close()
            os.waitpid(between, 0)
    except BaseException:  # noqa: BLE001 - this is the end of the process, whatever it was
        os.write(2, traceback.format_exc().encode(errors="replace")[-_MAX_DETAIL:])
        os._exit(70)


def _fork_orphan(control: socket.socket, runner: int) -> None:
    """Forks once more and ends this process, so that the new one is the runner's own, which adopts orphans."""
    pid = os.fork()
    if pid:
        control.sendall(_PID.pack(pid))
        os._exit(0)
    deadline = time.monotonic() + _ADOPTION_SECONDS
    while os.getppid() != runner:
        if time.monotonic() > deadline:
            os._exit(73)
        time.sleep(0.0002)
    linux.show()

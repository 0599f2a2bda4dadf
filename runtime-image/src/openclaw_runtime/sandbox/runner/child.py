"""The runner's hold on its child: forking it, talking to it, ending it with all it started, and reaping."""

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from openclaw_runtime.sandbox.protocol import Message, decode, encode
from openclaw_runtime.sandbox.runner import linux
from openclaw_runtime.sandbox.runner.channel import ChannelError, FrameReader, Kind, pack

_READ_SIZE: Final = 256 * 1024


@dataclass(frozen=True, slots=True)
class Exit:
    """How the child ended: `code` is its exit code, or minus the signal that killed it."""

    code: int
    cpu_ms: float
    max_rss_bytes: int


@dataclass(frozen=True, slots=True)
class Forked:
    """A child that was forked but is not watched yet."""

    pid: int
    channel: socket.socket
    stdout: int
    stderr: int


def fork_child(workspace: Path, scratch: Path) -> Forked:
    """Forks the child. Call it before anything is open and while there is one thread."""
    ours, theirs = socket.socketpair()
    stdout_read, stdout_write = os.pipe()
    stderr_read, stderr_write = os.pipe()
    pid = os.fork()
    if pid == 0:
        from openclaw_runtime.sandbox.runner.worker import run_child

        run_child(theirs, stdout_write, stderr_write, workspace, scratch)
    theirs.close()
    os.close(stdout_write)
    os.close(stderr_write)
    return Forked(pid, ours, stdout_read, stderr_read)


async def _pipe_reader(descriptor: int) -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(descriptor, "rb", 0)
    )
    return reader


class Child:
    """The watched child. Everything that comes out of it is untrusted."""

    def __init__(self, forked: Forked, frame_limit: int) -> None:
        self._forked = forked
        self._frames = FrameReader(frame_limit)
        self._exited: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
        self._alone = asyncio.Event()
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter
        self.stdout: asyncio.StreamReader
        self.stderr: asyncio.StreamReader

    async def attach(self) -> None:
        """Starts reaping and reading."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, self._reap)
        self._reap()
        self._reader, self._writer = await asyncio.open_connection(sock=self._forked.channel)
        self.stdout = await _pipe_reader(self._forked.stdout)
        self.stderr = await _pipe_reader(self._forked.stderr)

    def _reap(self) -> None:
        """Collects every process that ended: the child, and orphans that came to us as their subreaper."""
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                self._alone.set()
                return
            if pid == 0:
                self._alone.clear()
                return
            if pid == self._forked.pid and not self._exited.done():
                cpu_ms = (usage.ru_utime + usage.ru_stime) * 1000
                # getrusage(2): ru_maxrss is in kilobytes on Linux.
                self._exited.set_result(Exit(os.waitstatus_to_exitcode(status), cpu_ms, usage.ru_maxrss * 1024))

    async def exited(self) -> Exit:
        """Waits for the child itself to end."""
        return await asyncio.shield(self._exited)

    async def messages(self) -> AsyncIterator[Message]:
        """Yields what the child says until it closes its end. Raises `ChannelError` or `ProtocolError` on nonsense."""
        while data := await self._reader.read(_READ_SIZE):
            for kind, body in self._frames.feed(data):
                if kind is not Kind.MESSAGE:
                    raise ChannelError("only messages come from the child")
                yield decode(body)

    def send(self, message: Message) -> None:
        """Writes one message to the child; one that is gone is noticed by its exit."""
        self._writer.write(pack(Kind.MESSAGE, encode(message).encode()))

    def send_package(self, tar: bytes) -> None:
        """Writes the package to the child."""
        self._writer.write(pack(Kind.PACKAGE, tar))

    def process_count(self) -> int:
        """Returns how many processes the call has at the moment."""
        return len(linux.descendants(os.getpid()))

    async def finish(self) -> Exit:
        """Kills the child and whatever it started, at once, and waits until all of it is reaped."""
        self._writer.close()
        linux.signal_group(self._forked.pid, signal.SIGKILL)
        exit_ = await self.exited()
        self._reap()
        while not self._alone.is_set():
            linux.kill_descendants(os.getpid())
            with contextlib.suppress(TimeoutError):
                # A process forked between listing and killing is found by the next round.
                await asyncio.wait_for(self._alone.wait(), 0.02)
        return exit_

    async def terminate(self, grace_seconds: float) -> Exit:
        """Asks the child's group to end, gives it a moment, then kills what is left."""
        linux.signal_group(self._forked.pid, signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.exited(), grace_seconds)
        return await self.finish()

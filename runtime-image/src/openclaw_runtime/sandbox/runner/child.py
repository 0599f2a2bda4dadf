"""The runner's hold on its child: forking it, talking to it, ending it with all it started, and reaping."""

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from openclaw_runtime.sandbox.attachments import Offer
from openclaw_runtime.sandbox.jsonrpc import Message, decode, encode
from openclaw_runtime.sandbox.runner import linux
from openclaw_runtime.sandbox.runner.channel import ChannelError, FrameReader, Kind, pack
from openclaw_runtime.sandbox.runner.languages import Languages
from openclaw_runtime.sandbox.runner.output import LineSplitter

_READ_SIZE: Final = 256 * 1024
_MAX_DRAIN_READS: Final = 16


@dataclass(frozen=True, slots=True)
class Usage:
    """What the child has used since some moment: CPU time of all its threads, and the most memory it ever had."""

    cpu_ms: float = 0.0
    max_rss_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Ends:
    """One side of what connects the runner and a child: the channel, and what the child prints."""

    channel: socket.socket
    stdout: int
    stderr: int

    def descriptors(self) -> tuple[int, int, int]:
        """Returns the three descriptors."""
        return self.channel.fileno(), self.stdout, self.stderr

    def close(self) -> None:
        """Closes this side."""
        self.channel.close()
        os.close(self.stdout)
        os.close(self.stderr)


@dataclass(frozen=True, slots=True)
class Forked:
    """A child that was forked but is not watched yet."""

    pid: int
    ends: Ends


def open_ends() -> tuple[Ends, Ends]:
    """Returns the runner's side and the child's side."""
    ours, theirs = socket.socketpair()
    stdout_read, stdout_write = os.pipe()
    stderr_read, stderr_write = os.pipe()
    return Ends(ours, stdout_read, stderr_read), Ends(theirs, stdout_write, stderr_write)


def fork_child(workspace: Path, scratch: Path, languages: Languages) -> Forked:
    """Forks the child. Call it before anything is open and while there is one thread."""
    ours, theirs = open_ends()
    pid = os.fork()
    if pid == 0:
        from openclaw_runtime.sandbox.runner.worker import run_child

        run_child(theirs, workspace, scratch, languages)
    theirs.close()
    return Forked(pid, ours)


class OutputPipe:
    """Cuts what the child prints into lines. It is read whatever happens to the lines, so a flood blocks nobody."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lines = LineSplitter()
        self._take: Callable[[str], None] = lambda _: None
        os.set_blocking(descriptor, False)
        asyncio.get_running_loop().add_reader(descriptor, self._read)

    def follow(self, take: Callable[[str], None]) -> None:
        """Has every further line given to `take`."""
        self._take = take

    def _read(self) -> bool:
        """Reads once; returns whether there may be more."""
        try:
            data = os.read(self._descriptor, _READ_SIZE)
        except BlockingIOError:
            return False
        if not data:
            self.close()
            return False
        for line in self._lines.feed(data):
            self._take(line)
        return True

    def drain(self) -> None:
        """Takes what is in the pipe by now, an unfinished line included; what came after it is not waited for."""
        for _ in range(_MAX_DRAIN_READS):
            if self._descriptor < 0 or not self._read():
                break
        for line in self._lines.flush():
            self._take(line)

    def close(self) -> None:
        """Stops reading."""
        if self._descriptor >= 0:
            asyncio.get_running_loop().remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1


class Child:
    """The watched child. Everything that comes out of it is untrusted.

    `zygote` is the process that forks the children of a leased sandbox; it outlives them.
    """

    def __init__(self, forked: Forked, frame_limit: int, zygote: int | None = None) -> None:
        self._forked = forked
        self.zygote = zygote
        self._frames = FrameReader(frame_limit)
        self._exited: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._alone = asyncio.Event()
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter
        self.stdout: OutputPipe
        self.stderr: OutputPipe

    async def attach(self) -> None:
        """Starts reaping and reading."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, self._reap)
        self._reap()
        self._reader, self._writer = await asyncio.open_connection(sock=self._forked.ends.channel)
        self.stdout = OutputPipe(self._forked.ends.stdout)
        self.stderr = OutputPipe(self._forked.ends.stderr)

    def _reap(self) -> None:
        """Collects every process that ended: the child, and orphans that came to us as their subreaper."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                self._alone.set()
                return
            if pid == 0:
                self._alone.clear()
                return
            if pid == self._forked.pid and not self._exited.done():
                self._exited.set_result(os.waitstatus_to_exitcode(status))

    def on_exit(self, take: Callable[[int], None]) -> None:
        """Has `take` called with the exit code when the child itself has ended."""
        self._exited.add_done_callback(lambda done: take(done.result()))

    async def exited(self) -> int:
        """Waits for the child itself to end; returns its exit code, or minus the signal that killed it."""
        return await asyncio.shield(self._exited)

    async def messages(self) -> AsyncIterator[Message | Offer]:
        """Yields what the child says until it closes its end. Raises `ChannelError` or `ProtocolError` on nonsense."""
        while data := await self._reader.read(_READ_SIZE):
            for kind, body in self._frames.feed(data):
                if kind is Kind.PACKAGE:
                    raise ChannelError("no package comes from the child")
                yield decode(body) if kind is Kind.MESSAGE else Offer.decode(body)

    def send(self, message: Message) -> None:
        """Writes one message to the child; one that is gone is noticed by its exit."""
        self._writer.write(pack(Kind.MESSAGE, encode(message).encode()))

    def send_package(self, tar: bytes) -> None:
        """Writes the package to the child."""
        self._writer.write(pack(Kind.PACKAGE, tar))

    def process_count(self) -> int:
        """Returns how many processes the call has at the moment."""
        return len(self._processes())

    def _processes(self) -> list[int]:
        """Returns every process below the runner but the zygote, zombies included."""
        return [process for process in linux.descendants(os.getpid()) if process != self.zygote]

    def usage(self, *, processes: bool = False) -> Usage:
        """Returns what the child has used, as the kernel counts it; nothing if it is gone.

        With `processes`, those it started and that are still there count, too: the sum of their CPU time, and the
        largest of them.
        """
        found = [self._forked.pid, *(linux.descendants(self._forked.pid) if processes else ())]
        cpu, memory = 0.0, 0
        for process in found:
            with contextlib.suppress(OSError):
                cpu += linux.cpu_seconds(process) * 1000
                memory = max(memory, linux.peak_memory(process))
        return Usage(cpu, memory)

    def kill(self) -> None:
        """Sends SIGKILL to the child and its group: none of them runs another instruction of its own."""
        linux.signal_group(self._forked.pid, signal.SIGKILL)

    async def finish(self) -> int:
        """Kills the child and whatever it started and waits until all of it is reaped; returns the exit code."""
        self._writer.close()
        self.kill()
        code = await self.exited()
        self._reap()
        while not self._is_alone():
            linux.kill_descendants(os.getpid(), self.zygote)
            with contextlib.suppress(TimeoutError):
                # A process forked between listing and killing is found by the next round.
                await asyncio.wait_for(self._alone.wait(), 0.02)
        return code

    def _is_alone(self) -> bool:
        return self._alone.is_set() or (self.zygote is not None and not self._processes())

    def close(self) -> None:
        """Lets go of the pipes of a child that was finished, for the next one."""
        self.stdout.close()
        self.stderr.close()

    async def terminate(self, grace_seconds: float) -> int:
        """Asks the child's group to end, gives it a moment, then kills what is left."""
        linux.signal_group(self._forked.pid, signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.exited(), grace_seconds)
        return await self.finish()

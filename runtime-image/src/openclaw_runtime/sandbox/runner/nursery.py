"""Where the child of the next call comes from: forked once, or for a leased sandbox again by its zygote."""

import asyncio
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from openclaw_runtime.sandbox.jsonrpc import Notification, ProtocolError
from openclaw_runtime.sandbox.runner.child import Child, Forked
from openclaw_runtime.sandbox.runner.zygote import Zygote, ZygoteError

_CLEAN_SECONDS: Final = 5.0


class NotCleanError(Exception):
    """What a call left behind could not be removed, so no other call may follow in this sandbox."""


@dataclass(frozen=True, slots=True)
class Rooms:
    """The folders a call can write to that no other call may see: they are emptied between two calls.

    `scratch` is there again afterwards, whether or not it lies in one of `folders`.
    """

    scratch: Path
    folders: tuple[Path, ...]

    def clean(self) -> None:
        """Empties them. Raises `NotCleanError`."""
        for folder in self.folders:
            for entry in os.scandir(folder):
                try:
                    if entry.is_dir(follow_symlinks=False):
                        shutil.rmtree(entry.path)
                    else:
                        Path(entry.path).unlink()
                except OSError as error:
                    raise NotCleanError(f"{entry.path}: {error.strerror}") from None
        self.scratch.mkdir(mode=0o700, exist_ok=True)


class Nursery:
    """Holds the child that serves the next call."""

    def __init__(self, first: Forked | None, zygote: Zygote | None, rooms: Rooms, frame_limit: int) -> None:
        self._first = first
        self._zygote = zygote
        self._rooms = rooms
        self._frame_limit = frame_limit
        self.child: Child

    async def start(self) -> None:
        """Watches the first child until it is warm. Raises `ProtocolError`, `ChannelError` or `ZygoteError`."""
        await self._watch(self._first or self._source().fork())

    async def renew(self) -> None:
        """Ends what is left of a call and has a fresh child forked for the next one.

        Raises `NotCleanError`, `ZygoteError`, `ProtocolError` or `ChannelError`: then there is no next one.
        """
        try:
            async with asyncio.timeout(_CLEAN_SECONDS):
                await self.child.finish()
                cleaning = asyncio.ensure_future(asyncio.to_thread(self._rooms.clean))
                self.child.close()
                # It makes its folders when a call comes, and none comes before this is over.
                await self._watch(self._source().fork())
                await cleaning
        except TimeoutError:
            raise NotCleanError(f"it took longer than {_CLEAN_SECONDS:g} s") from None

    async def close(self) -> None:
        """Ends everything, the zygote included."""
        self.child.zygote = None
        await self.child.finish()

    def _source(self) -> Zygote:
        if self._zygote is None:
            raise ZygoteError("this sandbox serves one call")
        return self._zygote

    async def _watch(self, forked: Forked) -> None:
        self.child = Child(forked, self._frame_limit, self._zygote.pid if self._zygote else None)
        await self.child.attach()
        async for message in self.child.messages():
            if message == Notification("ready", {}):
                return
        raise ProtocolError("child: ended before it was ready")

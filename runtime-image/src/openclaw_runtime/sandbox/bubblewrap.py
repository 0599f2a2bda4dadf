"""bubblewrap, where this machine has it: a local sandbox then sees a few folders of the machine and nothing else.

https://github.com/containers/bubblewrap makes namespaces without root. Whether it may is a matter of the machine, so it
is tried once; without it a local sandbox is still confined (see docs/security.md), but reads what its user may read.
"""

import asyncio
import os
import shutil
import site
import sys
from asyncio.subprocess import DEVNULL
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

SCRATCH_BYTES: Final = 256 * 1024 * 1024
"""What a call may keep in its scratch folder, as in a pod. It is memory, like what follows."""
SHARED_BYTES: Final = 64 * 1024 * 1024
"""What it may keep in each of /tmp and /dev/shm; containers have as much of the latter."""
_TRY_SECONDS: Final = 10.0
_SYSTEM: Final = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/opt", "/nix/store")
_SETTINGS: Final = (
    "/etc/alternatives",
    "/etc/ca-certificates",
    "/etc/group",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/etc/nsswitch.conf",
    "/etc/passwd",
    "/etc/pki",
    "/etc/ssl",
)
_NETWORK_SETTINGS: Final = ("/etc/hosts", "/etc/resolv.conf")
_NAMESPACES: Final = ("--unshare-all", "--die-with-parent", "--as-pid-1", "--cap-drop", "ALL", "--hostname", "sandbox")


@dataclass(frozen=True, slots=True)
class Bubblewrap:
    """The program. `sized` is that it can say how much fits into a folder: version 0.7 and later."""

    path: Path
    sized: bool = True


def interpreter_folders() -> list[Path]:
    """Returns the folders of this Python: itself, its packages, and where this project is."""
    here = Path(__file__).parents[2]
    packages = site.getsitepackages()
    folders = [Path(name) for name in (sys.prefix, sys.base_prefix, *packages)]
    # A link is followed by the kernel: what it points to has to be there as well.
    folders += [Path(sys.executable).resolve().parent.parent, here]
    return list(dict.fromkeys(folders))


def arguments(
    bwrap: Bubblewrap,
    *,
    readable: Iterable[Path],
    scratch: Path,
    listener: Path,
    workspace: Path | None,
    files: Literal["none", "ro", "rw"],
    network: bool,
) -> list[str]:
    """Returns the command line in front of a sandbox's own.

    `readable` are folders it needs to run at all. `scratch` is its private one, which is not the machine's, and
    `listener` the socket in it that the machine has made. Beside these and the workspace nothing can be written to. The
    order matters: later ones are mounted over earlier ones.
    """

    def room(folder: str, size: int) -> list[str]:
        return [*(("--size", str(size)) if bwrap.sized else ()), "--tmpfs", folder]

    command = [str(bwrap.path), *_NAMESPACES]
    if network:
        command.append("--share-net")
    settings = (*_SETTINGS, *(_NETWORK_SETTINGS if network else ()))
    for path in (*_SYSTEM, *settings):
        command += ["--ro-bind-try", path, path]
    command += ["--proc", "/proc", "--dev", "/dev"]
    for shared in ("/dev/shm", "/tmp"):  # noqa: S108 - file systems of its own
        command += room(shared, SHARED_BYTES)
    for folder in readable:
        command += ["--ro-bind", str(folder), str(folder)]
    if workspace is not None and files != "none":
        command += ["--bind" if files == "rw" else "--ro-bind", str(workspace), str(workspace)]
    command += [*room(str(scratch), SCRATCH_BYTES), "--ro-bind", str(listener), str(listener)]
    return [*command, "--remount-ro", "/dev", "--remount-ro", "/", "--chdir", "/", "--"]


async def find() -> tuple[Bubblewrap | None, str]:
    """Returns bubblewrap if it works here, with what it leaves open, and else why it is not used."""
    found = shutil.which("bwrap")
    if found is None:
        return None, "bubblewrap is not installed"
    if await _works(found, "--size", "4096", "--tmpfs", "/tmp"):  # noqa: S108 - a file system of its own
        return Bubblewrap(Path(found)), "bubblewrap"
    if await _works(found):
        return Bubblewrap(Path(found), sized=False), "bubblewrap before 0.7, which does not bound scratch files"
    return None, f"bubblewrap does not work here (user namespaces may be switched off: {os.uname().release})"


async def _works(found: str, *options: str) -> bool:
    trial = [found, *_NAMESPACES, "--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev", *options, "true"]
    try:
        process = await asyncio.create_subprocess_exec(*trial, stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL)
        async with asyncio.timeout(_TRY_SECONDS):
            return await process.wait() == 0
    except (OSError, TimeoutError):
        return False

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
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, Literal

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


def interpreter_folders() -> list[Path]:
    """Returns the folders of this Python: itself, its packages, and where this project is."""
    here = Path(__file__).parents[2]
    packages = site.getsitepackages()
    folders = [Path(name) for name in (sys.prefix, sys.base_prefix, *packages)]
    # A link is followed by the kernel: what it points to has to be there as well.
    folders += [Path(sys.executable).resolve().parent.parent, here]
    return list(dict.fromkeys(folders))


def arguments(
    bwrap: Path,
    *,
    readable: Iterable[Path],
    writable: Path,
    workspace: Path | None,
    files: Literal["none", "ro", "rw"],
    network: bool,
) -> list[str]:
    """Returns the command line in front of a sandbox's own.

    `readable` are folders it needs to run at all, `writable` is its private one. The order matters: later ones are
    mounted over earlier ones.
    """
    command = [str(bwrap), *_NAMESPACES]
    if network:
        command.append("--share-net")
    settings = (*_SETTINGS, *(_NETWORK_SETTINGS if network else ()))
    for path in (*_SYSTEM, *settings):
        command += ["--ro-bind-try", path, path]
    command += ["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]  # noqa: S108 - a file system of its own
    for folder in readable:
        command += ["--ro-bind", str(folder), str(folder)]
    if workspace is not None and files != "none":
        command += ["--bind" if files == "rw" else "--ro-bind", str(workspace), str(workspace)]
    return [*command, "--bind", str(writable), str(writable), "--chdir", "/", "--"]


async def find() -> tuple[Path | None, str]:
    """Returns bubblewrap if it works here, and else why it is not used."""
    found = shutil.which("bwrap")
    if found is None:
        return None, "bubblewrap is not installed"
    trial: Sequence[str] = [found, *_NAMESPACES, "--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev", "true"]
    try:
        process = await asyncio.create_subprocess_exec(*trial, stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL)
        async with asyncio.timeout(_TRY_SECONDS):
            code = await process.wait()
    except (OSError, TimeoutError):
        code = -1
    if code != 0:
        return None, f"bubblewrap does not work here (user namespaces may be switched off: {os.uname().release})"
    return Path(found), "bubblewrap"

"""Which permission a skill lacks for what the kernel refused it, so that its error can say what to declare."""

import errno
import os
import socket
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final

NETWORK: Final = "network:external or network:internal"
FILES: Final = "filesystem:read or filesystem:write"
_DEEPEST: Final = 8


def missing(error: BaseException, permissions: Collection[str], workspace: Path) -> str | None:
    """Returns the permission, or the two of which one would do; None where the error is about something else."""
    for cause in _causes(error):
        if isinstance(cause, OSError) and (found := _missing(cause, permissions, workspace)):
            return found
    return None


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and what it came from: libraries wrap what the system said, urllib in `reason`."""
    cause: object = error
    for _ in range(_DEEPEST):
        if not isinstance(cause, BaseException):
            return
        yield cause
        cause = getattr(cause, "reason", None) or cause.__cause__ or cause.__context__


def _missing(error: OSError, permissions: Collection[str], workspace: Path) -> str | None:
    kinds = {permission.partition(":")[0] for permission in permissions}
    if isinstance(error, socket.gaierror):
        return None if "network" in kinds else NETWORK
    if isinstance(error.filename, str | bytes) and _inside(os.fsdecode(error.filename), workspace):
        if "filesystem" not in kinds:
            return FILES
        if error.errno == errno.EROFS and "filesystem:write" not in permissions:
            return "filesystem:write"
    # The filter refuses sockets with one error and programs with another.
    if error.errno == errno.EACCES and error.filename is None and "network" not in kinds:
        return NETWORK
    if error.errno == errno.EPERM and "process:execute" not in permissions:
        return "process:execute"
    return None


def _inside(path: str, workspace: Path) -> bool:
    return Path(os.path.normpath(workspace / path)).is_relative_to(workspace)

"""A skill that tries to use up what it runs on. Runs inside a sandbox pod, with the standard library only.

Each attack wants more than a pod may have, and is bounded all the same: a missing wall costs a test, not the machine.
"""

import errno
import os
import signal
import time
from pathlib import Path
from typing import Any

from openclaw_skill import SkillError

MIB = 1 << 20
FILE_MIB = 8


def calm(_ctx: Any, _given: dict[str, Any]) -> str:
    """Does nobody any harm."""
    return "calm"


def forks(_ctx: Any, _given: dict[str, Any]) -> str:
    """Every process doubles, until there are 1,024."""
    first = os.getpid()
    try:
        for _ in range(10):
            os.fork()
        time.sleep(60)
    finally:
        if os.getpid() != first:
            os._exit(0)
    return "not stopped"


def memory(_ctx: Any, _given: dict[str, Any]) -> str:
    """Takes 1 GiB, in processes none of which has more than a limit of one process lets it have."""
    children = [_holder() for _ in range(8)]
    ends = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    if -signal.SIGKILL in ends:
        raise MemoryError(f"processes ended with {ends}")
    return "not stopped"


def _holder() -> int:
    child = os.fork()
    if child == 0:
        try:
            held = b"x" * (128 * MIB)
            time.sleep(20)
            del held
        finally:
            os._exit(0)
    return child


def files(_ctx: Any, _given: dict[str, Any]) -> str:
    """Writes 1 GiB in small files, half of which are deleted while open: no look at the folder sees those."""
    written, opened = 0, []
    for number in range(1024 // FILE_MIB):
        path = Path(os.environ["TMPDIR"], str(number))
        try:
            with path.open("wb", buffering=0) as file:
                file.write(bytes(FILE_MIB * MIB))
                opened.append(os.dup(file.fileno()))
        except OSError as error:
            raise SkillError(f"{errno.errorcode[error.errno or 0]} after {written} MiB") from None
        written += FILE_MIB
        if number % 2:
            path.unlink()
    return "not stopped"

"""The parts of Linux that confine a process: prctl, capabilities, rlimits, and finding and ending descendants."""

import contextlib
import ctypes
import errno
import mmap
import os
import resource
import signal
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

# include/uapi/linux/prctl.h
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_DUMPABLE: Final = 4
_PR_CAPBSET_DROP: Final = 24
_PR_SET_CHILD_SUBREAPER: Final = 36
_PR_SET_NO_NEW_PRIVS: Final = 38
_PR_CAP_AMBIENT: Final = 47
_PR_CAP_AMBIENT_CLEAR_ALL: Final = 4
_CAPABILITY_VERSION_3: Final = 0x20080522
_LAST_CAPABILITY: Final = 63

MAX_FILE_BYTES: Final = 512 * 1024 * 1024
MAX_OPEN_FILES: Final = 512
_ADDRESS_SPACE_SLACK: Final = 2 * 1024 * 1024 * 1024
"""Mapped files and reserved but unused thread stacks: they count for RLIMIT_AS though they use no memory."""

_MAP_FIXED_NOREPLACE: Final = 0x100000
_MAP_FAILED: Final = ctypes.c_void_p(-1).value

# include/uapi/linux/landlock.h; its system calls have one number on every architecture.
_LANDLOCK_CREATE_RULESET: Final = 444
_LANDLOCK_RESTRICT_SELF: Final = 446
_LANDLOCK_SCOPE_SIGNAL: Final = 2

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p


class _CapHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _CapData(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


class _Ruleset(ctypes.Structure):
    _fields_ = (("files", ctypes.c_uint64), ("network", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


def prctl(option: int, argument: int, *rest: int) -> None:
    """Calls prctl(2). Raises OSError."""
    padded = (*rest, 0, 0, 0)[:3]
    if _libc.prctl(option, *(ctypes.c_ulong(value) for value in (argument, *padded))) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"prctl({option}): {os.strerror(code)}")


def syscall(number: int, *arguments: object) -> int:
    """Calls a system call that the standard library does not wrap. Raises OSError."""
    result: int = _libc.syscall(ctypes.c_long(number), *arguments)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"syscall {number}: {os.strerror(code)}")
    return result


def map_memory(address: int, size: int) -> int:
    """Maps private memory, at `address` if nothing is there yet, and returns where it is. Raises OSError."""
    protection, flags = mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_FIXED_NOREPLACE
    found: int | None = _libc.mmap(
        ctypes.c_void_p(address), ctypes.c_size_t(size), protection, flags, -1, ctypes.c_long(0)
    )
    if found is None or found == _MAP_FAILED:
        code = ctypes.get_errno()
        raise OSError(code, f"mmap: {os.strerror(code)}")
    return found


def hide() -> None:
    """Makes this process unreadable for others of the same uid: no ptrace, no /proc/<pid>/{mem,environ,fd}.

    What it forks inherits that.
    """
    prctl(_PR_SET_DUMPABLE, 0)


def show() -> None:
    """Undoes `hide`, for a process that has to read its own /proc/self."""
    prctl(_PR_SET_DUMPABLE, 1)


def adopt_orphans() -> None:
    """Makes this process the parent of every orphaned descendant, so that none escapes being ended and reaped."""
    prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent() -> None:
    """Has the kernel kill this process when its parent ends."""
    prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def seclude() -> bool:
    """Lets this thread, and all it starts, signal only each other and look into no other process. Others may still.

    Returns False where the kernel has no such thing: before Linux 6.12, without Landlock, in gVisor. It needs
    no_new_privs. Raises OSError.
    """
    rules = _Ruleset(0, 0, _LANDLOCK_SCOPE_SIGNAL)
    try:
        ruleset = syscall(_LANDLOCK_CREATE_RULESET, ctypes.byref(rules), ctypes.c_size_t(ctypes.sizeof(rules)), 0)
    except OSError:
        return False
    try:
        syscall(_LANDLOCK_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)
    return True


def drop_privileges() -> None:
    """Gives up every capability for good, and the right to gain privileges by executing a file."""
    prctl(_PR_SET_NO_NEW_PRIVS, 1)
    for capability in range(_LAST_CAPABILITY + 1):
        try:
            prctl(_PR_CAPBSET_DROP, capability)
        except OSError as error:
            # EINVAL: past the last capability this kernel has. EPERM: not privileged, so there is nothing to drop.
            if error.errno in {errno.EINVAL, errno.EPERM}:
                break
            raise
    # Ambient capabilities appeared in Linux 4.3; without them there is nothing to clear.
    with contextlib.suppress(OSError):
        prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    header = _CapHeader(_CAPABILITY_VERSION_3, 0)
    data = (_CapData * 2)()
    if _libc.capset(ctypes.byref(header), data) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"capset: {os.strerror(code)}")


def _lower(kind: int, value: int) -> None:
    _, hard = resource.getrlimit(kind)
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (value, value))


def limit_resources(*, memory_bytes: int, cpu_seconds: int, address_space: bool = True) -> None:
    """Sets the rlimits of a call. They hold for each process of it; the pod's cgroup bounds the sum.

    `address_space` limits that too: not for programs that reserve much more than they use (V8, Go, Java).

    RLIMIT_NPROC is left alone: it counts every process of the uid on the node, pods of other agents included.
    """
    limit_files()
    _lower(resource.RLIMIT_CPU, cpu_seconds)
    _lower(resource.RLIMIT_DATA, memory_bytes)
    if address_space:
        _lower(resource.RLIMIT_AS, memory_bytes + _ADDRESS_SPACE_SLACK)


def limit_files() -> None:
    """Sets those rlimits that are the same for every call: no core dumps, how large files are, how many are open."""
    _lower(resource.RLIMIT_CORE, 0)
    _lower(resource.RLIMIT_FSIZE, MAX_FILE_BYTES)
    _lower(resource.RLIMIT_NOFILE, MAX_OPEN_FILES)


def limit_process(process: int, *, memory_bytes: int, cpu_seconds: int) -> None:
    """Sets the rlimits of a call for a process that runs already. Raises OSError."""
    for kind, value in ((resource.RLIMIT_CPU, cpu_seconds), (resource.RLIMIT_DATA, memory_bytes)):
        _, hard = resource.prlimit(process, kind)
        lowered = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.prlimit(process, kind, (lowered, lowered))


def wipe_environment() -> None:
    """Clears the environment, and its first copy on the stack, which /proc/self/environ would still show."""
    os.environ.clear()
    fields = Path("/proc/self/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    # proc(5): env_start and env_end are fields 50 and 51; the text after the name starts with field 3.
    start, end = int(fields[47]), int(fields[48])
    if 0 < start < end:
        ctypes.memset(start, 0, end - start)


def close_descriptors_except(keep: Iterable[int]) -> None:
    """Closes every descriptor above stderr that is not in `keep`."""
    low = 3
    for descriptor in sorted(keep):
        if descriptor >= low:
            os.closerange(low, descriptor)
            low = descriptor + 1
    os.closerange(low, os.sysconf("SC_OPEN_MAX"))


def cpu_seconds(process: int) -> float:
    """Returns the CPU time of all threads of a process. Raises OSError.

    The clock's number is the one clock_getcpuclockid(3) computes: the complement of the id, and 2 for CPUCLOCK_SCHED.
    """
    return time.clock_gettime(~process << 3 | 2)


def peak_memory(process: int) -> int:
    """Returns the most memory a process ever had, in bytes. Raises OSError."""
    for line in Path(f"/proc/{process}/status").read_text(encoding="utf-8", errors="replace").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def descendants(root: int) -> list[int]:
    """Returns the ids of all processes below `root`, found through /proc."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            stat = (entry / "stat").read_text(encoding="ascii", errors="replace")
        except OSError:
            continue
        parent = int(stat.rpartition(")")[2].split()[1])
        children.setdefault(parent, []).append(int(entry.name))
    found: list[int] = []
    pending = [root]
    while pending:
        below = children.get(pending.pop(), [])
        found += below
        pending += below
    return found


def signal_group(leader: int, number: int) -> None:
    """Sends a signal to the process group of `leader`; one that is gone is fine."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, number)


def kill_descendants(root: int, keep: int | None = None) -> int:
    """Sends SIGKILL to every process below `root` but `keep`, and returns how many there were.

    As PID 1 of a pod, with nothing to keep, one system call reaches all of them at once, so that even a fork bomb
    cannot outrun it. Else they are stopped first, then killed.
    """
    if os.getpid() == 1 and keep is None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(-1, signal.SIGKILL)
            return 1
        return 0
    found = [process for process in descendants(root) if process != keep]
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for process in found:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(process, number)
    return len(found)

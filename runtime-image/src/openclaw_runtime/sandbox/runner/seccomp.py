"""The system calls a skill may not make, as a classic BPF program for seccomp(2).

The filter is inherited by everything the skill starts and can never be taken off. Numbers are from the kernel's
arch/x86/entry/syscalls/syscall_64.tbl and include/uapi/asm-generic/unistd.h (arm64).
"""

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, NoReturn

from openclaw_runtime.sandbox.runner import linux

_SECCOMP_SET_MODE_FILTER: Final = 1
_SECCOMP_FILTER_FLAG_TSYNC: Final = 1

_LOAD: Final = 0x20  # BPF_LD | BPF_W | BPF_ABS
_JUMP_EQUAL: Final = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
_JUMP_AT_LEAST: Final = 0x35  # BPF_JMP | BPF_JGE | BPF_K
_JUMP_ANY_BIT: Final = 0x45  # BPF_JMP | BPF_JSET | BPF_K
_RETURN: Final = 0x06  # BPF_RET | BPF_K

_ALLOW: Final = 0x7FFF0000
_KILL: Final = 0x80000000
_ERRNO: Final = 0x00050000

# struct seccomp_data: nr at 0, arch at 4, the low words of the (little-endian) arguments from 16 on.
_NUMBER: Final = 0
_ARCH: Final = 4
_ARGUMENT: Final = (16, 24, 32, 40, 48, 56)

# Where user memory may be on every machine we know: from 4 GiB to below 2^47.
_LOWEST: Final = 1 << 32
_HIGHEST: Final = 1 << 46
_PAGE: Final = 65_536
_MAPPED: Final = 4 * _PAGE
_TRIES: Final = 16

_X32_BIT: Final = 0x40000000
_CLONE_THREAD: Final = 0x00010000
_CLONE_NEW_NAMESPACE: Final = 0x7E020000  # every CLONE_NEW* flag that clone takes


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_ALWAYS_REFUSED: Final = _words(
    "ptrace process_vm_readv process_vm_writev kcmp pidfd_getfd process_madvise "
    "mount umount2 pivot_root chroot unshare setns move_mount open_tree fsopen fsmount mount_setattr "
    "bpf perf_event_open userfaultfd keyctl add_key request_key open_by_handle_at "
    "kexec_load kexec_file_load init_module finit_module delete_module "
    "io_uring_setup io_uring_enter io_uring_register "
    "rt_sigqueueinfo rt_tgsigqueueinfo pidfd_send_signal tkill "
    "sched_setscheduler sched_setparam sched_setattr ioprio_set migrate_pages move_pages"
)
"""What reaches into other processes or the kernel. io_uring is among it because it makes calls that no filter sees."""

_LASTING_IPC: Final = ("shmget", "semget", "msgget", "mq_open")

_SELF_ONLY: Final = ("prlimit64", "sched_setaffinity")
"""Fine for the caller itself (first argument 0), refused for any other process."""

_OWNER_COMMANDS: Final = {"fcntl": (8, 10, 15), "ioctl": (0x8901, 0x8902)}
"""F_SETOWN, F_SETSIG, F_SETOWN_EX and FIOSETOWN, SIOCSPGRP: whom the kernel signals, and how, when a file is ready.

Nobody who sends is looked at then, only who asked for it, so it would do what `kill` may not.
"""

_PRIO_USER: Final = 2


@dataclass(frozen=True, slots=True)
class Architecture:
    """A machine's audit number (include/uapi/linux/audit.h) and its system call numbers."""

    audit: int
    numbers: dict[str, int]


def _numbers(text: str) -> dict[str, int]:
    return {name: int(number) for name, number in (pair.split(":") for pair in text.split())}


_NEW: Final = (
    "pidfd_send_signal:424 io_uring_setup:425 io_uring_enter:426 io_uring_register:427 open_tree:428 move_mount:429 "
    "fsopen:430 fsmount:432 pidfd_open:434 clone3:435 pidfd_getfd:438 process_madvise:440 mount_setattr:442 "
)

ARCHITECTURES: Final = {
    "x86_64": Architecture(
        0xC000003E,
        _numbers(
            _NEW + "shmget:29 semget:64 msgget:68 mq_open:240 "
            "ioctl:16 fcntl:72 setpriority:141 "
            "socket:41 clone:56 fork:57 vfork:58 execve:59 kill:62 ptrace:101 rt_sigqueueinfo:129 "
            "sched_setparam:142 sched_setscheduler:144 pivot_root:155 chroot:161 mount:165 umount2:166 "
            "init_module:175 delete_module:176 tkill:200 sched_setaffinity:203 tgkill:234 kexec_load:246 add_key:248 "
            "request_key:249 keyctl:250 ioprio_set:251 migrate_pages:256 unshare:272 move_pages:279 "
            "rt_tgsigqueueinfo:297 perf_event_open:298 prlimit64:302 open_by_handle_at:304 setns:308 "
            "process_vm_readv:310 process_vm_writev:311 kcmp:312 finit_module:313 sched_setattr:314 "
            "seccomp:317 "
            "kexec_file_load:320 bpf:321 execveat:322 userfaultfd:323"
        ),
    ),
    "aarch64": Architecture(
        0xC00000B7,
        _numbers(
            _NEW + "mq_open:180 msgget:186 semget:190 shmget:194 "
            "fcntl:25 ioctl:29 setpriority:140 "
            "ioprio_set:30 umount2:39 mount:40 pivot_root:41 chroot:51 unshare:97 kexec_load:104 "
            "init_module:105 delete_module:106 ptrace:117 sched_setparam:118 sched_setscheduler:119 "
            "sched_setaffinity:122 kill:129 tkill:130 tgkill:131 rt_sigqueueinfo:138 socket:198 add_key:217 "
            "request_key:218 keyctl:219 clone:220 execve:221 migrate_pages:238 move_pages:239 rt_tgsigqueueinfo:240 "
            "perf_event_open:241 prlimit64:261 open_by_handle_at:265 setns:268 process_vm_readv:270 "
            "process_vm_writev:271 kcmp:272 finit_module:273 sched_setattr:274 seccomp:277 "
            "bpf:280 execveat:281 userfaultfd:282 "
            "kexec_file_load:294"
        ),
    ),
}


@dataclass(frozen=True, slots=True)
class Policy:
    """What one call may do beyond the plain.

    Without `execute` there is one process, and `own` is its id: the only one that may be signalled. With it there are
    more, and `protected` are ids that may not be signalled (negative: a group).
    `lasting_ipc` are System V IPC and message queues: they would outlive the call that made them.
    `once` are the addresses of the path, the arguments and the environment with which `execve` is allowed although
    `execute` is not. See `exec_once`.
    """

    execute: bool
    network: bool
    protected: tuple[int, ...] = ()
    own: int | None = None
    lasting_ipc: bool = True
    once: tuple[int, int, int] | None = None


def _op(code: int, value: int, yes: int = 0, no: int = 0) -> bytes:
    return struct.pack("=HBBI", code, yes, no, value & 0xFFFFFFFF)


def _refuse(code: int) -> bytes:
    return _op(_RETURN, _ERRNO | code)


_ALLOWED = _op(_RETURN, _ALLOW)


def _rule(number: int, body: Sequence[bytes]) -> list[bytes]:
    """Returns: if the call is `number`, run `body` (which always returns), else go on. The number is loaded."""
    return [_op(_JUMP_EQUAL, number, 0, len(body)), *body]


def _refuse_values(argument: int, values: Sequence[int], code: int) -> list[bytes]:
    """Returns a body that refuses the values for an argument and allows any other."""
    body = [_op(_LOAD, _ARGUMENT[argument])]
    for value in values:
        body += [_op(_JUMP_EQUAL, value, 0, 1), _refuse(code)]
    return [*body, _ALLOWED]


def _only(arguments: Sequence[int]) -> list[bytes]:
    """Returns a body that allows the first arguments to be exactly these 64-bit values."""
    body: list[bytes] = []
    for offset, value in zip(_ARGUMENT, arguments, strict=False):
        for word, part in ((offset, value), (offset + 4, value >> 32)):
            body += [_op(_LOAD, word), _op(_JUMP_EQUAL, part, 1, 0), _refuse(errno.EPERM)]
    return [*body, _ALLOWED]


def _clone_rules(numbers: dict[str, int], policy: Policy) -> list[bytes]:
    # clone3 passes its flags in memory, where a filter cannot look; ENOSYS makes libc use clone instead.
    rules = _rule(numbers["clone3"], [_refuse(errno.ENOSYS)])
    body = [_op(_LOAD, _ARGUMENT[0]), _op(_JUMP_ANY_BIT, _CLONE_NEW_NAMESPACE, 0, 1), _refuse(errno.EPERM)]
    if not policy.execute:
        body += [_op(_JUMP_ANY_BIT, _CLONE_THREAD, 1, 0), _refuse(errno.EPERM)]
        for name in ("fork", "vfork"):
            if name in numbers:
                rules += _rule(numbers[name], [_refuse(errno.EPERM)])
    return rules + _rule(numbers["clone"], [*body, _ALLOWED])


def _signal_rules(numbers: dict[str, int], policy: Policy) -> list[bytes]:
    rules: list[bytes] = []
    for name, commands in _OWNER_COMMANDS.items():
        rules += _rule(numbers[name], _refuse_values(1, commands, errno.EPERM))
    positive = [identity for identity in policy.protected if identity > 0]
    rules += _rule(numbers["pidfd_open"], _refuse_values(0, positive, errno.EPERM))
    if not policy.execute:
        own = [] if policy.own is None else [_op(_LOAD, _ARGUMENT[0]), _op(_JUMP_EQUAL, policy.own, 0, 1), _ALLOWED]
        return rules + [op for name in ("kill", "tgkill") for op in _rule(numbers[name], [*own, _refuse(errno.EPERM)])]
    rules += _rule(numbers["kill"], _refuse_values(0, [-1, *policy.protected], errno.EPERM))
    return rules + _rule(numbers["tgkill"], _refuse_values(0, positive, errno.EPERM))


def program(policy: Policy, machine: Architecture) -> bytes:
    """Returns the BPF program for a policy: pure, so that it can be tested without being installed."""
    numbers = machine.numbers
    code = [_op(_LOAD, _ARCH), _op(_JUMP_EQUAL, machine.audit, 1, 0), _op(_RETURN, _KILL), _op(_LOAD, _NUMBER)]
    if machine is ARCHITECTURES["x86_64"]:
        code += [_op(_JUMP_AT_LEAST, _X32_BIT, 0, 1), _op(_RETURN, _KILL)]
    for name in _ALWAYS_REFUSED:
        code += _rule(numbers[name], [_refuse(errno.EPERM)])
    for name in _SELF_ONLY:
        code += _rule(
            numbers[name], [_op(_LOAD, _ARGUMENT[0]), _op(_JUMP_EQUAL, 0, 1, 0), _refuse(errno.EPERM), _ALLOWED]
        )
    others = [_op(_LOAD, _ARGUMENT[1]), _op(_JUMP_EQUAL, 0, 1, 0), _refuse(errno.EPERM)]
    code += _rule(numbers["setpriority"], [*others, *_refuse_values(0, [_PRIO_USER], errno.EPERM)])
    if not policy.execute:
        code += _rule(numbers["execveat"], [_refuse(errno.EPERM)])
        code += _rule(numbers["execve"], _only(policy.once) if policy.once else [_refuse(errno.EPERM)])
    if not policy.lasting_ipc:
        for name in _LASTING_IPC:
            code += _rule(numbers[name], [_refuse(errno.EPERM)])
    if not policy.network:
        code += _rule(
            numbers["socket"],
            [_op(_LOAD, _ARGUMENT[0]), _op(_JUMP_EQUAL, 1, 1, 0), _refuse(errno.EACCES), _ALLOWED],  # 1: AF_UNIX
        )
    code += _clone_rules(numbers, policy)
    code += _signal_rules(numbers, policy)
    return b"".join([*code, _ALLOWED])


def exec_once(path: str, argv: Sequence[str], environment: Mapping[str, str], policy: Policy) -> NoReturn:
    """Installs the filter of a policy and becomes another program, which then may not become a third one.

    A filter that forbids `execve` has to be there before the program is, and has to let this one call through. It knows
    it by the addresses of its arguments: three random ones, which nobody but this process has ever known, and of which
    nothing is left in memory once the program runs. What comes after would have to guess 100 bits. Raises OSError.
    """
    arguments = (path.encode(), _vector(argv), _vector([f"{name}={value}" for name, value in environment.items()]))
    kept = [_place(argument) for argument in arguments]
    addresses = (kept[0], kept[1], kept[2])
    machine = architecture()
    install(program(replace(policy, once=addresses), machine))
    linux.syscall(machine.numbers["execve"], *(ctypes.c_void_p(address) for address in addresses))
    raise OSError(errno.ENOEXEC, "execve returned")


def _vector(words: Sequence[str]) -> tuple[bytes, ...]:
    return tuple(word.encode() for word in words)


def _place(content: bytes | tuple[bytes, ...]) -> int:
    """Writes a string, or an array of strings that ends with NULL, to a random address and returns it."""
    address = _map_somewhere()
    if isinstance(content, bytes):
        ctypes.memmove(address, content + b"\0", len(content) + 1)
        return address
    text = address + 8 * (len(content) + 1)
    for index, word in enumerate(content):
        ctypes.memmove(text, word + b"\0", len(word) + 1)
        ctypes.memmove(address + 8 * index, struct.pack("=Q", text), 8)
        text += len(word) + 1
    return address


def _map_somewhere() -> int:
    """Maps memory at a random place and returns a random address in its first page. Raises OSError."""
    for _ in range(_TRIES):
        start = (_LOWEST + int.from_bytes(os.urandom(8), "big") % (_HIGHEST - _LOWEST)) & -_PAGE
        found = linux.map_memory(start, _MAPPED)
        if found == start:
            return start + 8 * (int.from_bytes(os.urandom(2), "big") % (_PAGE // 8))
    raise OSError(errno.ENOMEM, "no free address was found")


def architecture() -> Architecture:
    """Returns this machine's architecture. Raises OSError where the numbers are not known: fail closed."""
    name = platform.machine()
    if name not in ARCHITECTURES:
        raise OSError(errno.ENOSYS, f"no system call filter for {name}; known: {', '.join(sorted(ARCHITECTURES))}")
    return ARCHITECTURES[name]


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def install(filter_program: bytes) -> None:
    """Installs a filter for every thread of this process and all it starts, for good. Raises OSError.

    It needs no_new_privs. TSYNC makes it hold for threads that exist already: prctl(2) would confine the calling thread
    alone, and a skill's plain functions run in another one.
    """
    buffer = ctypes.create_string_buffer(filter_program, len(filter_program))
    description = _Program(len(filter_program) // 8, ctypes.cast(buffer, ctypes.c_void_p))
    number = architecture().numbers["seccomp"]
    blocking = linux.syscall(number, _SECCOMP_SET_MODE_FILTER, _SECCOMP_FILTER_FLAG_TSYNC, ctypes.byref(description))
    if blocking:
        raise OSError(errno.ESRCH, f"thread {blocking} could not be confined")


def protect(process: int) -> tuple[int, ...]:
    """Returns what to refuse so that a process and its group cannot be signalled."""
    try:
        return (process, -os.getpgid(process))
    except ProcessLookupError:
        return (process,)

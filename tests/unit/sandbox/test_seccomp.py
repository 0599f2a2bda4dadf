"""The system call filter, run by an interpreter of its own: what each machine's kernel would decide."""

import errno
import struct

import pytest

from openclaw_runtime.sandbox.runner.seccomp import ARCHITECTURES, Policy, program

ALLOW = 0x7FFF0000
REFUSE = 0x00050000
KILL = 0x80000000
RUNNER, GROUP, OWN, CHILD = 40, -41, 50, 51
PLAIN = Policy(execute=False, network=False, protected=(RUNNER, GROUP), own=OWN)
STARTS = Policy(execute=True, network=False, protected=(RUNNER, GROUP), own=OWN)


def decide(code: bytes, number: int, arch: int, *arguments: int) -> int:
    """Runs classic BPF, of which the filter uses loads, jumps and returns, and returns its verdict."""
    words = [argument & (1 << 64) - 1 for argument in (*arguments, 0, 0, 0, 0, 0, 0)[:6]]
    data = struct.pack("=IIQ6Q", number, arch, 0, *words)
    operations = list(struct.iter_unpack("=HBBI", code))
    value = at = 0
    while True:
        operation, yes, no, operand = operations[at]
        at += 1
        match operation:
            case 0x20:
                (value,) = struct.unpack_from("=I", data, operand)
            case 0x15:
                at += yes if value == operand else no
            case 0x35:
                at += yes if value >= operand else no
            case 0x45:
                at += yes if value & operand else no
            case 0x06:
                return int(operand)
            case _:
                raise AssertionError(f"operation {operation:#x}")


@pytest.mark.parametrize("machine", sorted(ARCHITECTURES))
@pytest.mark.parametrize(
    ("call", "arguments", "plain", "starts"),
    [
        ("fcntl", (3, 4, 2048), True, True),  # F_SETFL
        ("fcntl", (3, 1030, 100), True, True),  # F_DUPFD_CLOEXEC
        ("fcntl", (3, 6, 0), True, True),  # F_SETLK: git and SQLite
        ("fcntl", (3, 8, CHILD), False, False),  # F_SETOWN
        ("fcntl", (3, 10, 9), False, False),  # F_SETSIG
        ("fcntl", (3, 15, 1 << 40), False, False),  # F_SETOWN_EX
        ("fcntl", (3, 8 | 1 << 32, CHILD), False, False),  # the kernel looks at 32 bits of it
        ("ioctl", (3, 0x5421, 1), True, True),  # FIONBIO
        ("ioctl", (3, 0x5452, 1), True, True),  # FIOASYNC
        ("ioctl", (3, 0x5413, 1), True, True),  # TIOCGWINSZ
        ("ioctl", (3, 0x8901, 1), False, False),  # FIOSETOWN
        ("ioctl", (3, 0x8902, 1), False, False),  # SIOCSPGRP
        ("setpriority", (0, 0, 19), True, True),
        ("setpriority", (0, RUNNER, 19), False, False),
        ("setpriority", (2, 0, 19), False, False),
        ("kill", (OWN, 9), True, True),
        ("tgkill", (OWN, OWN + 1, 6), True, True),
        ("kill", (CHILD, 9), False, True),
        ("kill", (-CHILD, 9), False, True),
        ("tgkill", (CHILD, CHILD, 9), False, True),
        ("kill", (0, 9), False, True),
        ("kill", (RUNNER, 9), False, False),
        ("kill", (GROUP, 9), False, False),
        ("kill", (-1, 9), False, False),
        ("tgkill", (RUNNER, RUNNER, 9), False, False),
        ("pidfd_open", (RUNNER, 0), False, False),
        ("pidfd_open", (CHILD, 0), True, True),
    ],
)
def test_whom_a_skill_may_signal(
    machine: str, call: str, arguments: tuple[int, ...], plain: bool, starts: bool
) -> None:
    architecture = ARCHITECTURES[machine]
    for policy, allowed in ((PLAIN, plain), (STARTS, starts)):
        verdict = decide(program(policy, architecture), architecture.numbers[call], architecture.audit, *arguments)
        assert verdict == (ALLOW if allowed else REFUSE | errno.EPERM)


def test_calls_of_another_architecture_end_the_process() -> None:
    x86, arm = ARCHITECTURES["x86_64"], ARCHITECTURES["aarch64"]
    assert decide(program(PLAIN, x86), arm.numbers["kill"], arm.audit, OWN) == KILL
    assert decide(program(PLAIN, arm), x86.numbers["kill"], x86.audit, OWN) == KILL

"""Facts about the machine."""

from __future__ import annotations

import platform

CAP_SYS_RESOURCE = 24
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "arm64": "arm64"}


def goarch() -> str:
    """The machine's architecture as Go and Debian spell it; the kernel's own name where it is another one."""
    machine = platform.machine()
    return ARCHITECTURES.get(machine, machine)


def has_capability(status: str, bit: int) -> bool:
    """Whether CapEff in /proc/PID/status holds a capability (numbers: linux/capability.h)."""
    line = next(line for line in status.splitlines() if line.startswith("CapEff:"))
    return bool(int(line.split()[1], 16) >> bit & 1)

"""CPU time and memory of a process, from /proc (https://man7.org/linux/man-pages/man5/proc.5.html)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Usage:
    """One reading of a process."""

    cpu_seconds: float
    rss_bytes: int
    peak_rss_bytes: int


def parse_cpu_seconds(stat: str, ticks_per_second: int) -> float:
    """User and system time (fields 14 and 15) from /proc/PID/stat; the name in field 2 may hold spaces."""
    fields = stat.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / ticks_per_second


def parse_memory(status: str) -> tuple[int, int]:
    """Resident and peak resident bytes from /proc/PID/status."""
    values = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    return _bytes(values["VmRSS"]), _bytes(values["VmHWM"])


def _bytes(value: str) -> int:
    number, unit = value.split()
    if unit != "kB":
        raise ValueError(f"unit of memory is {unit!r}, expected kB")
    return int(number) * 1024


def usage(pid: int) -> Usage:
    """Raises FileNotFoundError when the process is gone."""
    folder = Path(f"/proc/{pid}")
    cpu = parse_cpu_seconds((folder / "stat").read_text(), os.sysconf("SC_CLK_TCK"))
    resident, peak = parse_memory((folder / "status").read_text())
    return Usage(cpu, resident, peak)

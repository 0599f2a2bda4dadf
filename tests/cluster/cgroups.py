"""Control groups of a node: a group of its own on the host, which the cgroup namespace then shows as the root.

Everything the node runs stays below the caller's limits, and a leftover tree can be recognised and removed.
v1: https://docs.kernel.org/admin-guide/cgroup-v1/cgroups.html, v2: https://docs.kernel.org/admin-guide/cgroup-v2.html
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tests.cluster.processes import poll

V1_CONTROLLERS = ("cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids")
V1_NAMED = "name=systemd"
CPU_WEIGHTS = {"cpu.shares": "16384", "cpu.weight": "1000"}
"""File of v1 or v2 → the node's weight: it is many processes, and would else count as one beside a single busy one."""
V2_CONTROLLERS = ("cpu", "cpuset", "io", "memory", "pids")


@dataclass(frozen=True)
class Hierarchy:
    """One mounted cgroup tree on the host, and the folder of the calling process in it."""

    controllers: tuple[str, ...]
    mount: Path
    caller: Path


@dataclass(frozen=True)
class CgroupHost:
    """The trees a node joins: several with v1, the unified one with v2."""

    version: Literal[1, 2]
    hierarchies: tuple[Hierarchy, ...]

    def groups(self, name: str) -> list[Path]:
        """The folder of the node's group in each tree."""
        return [each.caller / name for each in self.hierarchies]


def detect(mountinfo: str, own_cgroups: str) -> CgroupHost:
    """Read from /proc/self/mountinfo and /proc/self/cgroup.

    v1 wins when the memory controller is mounted there: a controller can be in one tree only.
    With v2 the node's group lies at the root of the tree, because a group that holds processes cannot hand controllers
    to its children.
    """
    own = {}
    for line in own_cgroups.splitlines():
        _, controllers, path = line.split(":", 2)
        own[controllers] = path
    v1: list[Hierarchy] = []
    v2: Hierarchy | None = None
    seen: set[tuple[str, ...]] = set()
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        fields, (kind, _, options) = left.split(), right.split(maxsplit=2)
        mount_root, mount = fields[3], Path(fields[4])
        if kind == "cgroup2" and v2 is None:
            v2 = Hierarchy((), mount, mount)
        if kind != "cgroup":
            continue
        names = tuple(each for each in options.split(",") if each in V1_CONTROLLERS or each == V1_NAMED)
        if not names or names in seen:
            continue
        seen.add(names)
        path = next((own[key] for key in own if set(key.split(",")) == set(names)), "/")
        v1.append(Hierarchy(names, mount, mount / os.path.relpath(path, mount_root)))
    if any("memory" in each.controllers for each in v1):
        return CgroupHost(1, tuple(v1))
    return CgroupHost(2, (v2,) if v2 else ())


def host() -> CgroupHost:
    return detect(Path("/proc/self/mountinfo").read_text(), Path("/proc/self/cgroup").read_text())


def create(cgroups: CgroupHost, name: str) -> None:
    """Make the node's group in each tree. A process joins by writing 0 to each cgroup.procs."""
    if cgroups.version == 2:
        for each in cgroups.hierarchies:
            enable_v2_controllers(each.mount)
    for hierarchy, group in zip(cgroups.hierarchies, cgroups.groups(name), strict=True):
        group.mkdir(exist_ok=True)
        for file, weight in CPU_WEIGHTS.items():
            if (group / file).exists():
                (group / file).write_text(weight)
        if "cpuset" in hierarchy.controllers:
            # A new v1 cpuset has no CPU and no memory node, and no process may join it before it has.
            for file in ("cpuset.cpus", "cpuset.mems"):
                (group / file).write_text((hierarchy.caller / file).read_text())


def members(groups: Iterable[Path]) -> set[int]:
    """The processes (host pids) in these groups, at any depth."""
    found: set[int] = set()
    for group in groups:
        for folder, _, _ in os.walk(group):
            with suppress(OSError):
                found.update(int(pid) for pid in (Path(folder) / "cgroup.procs").read_text().split())
    return found - {0}


def enable_v2_controllers(group: Path) -> None:
    available = (group / "cgroup.controllers").read_text().split()
    for controller in V2_CONTROLLERS:
        if controller in available:
            with suppress(OSError):
                (group / "cgroup.subtree_control").write_text(f"+{controller}")


def remove(groups: Collection[Path], *, seconds: float = 10.0) -> None:
    """Remove these groups, deepest first; tried until time is over, as their processes may still be ending."""

    def gone() -> bool:
        for group in groups:
            for folder, _, _ in os.walk(group, topdown=False):
                with suppress(OSError):
                    Path(folder).rmdir()
        return not any(group.exists() for group in groups)

    poll(gone, seconds=seconds)

"""What the host must have, checked before anything is changed: every missing thing at once, each with its fix."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.errors import PreflightError, Problem
from tests.cluster.host import ARCHITECTURES
from tests.cluster.processes import port_is_free

GIB = 1024**3
BUILD_DISK_GIB = 12
RUN_DISK_GIB = 4
MEMORY_GIB = 3
PACKAGES = {
    "catatonit": "catatonit",
    "conntrack": "conntrack",
    "containerd": "containerd",
    "ctr": "containerd",
    "debootstrap": "debootstrap",
    "buildah": "buildah",
    "busybox": "busybox-static",
    "ip": "iproute2",
    "ipset": "ipset",
    "iptables": "iptables",
    "nft": "nftables",
    "runc": "runc",
    "/usr/lib/cni/bridge": "containernetworking-plugins",
}
"""Program → the Debian package it comes from."""
TEST_PACKAGES = {
    "bwrap": "bubblewrap",
    "curl": "curl",
    "git": "git",
    "openssl": "openssl",
    "redis-cli": "redis-tools",
    "redis-server": "redis-server",
    "squid": "squid-openssl",
    "/usr/lib/postgresql/15/bin/initdb": "postgresql-15",
}
"""What the integration tests start besides."""


@dataclass(frozen=True)
class Facts:
    """What was found on the host. Sizes are GiB."""

    root: bool
    machine: str
    debian: bool
    go: bool
    programs_built: bool
    missing_packages: tuple[str, ...]
    free_disk: float
    cache: Path
    available_memory: float
    port: int | None
    port_free: bool
    bridge_netfilter: bool


def problems(facts: Facts) -> list[Problem]:
    """In the order in which a person would fix them."""
    found: list[Problem] = []

    def need(condition: bool, what: str, fix: str) -> None:
        if not condition:
            found.append(Problem(what, fix))

    need(facts.root, "the cluster needs root: it makes namespaces, mounts and bridges", "run it with sudo or as root")
    need(
        facts.machine in ARCHITECTURES,
        f"the machine is {facts.machine}; programs and images are made for x86_64 and arm64",
        "use such a host",
    )
    packages = " ".join(facts.missing_packages)
    need(
        facts.debian or not packages,
        f"Debian packages are missing and this host has no apt: {packages}",
        "install their programs by hand, or use a Debian 12 host, or CLUSTER=kind",
    )
    need(
        facts.go or facts.programs_built,
        "no Go toolchain (`go`) on PATH, and the cluster's programs are not built yet",
        "install Go 1.24 or newer (https://go.dev/doc/install)",
    )
    disk = RUN_DISK_GIB if facts.programs_built else BUILD_DISK_GIB
    need(
        facts.free_disk >= disk,
        f"{facts.free_disk:.1f} GiB are free below {facts.cache}, {disk} are needed",
        "free some, or set OPENCLAW_CACHE_DIR to a folder on a larger disk",
    )
    need(
        facts.available_memory >= MEMORY_GIB,
        f"{facts.available_memory:.1f} GiB of memory are available, {MEMORY_GIB} are needed",
        "end other programs or use a larger host",
    )
    need(
        facts.port_free,
        f"port {facts.port} on 127.0.0.1 is taken",
        f"end its owner (ss -ltnp 'sport = {facts.port}'), or choose another with --port",
    )
    need(
        facts.bridge_netfilter,
        "the kernel does not filter bridged packets (no br_netfilter)",
        "modprobe br_netfilter",
    )
    return found


def missing_packages(exists: Callable[[str], bool], packages: Mapping[str, str] = PACKAGES) -> tuple[str, ...]:
    """The Debian packages of programs that `exists` does not know."""
    return tuple(sorted({package for program, package in packages.items() if not exists(program)}))


def program_exists(program: str) -> bool:
    found = shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    return Path(program).exists() if program.startswith("/") else found is not None


def meminfo_available_gib(meminfo: str) -> float:
    """MemAvailable of /proc/meminfo, which counts kB."""
    line = next(line for line in meminfo.splitlines() if line.startswith("MemAvailable:"))
    return int(line.split()[1]) * 1024 / GIB


def gather(cache: Path, *, port: int | None, programs_built: bool) -> Facts:
    """`port`: the loopback port the cluster will use; None when a free one is chosen."""
    existing = next(folder for folder in (cache, *cache.parents) if folder.exists())
    return Facts(
        root=os.geteuid() == 0,
        machine=os.uname().machine,
        debian=Path("/etc/debian_version").exists() and shutil.which("apt-get") is not None,
        go=shutil.which("go") is not None,
        programs_built=programs_built,
        missing_packages=missing_packages(program_exists),
        free_disk=shutil.disk_usage(existing).free / GIB,
        cache=cache,
        available_memory=meminfo_available_gib(Path("/proc/meminfo").read_text()),
        port=port,
        port_free=port is None or port_is_free(port),
        bridge_netfilter=Path("/proc/sys/net/bridge").exists() or shutil.which("modprobe") is not None,
    )


def check(cache: Path, *, port: int | None, programs_built: bool) -> None:
    """Raises PreflightError with one line per problem."""
    found = problems(gather(cache, port=port, programs_built=programs_built))
    if found:
        raise PreflightError(found)

"""Everything the cluster is made of that a bare host lacks: Debian packages, kernel modules, Go programs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from tests.cluster import gotools, preflight
from tests.cluster.paths import Cache
from tests.cluster.processes import run
from tests.cluster.progress import Progress

KERNEL_MODULES = ("br_netfilter", "overlay", "nf_conntrack", "nf_tables", "ip_tables", "xt_comment", "xt_mark")


def programs_built(cache: Cache) -> bool:
    return all(gotools.module(name).built(cache) for name in gotools.MODULES)


def ensure(cache: Cache, progress: Progress, packages: Mapping[str, str] = preflight.PACKAGES) -> None:
    """Bring the host up to what is needed; does nothing, in no time, when all of it is there.

    Raises ComponentError with the end of the log of what failed.
    """
    missing = preflight.missing_packages(preflight.program_exists, packages)
    logs = cache.root / "logs"
    if missing:
        with progress.step(f"Debian packages: {' '.join(missing)}"):
            environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
            run(["apt-get", "update", "-qq"], env=environment, log=logs / "apt.log")
            install = ["apt-get", "install", "--yes", "--no-install-recommends", *missing]
            # Their services would run on the host, beside the cluster.
            with _no_services_started():
                run(install, env=environment, log=logs / "apt.log")
    if not Path("/proc/sys/net/bridge").exists():
        run(["modprobe", "--all", *KERNEL_MODULES])
    for name in gotools.MODULES:
        source = gotools.module(name)
        if not source.built(cache):
            programs = ", ".join(gotools.programs_of(source.gomod))
            with progress.step(f"build {name}: {programs} (once; log {logs / f'build-{name}.log'})"):
                gotools.build(source, cache, os.environ, logs / f"build-{name}.log")


class _no_services_started:  # noqa: N801 (used like a function)
    """policy-rc.d answering 101 keeps packages from starting their services (Debian policy, invoke-rc.d)."""

    path = Path("/usr/sbin/policy-rc.d")

    def __enter__(self) -> None:
        self.created = not self.path.exists()
        if self.created:
            self.path.write_text("#!/bin/sh\nexit 101\n")
            self.path.chmod(0o755)

    def __exit__(self, *_: object) -> None:
        if self.created:
            self.path.unlink(missing_ok=True)

"""The three programs under test: the operator, its Go twin, and the limit. Each is one process of its own identity."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Literal

from tests.bench.procfs import Usage, usage
from tests.cluster.apiserver import ApiServer
from tests.cluster.errors import last_lines
from tests.cluster.paths import REPOSITORY, Cache
from tests.cluster.processes import free_ports, run

SubjectName = Literal["limit", "twin", "operator"]
SUBJECTS: tuple[SubjectName, ...] = ("limit", "twin", "operator")
TWIN = Path(__file__).parent / "twin"
STOP_SECONDS = 20.0


def user_of(name: SubjectName) -> str:
    """The user name it has in the audit log."""
    return f"bench-{name}"


def twin_digest(folder: Path = TWIN) -> str:
    """A short digest of everything the twin is built from."""
    content = hashlib.sha256()
    for file in [*sorted(folder.glob("*.go")), folder / "go.mod", folder / "go.sum"]:
        content.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return content.hexdigest()[:16]


def build_twin(cache: Cache) -> Path:
    """The built twin; built once per content. Raises CommandError with the compiler's words when it fails."""
    target = cache.bin / f"bench-twin-{twin_digest()}" / "twin"
    if not target.exists():
        staging = target.with_name(f".twin.{os.getpid()}")
        target.parent.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, "CGO_ENABLED": "0"}
        run(["go", "build", "-trimpath", "-ldflags", "-s -w", "-o", staging, "."], cwd=TWIN, env=environment)
        staging.rename(target)
    return target


@dataclass
class Subject:
    """A running program. `stop` ends it the way Kubernetes does: SIGTERM, then SIGKILL."""

    name: str
    command: list[str]
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    def start(self, *, stdin: int | IO[bytes] = subprocess.DEVNULL) -> None:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as file:
            self.process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *self.command],
                stdin=stdin,
                stdout=file,
                stderr=subprocess.STDOUT,
                env={**os.environ, **self.environment},
                cwd=REPOSITORY,
                start_new_session=True,
            )

    @property
    def running(self) -> subprocess.Popen[bytes]:
        if self.process is None:
            raise RuntimeError(f"{self.name} was not started")
        return self.process

    @property
    def pid(self) -> int:
        return self.running.pid

    def check(self) -> None:
        """Raises RuntimeError with the end of its log when it has ended."""
        code = self.running.poll()
        if code is not None:
            raise RuntimeError(f"{self.name} ended with {code}; last lines of {self.log}:\n{last_lines(self.log, 30)}")

    def usage(self) -> Usage:
        self.check()
        return usage(self.pid)

    def kill(self) -> None:
        """SIGKILL, as the kernel's OOM killer would; returns when it is gone."""
        self.running.kill()
        self.running.wait()

    def stop(self) -> None:
        """SIGTERM and wait. Does nothing when it has ended already."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()


def operator(kubeconfig: Path, log: Path, **settings: str) -> Subject:
    """The operator as its image runs it, on loopback ports of its own; `settings` are OPENCLAW_OPERATOR_*."""
    metrics, health = free_ports(2)
    environment = {
        "KUBECONFIG": str(kubeconfig),
        "OPENCLAW_OPERATOR_METRICS_PORT": str(metrics),
        "OPENCLAW_OPERATOR_HEALTH_PORT": str(health),
        **{f"OPENCLAW_OPERATOR_{key.upper()}": value for key, value in settings.items()},
    }
    return Subject("operator", [str(Path(sys.executable).parent / "openclaw-operator")], log, environment)


def twin(program: Path, kubeconfig: Path, templates: Path, log: Path) -> Subject:
    command = [str(program), f"--twin-kubeconfig={kubeconfig}", f"--templates={templates}"]
    return Subject("twin", command, log)


def limit(server: ApiServer, templates: Path, log: Path) -> Subject:
    command = [sys.executable, "-m", "tests.bench.limit", f"--server={server.url}", f"--pki={server.pki}"]
    return Subject("limit", [*command, f"--identity={user_of('limit')}", f"--templates={templates}"], log)

"""The same cluster on Docker or podman: kind (https://kind.sigs.k8s.io) with kind-config.yaml.

What kind lacks, metrics, is added from the program and manifest of the local cluster. Storage (a default class that
waits for the first consumer), DNS and enforced network policies it brings along.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.cluster import addons, gotools, images
from tests.cluster.errors import ClusterError, PreflightError, Problem
from tests.cluster.paths import PACKAGE, REPOSITORY, Cache
from tests.cluster.processes import run
from tests.cluster.progress import Progress

ENGINES = ("docker", "podman")
CONFIG = REPOSITORY / "kind-config.yaml"
READY = "120s"
MODULES = ("kubernetes", "metrics-server")
METRICS = "metrics-server"
Run = Callable[[list[str]], str]


def answering_engine(answers: Callable[[str], bool]) -> str | None:
    """The first container engine that answers."""
    return next((engine for engine in ENGINES if answers(engine)), None)


def engine_answers(engine: str) -> bool:
    if shutil.which(engine) is None:
        return False
    try:
        return subprocess.run([engine, "info"], capture_output=True, check=False, timeout=10).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def choose(wanted: str, answers: Callable[[str], bool]) -> str | None:
    """The engine when the cluster is to be kind, None when it is to be local.

    `wanted` is the variable CLUSTER: auto (or empty), kind or local. Raises PreflightError.
    """
    if wanted not in {"", "auto", "kind", "local"}:
        raise PreflightError([Problem(f"CLUSTER={wanted} is not known", "CLUSTER=auto, kind or local")])
    engine = None if wanted == "local" else answering_engine(answers)
    if wanted == "kind" and engine is None:
        message = "CLUSTER=kind, but neither docker nor podman answers"
        raise PreflightError([Problem(message, "start one of them, or CLUSTER=local")])
    return engine


class KindCluster:
    """The commands of the local cluster, on kind. Public methods raise ClusterError."""

    def __init__(
        self, cache: Cache, name: str, progress: Progress, engine: str, run_command: Run | None = None
    ) -> None:
        self.cache = cache
        self.name = "openclaw" if name == "default" else f"openclaw-{name}"
        self.progress = progress
        self.engine = engine
        self._run = run_command or self._run_here

    @property
    def kubeconfig(self) -> Path:
        return self.cache.root / "clusters" / f"kind-{self.name}" / "kubeconfig"

    @property
    def kind_program(self) -> str:
        """kind from PATH, else the one built from its Go module."""
        return shutil.which("kind") or str(gotools.module("kind").output(self.cache) / "kind")

    def preflight(self) -> None:
        built = all(gotools.module(name).built(self.cache) for name in MODULES)
        if not built and shutil.which("go") is None:
            problem = "no Go toolchain (`go`) on PATH, and kubectl, helm and metrics-server are not built yet"
            raise PreflightError([Problem(problem, "install Go 1.24 or newer (https://go.dev/doc/install)")])

    def deps(self) -> None:
        for name in MODULES if shutil.which("kind") else (*MODULES, "kind"):
            source = gotools.module(name)
            if not source.built(self.cache):
                with self.progress.step(f"build the programs of {name} (once)"):
                    gotools.build(source, self.cache, os.environ, self.cache.root / "logs" / f"build-{name}.log")

    def running(self) -> bool:
        return self.name in self._run([self.kind_program, "get", "clusters"]).split()

    def healthy(self) -> bool:
        return self.running() and self.kubeconfig.exists()

    def up(self, port: int | None = None) -> None:
        """Start it, or do nothing when it is there. kind chooses the port itself: a given one is refused."""
        if port is not None:
            raise ClusterError("--port is for the local cluster; fix: set networking.apiServerPort in kind-config.yaml")
        self.preflight()
        self.deps()
        if not self.running():
            with self.progress.step(f"kind cluster {self.name} on {self.engine}"):
                create = ["create", "cluster", "--name", self.name, "--config", str(CONFIG), "--wait", READY]
                self._run([self.kind_program, *create])
        self.kubeconfig.parent.mkdir(parents=True, exist_ok=True)
        self.kubeconfig.touch(mode=0o600)
        self.kubeconfig.write_text(self._run([self.kind_program, "get", "kubeconfig", "--name", self.name]))
        with self.progress.step("metrics"):
            archive = next(each for each in addons.system_images(self.cache) if METRICS in each.name)
            self._run([self.kind_program, "load", "image-archive", str(archive.path), "--name", self.name])
            run([*self.kubectl_command(), "apply", "--server-side", "-f", "-"], stdin=metrics_manifest())

    def down(self) -> None:
        with self.progress.step(f"remove kind cluster {self.name}"):
            self._run([self.kind_program, "delete", "cluster", "--name", self.name])
            self.kubeconfig.unlink(missing_ok=True)

    def restart(self, *, control_plane_only: bool) -> None:
        node = f"{self.name}-control-plane"
        what = ["exec", node, "systemctl", "restart", "kubelet"] if control_plane_only else ["restart", node]
        with self.progress.step(f"restart {node}"):
            self._run([self.engine, *what])
            self._run(
                [*self.kubectl_command(), "wait", "--for=condition=Ready", "nodes", "--all", f"--timeout={READY}"]
            )

    def build(self, names: list[str]) -> list[str]:
        """Build with the engine, whose cache knows what changed. Returns the tags."""
        chosen = [images.IMAGES[name] for name in names]
        for image in chosen:
            with self.progress.step(f"image {image.name}"):
                self._run(build_command(self.engine, image, os.environ))
        return [tag for image in chosen for tag in image.tags]

    def load(self, tags: list[str]) -> None:
        with self.progress.step(f"load {len(tags)} images"):
            self._run([self.kind_program, "load", "docker-image", "--name", self.name, *tags])

    def kubectl_command(self) -> list[str]:
        kubectl = gotools.tool(self.cache, "kubernetes", "kubectl")
        return [str(kubectl), f"--kubeconfig={self.kubeconfig}"]

    def exec_net_command(self) -> list[str]:
        return [self.engine, "exec", "--interactive", f"{self.name}-control-plane"]

    def _run_here(self, command: list[str]) -> str:
        return run(command, env={**os.environ, "KIND_EXPERIMENTAL_PROVIDER": self.engine}, cwd=REPOSITORY)


def build_command(engine: str, image: images.Image, environment: Mapping[str, str]) -> list[str]:
    """`docker build` of one image on its public base; the engine has the host's proxy and CA settings of its own."""
    names = [name for name in images.BUILD_ARGUMENTS if name.startswith("PIP_") and environment.get(name)]
    command = [engine, "build", *(f"--build-arg={name}={environment[name]}" for name in names)]
    if image.target:
        command.append(f"--target={image.target}")
    command += [f"--tag={tag}" for tag in image.tags]
    return [*command, f"--file={REPOSITORY / image.dockerfile}", str(REPOSITORY)]


def metrics_manifest() -> str:
    """As for the local cluster, but kind's kubelets serve with certificates they signed themselves."""
    text = (PACKAGE / "manifests" / f"{METRICS}.yaml").read_text()
    return text.replace("--kubelet-certificate-authority=/ca/ca.crt", "--kubelet-insecure-tls")

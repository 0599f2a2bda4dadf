"""Where the demo runs: kind when a container engine answers, else the local cluster of tests/cluster."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from tests.cluster import deps, gotools, preflight
from tests.cluster.builder import Builder
from tests.cluster.errors import ClusterError
from tests.cluster.lifecycle import DEFAULT_NAME, LocalCluster
from tests.cluster.paths import REPOSITORY, Cache
from tests.cluster.progress import Progress
from tests.demo.errors import SetUpError

IMAGES = ("operator", "runtime", "sandbox", "testkit")
"""The images every kind of cluster builds, as openclaw.local/<name>:test."""
STORES = ("postgresql", "redis")
"""What a cluster without a registry needs besides."""


class Cluster(Protocol):
    """A cluster the demo can bring up by itself. Methods raise ClusterError or SetUpError."""

    title: str

    @property
    def values(self) -> Sequence[Path]:
        """Files with values for the chart."""

    def check(self) -> None:
        """What the host lacks, before anything is changed."""

    def check_way_out(self) -> None:
        """Whether pods reach a model on the internet."""

    def install_tools(self) -> None:
        """Programs and packages; nothing when they are there."""

    def up(self) -> None: ...

    def build_images(self) -> None: ...

    def load_images(self) -> list[str]:
        """Names of the images that are new to the cluster."""

    def down(self) -> None: ...

    def running(self) -> bool: ...

    @property
    def kubeconfig(self) -> Path: ...


VALUES = REPOSITORY / "tests" / "demo"


class Local:
    """The one-node cluster of tests/cluster."""

    title = "local cluster (tests/cluster)"
    values = (VALUES / "values.yaml", VALUES / "values-local.yaml")

    def __init__(self, cache: Cache, progress: Progress) -> None:
        self.cache = cache
        self.progress = progress
        self.cluster = LocalCluster(cache, DEFAULT_NAME, progress)
        self.builder = Builder(cache, progress)

    def check(self) -> None:
        preflight.check(self.cache.root, port=None, programs_built=deps.programs_built(self.cache))

    def check_way_out(self) -> None:
        raise SetUpError(
            "OPENAI_API_KEY or OPENAI_BASE_URL is set, but no packet leaves the local cluster; "
            "fix: CLUSTER=kind, or unset both for the stand-in"
        )

    def install_tools(self) -> None:
        deps.ensure(self.cache, self.progress)

    def up(self) -> None:
        self.cluster.up()

    def build_images(self) -> None:
        self.builder.build([*IMAGES, *STORES])

    def load_images(self) -> list[str]:
        return self.cluster.images.load(self.builder.archives([*IMAGES, *STORES]))

    def down(self) -> None:
        self.cluster.down()

    def running(self) -> bool:
        return self.cluster.healthy()

    @property
    def kubeconfig(self) -> Path:
        return self.cluster.paths.kubeconfig


class Kind:
    """kind on Docker or podman."""

    values = (VALUES / "values.yaml",)
    name = "openclaw"

    def __init__(self, cache: Cache, progress: Progress, engine: str) -> None:
        self.cache = cache
        self.progress = progress
        self.engine = engine
        self.title = f"kind on {engine}"
        self.environment = {**os.environ, "KIND_EXPERIMENTAL_PROVIDER": engine}

    def check(self) -> None:
        if shutil.which("kind") is None:
            raise SetUpError("kind is not on PATH; fix: go install sigs.k8s.io/kind@latest, or CLUSTER=local")
        if not deps.programs_built(self.cache) and shutil.which("go") is None:
            raise SetUpError(
                "helm and kubectl are built with Go, which is not on PATH; fix: https://go.dev/doc/install"
            )

    def check_way_out(self) -> None:
        """Pods of kind go out through the engine's network."""

    def install_tools(self) -> None:
        for name in ("kubernetes",):
            source = gotools.module(name)
            if not source.built(self.cache):
                with self.progress.step("build kubectl and helm (once)"):
                    gotools.build(source, self.cache, os.environ, self.cache.root / "logs" / f"build-{name}.log")

    def up(self) -> None:
        if not self.running():
            config = str(REPOSITORY / "kind-config.yaml")
            self._run("kind", "create", "cluster", "--name", self.name, "--config", config, "--wait", "120s")
        self.kubeconfig.parent.mkdir(parents=True, exist_ok=True)
        self.kubeconfig.write_text(self._run("kind", "get", "kubeconfig", "--name", self.name))
        self.kubeconfig.chmod(0o600)

    def build_images(self) -> None:
        for name, arguments in (
            ("operator", ["-f", "operator/Dockerfile"]),
            ("runtime", ["-f", "runtime-image/Dockerfile", "--target", "gateway"]),
            ("sandbox", ["-f", "runtime-image/Dockerfile", "--target", "sandbox"]),
            ("testkit", ["-f", "tests/cluster/images/testkit/Dockerfile"]),
        ):
            self._run(self.engine, "build", "--quiet", *arguments, "-t", f"openclaw.local/{name}:test", str(REPOSITORY))

    def load_images(self) -> list[str]:
        images = [f"openclaw.local/{name}:test" for name in IMAGES]
        self._run("kind", "load", "docker-image", "--name", self.name, *images)
        return images

    def down(self) -> None:
        self._run("kind", "delete", "cluster", "--name", self.name)
        self.kubeconfig.unlink(missing_ok=True)

    def running(self) -> bool:
        return self.name in self._run("kind", "get", "clusters").split()

    @property
    def kubeconfig(self) -> Path:
        return self.cache.root / "clusters" / "kind" / "kubeconfig"

    def _run(self, *command: str) -> str:
        result = subprocess.run(
            command, capture_output=True, text=True, check=False, cwd=REPOSITORY, env=self.environment
        )
        if result.returncode:
            raise ClusterError(f"`{' '.join(command)}` ended with {result.returncode}:\n{result.stderr.rstrip()}")
        return result.stdout


def engine(run: Mapping[str, bool]) -> str | None:
    """The container engine to use, of those that answer."""
    return next((name for name in ("docker", "podman") if run.get(name)), None)


def answering_engines() -> dict[str, bool]:
    """Which container engines are installed and answer."""
    found = {}
    for name in ("docker", "podman"):
        if shutil.which(name) is None:
            continue
        try:
            answer = subprocess.run([name, "info"], capture_output=True, check=False, timeout=10)
        except subprocess.TimeoutExpired:
            continue
        found[name] = answer.returncode == 0
    return found


def choose(wanted: str, cache: Cache, progress: Progress) -> Cluster:
    """The cluster for CLUSTER=auto|kind|local. Raises SetUpError for another value, or kind without an engine."""
    if wanted not in {"auto", "kind", "local"}:
        raise SetUpError(f"CLUSTER={wanted} is not known; fix: CLUSTER=auto, kind or local")
    if wanted == "local":
        return Local(cache, progress)
    found = engine(answering_engines())
    if found is not None:
        return Kind(cache, progress, found)
    if wanted == "kind":
        raise SetUpError("CLUSTER=kind, but neither docker nor podman answers; fix: start one, or CLUSTER=local")
    return Local(cache, progress)

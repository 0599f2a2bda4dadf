"""The two clusters of tests/cluster behind one set of methods: what the demo and the e2e tests need of them."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from tests.cluster import deps, kind, preflight
from tests.cluster.builder import Builder
from tests.cluster.kind import KindCluster
from tests.cluster.lifecycle import DEFAULT_NAME, LocalCluster
from tests.cluster.paths import REPOSITORY, Cache
from tests.cluster.progress import Progress
from tests.demo import relay

VALUES = REPOSITORY / "tests" / "demo"
IMAGES = ["operator", "runtime", "sandbox", "sandbox-node", "egress-proxy", "testkit"]
STORES = ["postgresql", "redis"]
"""What a cluster without a way to a registry needs besides."""


class Cluster(Protocol):
    """A cluster the demo brings up by itself. Methods raise ClusterError or SetUpError."""

    @property
    def title(self) -> str:
        """What to call it."""

    @property
    def values(self) -> Sequence[Path]:
        """Files with values for the chart."""

    @property
    def kubeconfig(self) -> Path:
        """Cluster administrator's."""

    def check(self) -> None:
        """Find out what the host lacks, before anything is changed."""

    def way_out(self, base_url: str) -> str:
        """Where pods reach the model's API at `base_url`."""

    def install_tools(self) -> None:
        """Programs and packages; nothing when they are there."""

    def up(self) -> None:
        """Start it; nothing when it runs."""

    def build_images(self) -> None:
        """Build what changed."""

    def load_images(self) -> list[str]:
        """Bring images into the cluster; returns the names of those that are new to it."""

    def revision(self) -> str:
        """Changes with the operator's image, whose tag stays the same."""

    def down(self) -> None:
        """Remove it."""

    def running(self) -> bool:
        """Whether it is up."""


class Local:
    """The one-node cluster on the bare host."""

    title = "local cluster (tests/cluster)"
    values = (VALUES / "values.yaml", VALUES / "values-local.yaml")

    def __init__(self, cache: Cache, progress: Progress) -> None:
        self.cache = cache
        self.progress = progress
        self.cluster = LocalCluster(cache, DEFAULT_NAME, progress)
        self.builder = Builder(cache, progress)

    @property
    def kubeconfig(self) -> Path:
        return self.cluster.paths.kubeconfig

    def check(self) -> None:
        if not self.running():
            preflight.check(self.cache.root, port=None, programs_built=deps.programs_built(self.cache))

    def way_out(self, base_url: str) -> str:
        return relay.start(base_url, self.cluster.require_running().init, self.cluster.paths)

    def install_tools(self) -> None:
        deps.ensure(self.cache, self.progress)

    def up(self) -> None:
        self.cluster.up()

    def build_images(self) -> None:
        self.builder.build([*IMAGES, *STORES])

    def load_images(self) -> list[str]:
        return self.cluster.images.load(self.builder.archives([*IMAGES, *STORES]))

    def revision(self) -> str:
        return self.builder.archives(["operator"])[0].digest

    def down(self) -> None:
        self.cluster.down()

    def running(self) -> bool:
        return self.cluster.healthy()


class Kind:
    """kind on Docker or podman. The stores are the public images there."""

    values = (VALUES / "values.yaml",)

    def __init__(self, cache: Cache, progress: Progress, engine: str) -> None:
        self.title = f"kind on {engine}"
        self.cluster = KindCluster(cache, DEFAULT_NAME, progress, engine)
        self.tags: list[str] = []

    @property
    def kubeconfig(self) -> Path:
        return self.cluster.kubeconfig

    def check(self) -> None:
        self.cluster.preflight()

    def way_out(self, base_url: str) -> str:
        """Pods go out through the engine's network."""
        return base_url

    def install_tools(self) -> None:
        self.cluster.deps()

    def up(self) -> None:
        self.cluster.up()

    def build_images(self) -> None:
        self.tags = self.cluster.build(IMAGES)

    def load_images(self) -> list[str]:
        self.cluster.load(self.tags)
        return self.tags

    def revision(self) -> str:
        command = [self.cluster.engine, "image", "inspect", "--format={{.Id}}", "openclaw.local/operator:test"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    def down(self) -> None:
        self.cluster.down()

    def running(self) -> bool:
        return self.cluster.healthy()


def choose(wanted: str, cache: Cache, progress: Progress) -> Cluster:
    """The cluster for CLUSTER=auto|kind|local. Raises PreflightError for another value, or kind without an engine."""
    local = Local(cache, progress)
    # A running local cluster is the one that is meant, whatever could be started beside it.
    if wanted in {"", "auto"} and local.cluster.running():
        return local
    engine = kind.choose(wanted, kind.engine_answers)
    return local if engine is None else Kind(cache, progress, engine)

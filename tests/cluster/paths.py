"""Where the test cluster keeps what it builds and runs: one cache folder outside the tree."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
REPOSITORY = PACKAGE.parent.parent


@dataclass(frozen=True)
class ClusterPaths:
    """The folder of one cluster."""

    root: Path

    @property
    def name(self) -> str:
        return self.root.name

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def pki(self) -> Path:
        return self.root / "pki"

    @property
    def config(self) -> Path:
        return self.root / "config"

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def state(self) -> Path:
        return self.root / "state.json"

    @property
    def kubeconfig(self) -> Path:
        """For programs on the host."""
        return self.root / "kubeconfig"

    @property
    def audit_log(self) -> Path:
        return self.logs / "audit.log"


@dataclass(frozen=True)
class Cache:
    """The cache folder shared by every checkout on this host."""

    root: Path

    @property
    def bin(self) -> Path:
        return self.root / "bin"

    @property
    def images(self) -> Path:
        return self.root / "images"

    def cluster(self, name: str) -> ClusterPaths:
        return ClusterPaths(self.root / "clusters" / name)


def cache_from(environment: Mapping[str, str]) -> Cache:
    """OPENCLAW_CACHE_DIR, else ~/.cache/openclaw-operator."""
    configured = environment.get("OPENCLAW_CACHE_DIR")
    root = Path(configured) if configured else Path(environment.get("HOME", "/root")) / ".cache" / "openclaw-operator"
    return Cache(root.expanduser().resolve())

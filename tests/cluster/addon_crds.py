"""The CRDs of addons as their projects publish them, taken from their Go modules and kept in the cache."""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from openclaw_operator.cluster.kinds import Kind
from tests.cluster.errors import ClusterError
from tests.cluster.paths import Cache, cache_from
from tests.cluster.processes import exclusive, run


@dataclass(frozen=True)
class Source:
    """A file in a Go module. `sum` is the module's, as go.sum has it (https://go.dev/ref/mod#go-sum-files)."""

    module: str
    version: str
    sum: str
    file: str


SOURCES = {
    "HTTPRoute": Source(
        "sigs.k8s.io/gateway-api",
        "v1.6.3",
        "h1:lKpJa5bGlraC/QeACvCpsHLdmO6y0iKfzVl6gzaFEYc=",
        "config/crd/standard/gateway.networking.k8s.io_httproutes.yaml",
    ),
    "ServiceMonitor": Source(
        "github.com/prometheus-operator/prometheus-operator",
        "v0.92.1",
        "h1:rHWuFo6SVya4FBSCNg2DCzyc4xAv54zk3eDTzp5mQZc=",
        "example/prometheus-operator-crd/monitoring.coreos.com_servicemonitors.yaml",
    ),
    "ScaledObject": Source(
        "github.com/kedacore/keda/v2",
        "v2.19.0",
        "h1:IP3iMTwr9HkaAwPtLnhngPv74LghMf7ubLrsGLQo52M=",
        "config/crd/bases/keda.sh_scaledobjects.yaml",
    ),
}


def addon_crd(kind: Kind, cache: Cache | None = None) -> dict[str, Any]:
    """The CRD of that kind; downloaded at its first use. Raises ClusterError where it is not what it was."""
    source, cache = SOURCES[kind.name], cache or cache_from(os.environ)
    target = cache.root / "crds" / f"{kind.plural}.{kind.group}-{source.version}.yaml"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        with exclusive(target.with_suffix(".lock")):
            if not target.exists():
                _download(source, target)
    result: dict[str, Any] = yaml.safe_load(target.read_text())
    return result


def _download(source: Source, target: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="openclaw-crds-") as folder:
        # Outside of any module: nothing of what it requires is looked at.
        command = ["go", "mod", "download", "-json", f"{source.module}@{source.version}"]
        found = json.loads(run(command, cwd=Path(folder)))
        if found["Sum"] != source.sum:
            raise ClusterError(f"{source.module} {source.version} is {found['Sum']}, expected {source.sum}")
        staging = target.with_suffix(f".{os.getpid()}")
        staging.write_bytes((Path(found["Dir"]) / source.file).read_bytes())
        staging.rename(target)

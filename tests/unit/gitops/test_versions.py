"""One version for everything that is released together."""

from __future__ import annotations

import tomllib
from typing import Any

import yaml

from tests.cluster.paths import REPOSITORY


def test_packages_and_chart_have_the_same_version() -> None:
    versions: dict[str, Any] = {}
    for path in ("pyproject.toml", "operator/pyproject.toml", "runtime-image/pyproject.toml"):
        versions[path] = tomllib.loads((REPOSITORY / path).read_text())["project"]["version"]
    chart = yaml.safe_load((REPOSITORY / "charts" / "openclaw-operator" / "Chart.yaml").read_text())
    versions |= {"Chart.yaml version": chart["version"], "Chart.yaml appVersion": chart["appVersion"]}
    assert len(set(versions.values())) == 1, versions

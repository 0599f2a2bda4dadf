"""helm, kubectl and kubeconform as functions; rendered manifests as dicts."""

from __future__ import annotations

import json
import os
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tests.cluster import gotools
from tests.cluster.paths import REPOSITORY, cache_from

CHART = REPOSITORY / "charts" / "openclaw-operator"
MONITORING = ("monitoring.coreos.com/v1/ServiceMonitor", "monitoring.coreos.com/v1/PrometheusRule")
KUBE_VERSION = "1.34.4"


def program(name: str) -> str:
    """Path of a program of the test cluster."""
    return str(gotools.tool(cache_from(os.environ), "kubernetes", name))


def run(*command: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run to the end, whatever its exit code."""
    return subprocess.run(command, input=stdin, capture_output=True, text=True, check=False, timeout=120)


def ok(*command: str, stdin: str | None = None) -> str:
    """Standard output of a command that must succeed."""
    result = run(*command, stdin=stdin)
    assert result.returncode == 0, f"{' '.join(command)}\n{result.stdout}{result.stderr}"
    return result.stdout


def template(values: dict[str, Any] | None = None, *, apis: tuple[str, ...] = ()) -> str:
    """`helm template` of the chart as release `oc` in namespace `openclaw-system`."""
    return _template(json.dumps(values or {}), apis)


@cache
def _template(values: str, apis: tuple[str, ...]) -> str:
    command = [program("helm"), "template", "oc", str(CHART), "-n", "openclaw-system", "--kube-version", KUBE_VERSION]
    command += [argument for api in apis for argument in ("--api-versions", api)]
    return ok(*command, "--values", "-", stdin=values)


def documents(text: str) -> list[dict[str, Any]]:
    """The objects of a YAML stream."""
    return [document for document in yaml.load_all(text, Loader=yaml.CSafeLoader) if document]


def one(objects: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    """The only object of a kind."""
    found = [item for item in objects if item["kind"] == kind]
    assert len(found) == 1, f"{len(found)} objects of kind {kind}"
    return found[0]


def chart_file(*parts: str) -> Path:
    return CHART.joinpath(*parts)

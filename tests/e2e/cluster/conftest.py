"""A cluster of its own, so that it may be killed: never the one that is kept between runs."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import yaml

from tests.cluster.builder import Builder
from tests.cluster.lifecycle import LocalCluster
from tests.cluster.paths import cache_from
from tests.cluster.processes import free_ports
from tests.cluster.progress import Progress

NAME = "selftest"


@dataclass(frozen=True)
class Kubectl:
    """kubectl against one cluster."""

    command: list[str]

    def __call__(self, *arguments: str, stdin: str | None = None, check: bool = True) -> str:
        """stdout; with check, a failure is an AssertionError with stderr."""
        done = subprocess.run([*self.command, *arguments], input=stdin, capture_output=True, text=True, check=False)
        assert not check or done.returncode == 0, done.stderr
        return done.stdout if check else done.stdout + done.stderr

    def apply(self, *objects: dict[str, Any]) -> None:
        self("apply", "--server-side", "-f", "-", stdin=yaml.safe_dump_all(objects))

    def wait(self, namespace: str, condition: str, *what: str) -> None:
        self("wait", f"--namespace={namespace}", f"--for={condition}", "--timeout=90s", *what)


@pytest.fixture(scope="session")
def cluster() -> Iterator[LocalCluster]:
    """Started from nothing, with the testkit image; removed at the end."""
    cache = cache_from(os.environ)
    progress = Progress()
    cluster = LocalCluster(cache, NAME, progress)
    cluster.down()
    cluster.up(free_ports(1)[0])
    cluster.load(Builder(cache, progress).build(["testkit"]))
    yield cluster
    cluster.down()


@pytest.fixture
def kubectl(cluster: LocalCluster) -> Kubectl:
    return Kubectl(cluster.kubectl_command())


@pytest.fixture
def namespace(request: pytest.FixtureRequest, kubectl: Kubectl) -> Iterator[str]:
    """A namespace named after the test, with PodSecurity `restricted` enforced."""
    name = request.node.name.removeprefix("test_").replace("_", "-")[:50]
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    kubectl.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
    yield name
    kubectl("delete", "namespace", name, "--wait=false")

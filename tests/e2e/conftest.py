"""One cluster, one operator and one quickstart for all tests here. The cluster stays up for the next run."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.cluster.paths import cache_from
from tests.cluster.progress import Progress
from tests.demo import clusters, steps, workspace
from tests.demo.chat import Gateway
from tests.demo.kube import Kube
from tests.demo.steps import Tools

NAMESPACE = "openclaw-e2e"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The first test pays for images and the cluster on a fresh machine."""
    for item in items:
        if item.nodeid.startswith("tests/e2e") and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(1800))


@pytest.fixture(scope="session")
def tools() -> Tools:
    """A cluster with this checkout's images and its operator."""
    cache = cache_from(os.environ)
    cluster = clusters.choose(os.environ.get("CLUSTER", "auto"), cache, Progress())
    cluster.check()
    cluster.install_tools()
    cluster.up()
    cluster.build_images()
    cluster.load_images()
    found = Tools.of(cache, cluster)
    # What a former run left behind must not be upgraded along: these tests are about what is made now.
    found.kube("default").run("delete", "namespace", NAMESPACE, "--ignore-not-found", "--timeout=120s", seconds=130)
    steps.install_chart(found, cluster)
    return found


@pytest.fixture(scope="session")
def kube(tools: Tools) -> Iterator[Kube]:
    """A namespace with the quickstart in it, all Ready, and uncommitted work in the workspace of code-expert."""
    kube = tools.kube(NAMESPACE)
    model = steps.model_from({})
    steps.make_namespace(kube)
    steps.provide_model(kube, model)
    steps.apply_quickstart(kube, model)
    for _ in kube.wait_all_ready(steps.QUICKSTART_OBJECTS, steps.READY_SECONDS):
        pass
    workspace.open_shell(kube, steps.SANDBOX_IMAGE, "code-expert-workspace", steps.READY_SECONDS)
    workspace.leave_work(kube)
    yield kube
    tools.kube("default").run("delete", "namespace", NAMESPACE, "--wait=false")


@pytest.fixture
def coordinator(kube: Kube) -> Iterator[Gateway]:
    """The coordinator's API, as a user reaches it."""
    token = kube.secret("coordinator-gateway-token", "token")
    with kube.forward("service/coordinator-gateway", steps.GATEWAY_PORT) as url:
        yield Gateway(url, token, "coordinator")

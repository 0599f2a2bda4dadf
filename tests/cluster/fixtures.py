"""pytest fixtures: in a conftest.py, `from tests.cluster.fixtures import api_server`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cluster.apiserver import ApiServer
from tests.cluster.apiserver import api_server as start_api_server


@pytest.fixture(scope="session")
def api_server() -> Iterator[ApiServer]:
    """etcd and kube-apiserver for the whole session: use a namespace of your own in each test."""
    with start_api_server() as server:
        yield server


@pytest.fixture(scope="session")
def api_server_with_controllers() -> Iterator[ApiServer]:
    """The same with a controller manager: owned objects are collected, accounts and ReplicaSets are made."""
    with start_api_server(controllers=True) as server:
        yield server

"""The network plugin and the agent's memory: what keeps a new pod from running uncovered."""

from __future__ import annotations

import json
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import netpol_cni
from tests.cluster.netpol_agent import RESOURCES, Store

RESULT: dict[str, Any] = {"ips": [{"address": "10.244.0.7/22"}], "interfaces": []}
ARGUMENTS = "IgnoreUnknown=1;K8S_POD_NAMESPACE=a;K8S_POD_NAME=web;K8S_POD_UID=uid-web"


def agent(path: Path, reply: bytes) -> tuple[threading.Thread, list[dict[str, Any]]]:
    """A socket that answers one request."""
    requests: list[dict[str, Any]] = []
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()

    def serve() -> None:
        connection, _ = listener.accept()
        with connection, listener, connection.makefile() as lines:
            requests.append(json.loads(lines.readline()))
            connection.sendall(reply)

    thread = threading.Thread(target=serve)
    thread.start()
    return thread, requests


def configuration(path: Path) -> dict[str, Any]:
    return {"cniVersion": "0.4.0", "socket": str(path), "prevResult": RESULT}


def test_a_pod_starts_when_the_agent_has_covered_it(tmp_path: Path) -> None:
    thread, requests = agent(tmp_path / "socket", b"{}\n")
    assert netpol_cni.main("ADD", ARGUMENTS, configuration(tmp_path / "socket")) == {"cniVersion": "0.4.0", **RESULT}
    thread.join()
    assert requests == [{"uid": "uid-web", "address": "10.244.0.7"}]


@pytest.mark.parametrize(("reply", "message"), [(b'{"error": "too late"}\n', "too late"), (b"", "closed")])
def test_a_pod_the_agent_cannot_cover_does_not_start(tmp_path: Path, reply: bytes, message: str) -> None:
    thread, _ = agent(tmp_path / "socket", reply)
    with pytest.raises(RuntimeError, match=message):
        netpol_cni.main("ADD", ARGUMENTS, configuration(tmp_path / "socket"))
    thread.join()


def test_without_an_agent_no_pod_starts(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        netpol_cni.main("ADD", ARGUMENTS, configuration(tmp_path / "socket"))


def test_removal_needs_no_agent(tmp_path: Path) -> None:
    assert netpol_cni.main("DEL", ARGUMENTS, configuration(tmp_path / "socket")) is None


def test_the_plugin_names_the_versions_it_speaks() -> None:
    reply = netpol_cni.main("VERSION", "", {})
    assert reply is not None
    assert "1.0.0" in reply["supportedVersions"]


def item(uid: str, **labels: str) -> dict[str, Any]:
    metadata = {"uid": uid, "name": uid, "namespace": "a", "labels": labels}
    return {"metadata": metadata, "spec": {}, "status": {"podIP": "10.0.0.1"}}


def test_the_store_follows_events() -> None:
    store = Store()
    for kind in RESOURCES:
        store.replace(kind, [])
    version = store.version
    store.apply("pods", {"type": "ADDED", "object": item("one")})
    store.addresses["one"] = "10.0.0.1"
    policy = {"metadata": {"uid": "p", "namespace": "a"}, "spec": {"podSelector": {}}}
    store.apply("policies", {"type": "ADDED", "object": policy})
    assert "10.0.0.1 : jump" in store.rules()
    assert store.version == version + 2
    store.apply("pods", {"type": "DELETED", "object": item("one")})
    assert "10.0.0.1" not in store.rules()
    assert store.addresses == {}

"""Only etcd and kube-apiserver, on free loopback ports: the real API for integration tests, in seconds.

    with api_server() as server:
        server.kubeconfig   # Path of a kubeconfig with cluster-admin rights
        server.audit_log    # Path of the audit log: one JSON event per line, level Metadata, written before the reply

Nothing schedules or runs pods here; with `controllers=True` a controller manager adds garbage collection of owned
objects, default service accounts, Deployments' ReplicaSets and so on.
"""

from __future__ import annotations

import json
import os
import ssl
import tempfile
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from tests.cluster import components, gotools, pki
from tests.cluster.errors import ClusterError
from tests.cluster.kubeconfig import write_kubeconfig
from tests.cluster.paths import Cache, cache_from
from tests.cluster.processes import Component, free_ports

READY_SECONDS = 60.0


def _not_ours() -> None:
    raise ClusterError("the API server is used by others as well: only who started it restarts it")


@dataclass(frozen=True)
class ApiServer:
    """A running API server."""

    url: str
    kubeconfig: Path
    audit_log: Path
    pki: Path
    # Ends the API server and starts it again with the same etcd, address and keys; returns when it is ready.
    restart: Callable[[], None] = field(repr=False, default=_not_ours)
    # Process ids by program, for who measures; empty where another process started them.
    pids: Mapping[str, int] = field(repr=False, default_factory=dict)

    def told(self) -> str:
        """What another process needs to use it, for `heard`."""
        return json.dumps([self.url, *map(str, (self.kubeconfig, self.audit_log, self.pki))])

    @classmethod
    def heard(cls, text: str) -> ApiServer:
        """The server that another process started and `told` of. It cannot be restarted from here."""
        url, kubeconfig, audit_log, folder = json.loads(text)
        return cls(url, Path(kubeconfig), Path(audit_log), Path(folder))


class AuditTrail:
    """The events of an audit log with a word in them, from a place in the file on: each line is read once."""

    def __init__(self, log: Path, word: str, since: int = 0) -> None:
        self._log = log
        self._word = word.encode()
        self._read = since
        self._events: list[dict[str, Any]] = []

    def events(self) -> list[dict[str, Any]]:
        """Those so far, oldest first."""
        with self._log.open("rb") as file:
            file.seek(self._read)
            whole = file.read().rpartition(b"\n")[0]
        if whole:
            self._read += len(whole) + 1
            self._events += [json.loads(line) for line in whole.split(b"\n") if self._word in line]
        return self._events


def client_context(folder: Path, identity: str = pki.ADMIN) -> ssl.SSLContext:
    """TLS as one of the identities of write_cluster_pki."""
    context = ssl.create_default_context(cafile=str(folder / "ca.crt"))
    context.load_cert_chain(folder / f"{identity}.crt", folder / f"{identity}.key")
    return context


def answers(url: str, context: ssl.SSLContext | None = None) -> bool:
    """True when a GET is answered with 2xx."""
    try:
        with urllib.request.urlopen(url, context=context, timeout=5) as response:
            return bool(200 <= response.status < 300)
    except OSError:
        return False


def write_control_plane_files(plane: components.ControlPlane) -> None:
    """What kube-apiserver and its clients read at start, besides certificates."""
    plane.config.mkdir(parents=True, exist_ok=True)
    plane.data.mkdir(parents=True, exist_ok=True)
    plane.audit_log.parent.mkdir(parents=True, exist_ok=True)
    plane.audit_policy.write_text(yaml.safe_dump(components.AUDIT_POLICY))
    for identity in ("controller-manager", "scheduler"):
        write_kubeconfig(plane.config / f"{identity}.kubeconfig", plane.server, plane.pki, identity)


@contextmanager
def api_server(*, controllers: bool = False, cache: Cache | None = None) -> Iterator[ApiServer]:
    """A fresh API server in a folder of its own; both end with the context.

    Raises ClusterError when the programs are not built, ComponentError when one does not come up.
    """
    cache = cache or cache_from(os.environ)
    program = gotools.tool(cache, "kubernetes", "kube-apiserver")
    with ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="openclaw-apiserver-")))
        port, etcd_port, peer_port, controller_port = free_ports(4)
        plane = components.ControlPlane(
            address="127.0.0.1",
            port=port,
            etcd_port=etcd_port,
            etcd_peer_port=peer_port,
            pki=root / "pki",
            config=root / "config",
            data=root / "data",
            audit_log=root / "logs" / "audit.log",
        )
        names = ("127.0.0.1", "localhost", components.KUBERNETES_SERVICE_IP)
        pki.write_cluster_pki(plane.pki, now=datetime.now(UTC), server_names=names, node="none", node_ip="127.0.0.1")
        write_control_plane_files(plane)
        logs = plane.audit_log.parent
        pids: dict[str, int] = {}

        def start(name: str, command: list[str]) -> Component:
            component = Component.start(name, command, logs / f"{name}.log")
            stack.callback(component.stop)
            pids[name] = component.process.pid
            return component

        etcd = start("etcd", components.etcd(gotools.tool(cache, *components.ETCD), plane))
        etcd.wait_until(lambda: answers(f"{plane.etcd_url}/health"), seconds=READY_SECONDS)
        context = client_context(plane.pki)

        def start_server() -> Component:
            component = start("kube-apiserver", components.kube_apiserver(program, plane, service_accounts=controllers))
            component.wait_until(lambda: answers(f"{plane.server}/readyz", context), seconds=READY_SECONDS)
            return component

        server = start_server()

        def restart() -> None:
            nonlocal server
            server.stop(grace_seconds=30)
            server = start_server()

        if controllers:
            manager = gotools.tool(cache, "kubernetes", "kube-controller-manager")
            command = components.kube_controller_manager(manager, plane, port=controller_port, pod_cidr=None)
            start("kube-controller-manager", command).wait_until(
                lambda: answers(f"{plane.server}/api/v1/namespaces/default/serviceaccounts/default", context),
                seconds=READY_SECONDS,
            )
        kubeconfig = write_kubeconfig(root / "kubeconfig", plane.server, plane.pki, pki.ADMIN)
        yield ApiServer(plane.server, kubeconfig, plane.audit_log, plane.pki, restart, pids)

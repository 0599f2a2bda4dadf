"""The way out of a skill: only through the proxy, only to what it lists, and written down."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.demo import stand_in, steps, workspace
from tests.demo.kube import Kube
from tests.e2e import sandbox

AGENT = "traveller"
PROXIED = "openclaw.io/pool,openclaw.io/egress=proxied"
OUTSIDE = f"http://{stand_in.NAME}:{stand_in.PORT}/v1/models"
API_SERVER = ("10.96.0.1", 443)
METADATA = ("169.254.169.254", 80)
LISTEN = """
import fcntl, signal, socket, struct, sys

HOST, PORT = sys.argv[1], int(sys.argv[2])
signal.signal(signal.SIGTERM, lambda *_: sys.exit())
with socket.socket() as server:
    # SIOCSIFADDR and SIOCSIFFLAGS of another name of the node's loopback device.
    fcntl.ioctl(server, 0x8916, struct.pack("16sHH4s8x", b"lo:metadata", socket.AF_INET, 0, socket.inet_aton(HOST)))
    try:
        server.bind((HOST, PORT))
        server.listen()
        while True:
            server.accept()[0].close()
    finally:
        fcntl.ioctl(server, 0x8914, struct.pack("16sH14x", b"lo:metadata", 0))
"""
METADATA_SERVER = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "metadata"},
    "spec": {
        "restartPolicy": "Never",
        "hostNetwork": True,
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 5,
        "containers": [
            {
                "name": "metadata",
                "image": steps.SANDBOX_IMAGE,
                "command": ["python3", "-c", LISTEN, METADATA[0], str(METADATA[1])],
                "securityContext": {"runAsUser": 0, "capabilities": {"add": ["NET_ADMIN"]}},
                "startupProbe": {"tcpSocket": {"host": METADATA[0], "port": METADATA[1]}, "periodSeconds": 1},
            }
        ],
    },
}
"""It takes the address as its own, on the node, and gives it back."""

CALL = """
import asyncio, json, logging, os, sys
from pathlib import Path
from openclaw_runtime.config import load_config
from openclaw_runtime.gateway.skills import RuntimeSkills

records = []


class Keep(logging.Handler):
    def emit(self, record):
        records.append(record.audit)


class Nothing:
    async def log(self, *_): ...


async def main(name, urls):
    config = load_config(Path("/etc/openclaw/config/config.yaml"))
    skills = RuntimeSkills(config, environ=os.environ, environment={}, data_dir=Path("/tmp"), workspace=None)
    await skills.start()
    await skills.load(config)
    skill = next(item for item in skills.installed() if item.name == name)
    result = await skills.call(skill, "fetch", {"urls": urls}, session="e2e", context=Nothing())
    print(json.dumps({"output": result.output, "record": records[0]}, default=str))
    await skills.close()


log = logging.getLogger("openclaw.audit")
log.setLevel("INFO")
log.addHandler(Keep())
asyncio.run(main(sys.argv[1], json.loads(sys.argv[2])))
"""


def skill(name: str, permission: str, domains: list[str]) -> dict[str, Any]:
    return {
        "apiVersion": "openclaw.io/v1alpha1",
        "kind": "Skill",
        "metadata": {"name": name},
        "spec": {
            "version": "1.0.0",
            "source": {"inline": {"files": {"scripts/main.py": sandbox.PROBE.read_text()}}},
            "actions": [{"name": "fetch", "description": "fetches", "timeoutSeconds": 60}],
            "permissions": [permission],
            "allowedDomains": domains,
        },
    }


def pod_address(kube: Kube, selector: str) -> str:
    address: str = kube.items("pods", selector)[0]["status"]["podIP"]
    return address


@pytest.fixture(scope="module")
def forbidden(kube: Kube) -> dict[str, tuple[str, int]]:
    """What no skill reaches, whatever it lists."""
    return {
        "API server": API_SERVER,
        "metadata": METADATA,
        "gateway": (pod_address(kube, "openclaw.io/agent=coordinator,app.kubernetes.io/name=gateway"), 7456),
        "Qdrant": (pod_address(kube, "app.kubernetes.io/name=qdrant"), 6333),
        "sandbox": (pod_address(kube, "openclaw.io/pool,openclaw.io/egress=none"), sandbox.PORT),
        "kubelet": (kube.items("pods", "openclaw.io/pool")[0]["status"]["hostIP"], 10250),
    }


@pytest.fixture(scope="module")
def traveller(kube: Kube, forbidden: dict[str, tuple[str, int]]) -> Iterator[str]:
    """An agent with two skills that may go out, and the name of its gateway pod."""
    listed = [f"{stand_in.NAME}:{stand_in.PORT}", *(f"{host}:{port}" for host, port in forbidden.values())]
    kube.apply(
        skill("inward", "network:internal", listed),
        skill("outward", "network:external", listed),
        {
            "apiVersion": "openclaw.io/v1alpha1",
            "kind": "Agent",
            "metadata": {"name": AGENT},
            "spec": {
                "model": {"provider": "local", "name": "stand-in", "baseURL": stand_in.BASE_URL},
                "workspace": {"size": "64Mi", "reclaimPolicy": "Delete"},
                "skills": [{"name": "inward"}, {"name": "outward"}],
                "gateway": {"resources": {"requests": {"cpu": "50m", "memory": "128Mi"}}},
            },
        },
    )
    kube.wait("condition=EgressReady", f"agent/{AGENT}", seconds=180)
    kube.wait("condition=Ready", f"agent/{AGENT}", seconds=120)
    name: str = kube.items("pods", f"openclaw.io/agent={AGENT},app.kubernetes.io/name=gateway")[0]["metadata"]["name"]
    yield name
    kube.delete("agent", AGENT)
    kube.delete("skill", "inward", "outward")
    # Pods of a pool that nobody asks for any more are kept for a while, and the proxy with them.
    kube.delete("pods", f"--selector={PROXIED}")
    kube.delete_wait("deployment", "openclaw-egress")
    assert not kube.items("services", "app.kubernetes.io/name=egress-proxy")
    assert not kube.items("networkpolicies", "app.kubernetes.io/name=egress-proxy")


def call(kube: Kube, gateway: str, name: str, urls: list[str]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A call through the agent's own gateway code, in its pod: what came back, and the decisions of its record."""
    found = json.loads(kube.exec(gateway, "python", "-c", CALL, name, json.dumps(urls)).splitlines()[-1])
    return found["output"], found["record"]["network"]


def test_a_skill_reaches_what_it_lists_and_its_record_says_so(kube: Kube, traveller: str) -> None:
    output, decisions = call(kube, traveller, "inward", [OUTSIDE, "http://memory-qdrant:6333/"])
    assert output[OUTSIDE] in (200, 401), output
    assert output["http://memory-qdrant:6333/"] == 403
    by_host = {item["host"]: item for item in decisions}
    assert by_host[stand_in.NAME]["verdict"] == "allowed"
    assert by_host[stand_in.NAME]["bytesReceived"] > 0
    assert by_host["memory-qdrant"]["reason"] == "domain_not_allowed"
    lines = kube.run("logs", "deployment/openclaw-egress").splitlines()
    logged = [json.loads(line) for line in lines if '"callId"' in line]
    assert {(item["skill"], item["host"], item["verdict"]) for item in logged} >= {
        ("inward", stand_in.NAME, "allowed"),
        ("inward", "memory-qdrant", "denied"),
    }


def test_what_no_skill_may_reach_is_out_of_reach_even_if_it_is_listed(
    kube: Kube, traveller: str, forbidden: dict[str, tuple[str, int]]
) -> None:
    urls = [f"http://{host}:{port}/" for host, port in forbidden.values()]
    output, decisions = call(kube, traveller, "inward", urls)
    reasons = {(item["host"], item["port"]): item["reason"] for item in decisions}
    assert reasons[API_SERVER] == "api_server"
    assert reasons[forbidden["kubelet"]] == "api_server"
    assert reasons[METADATA] == "address_forbidden"
    # These are private addresses that it lists: what is left is their own walls.
    for name in ("gateway", "Qdrant", "sandbox"):
        host, port = forbidden[name]
        assert output[f"http://{host}:{port}/"] in (503, 504, "timed out"), (name, output)


def test_without_network_internal_nothing_inside_is_reached(kube: Kube, traveller: str) -> None:
    output, decisions = call(kube, traveller, "outward", [OUTSIDE])
    assert output == {OUTSIDE: 403}
    assert [item["reason"] for item in decisions] == ["address_private"]


@pytest.fixture
def metadata(kube: Kube) -> Iterator[None]:
    """Somebody who listens at the address of a cloud's metadata, where the test cluster has nobody."""
    system = kube.in_namespace("kube-system")
    system.apply(METADATA_SERVER)
    system.wait("condition=Ready", "pod/metadata", seconds=60)
    yield
    system.delete("pod", "metadata")


async def test_around_the_proxy_there_is_no_way(
    kube: Kube, traveller: str, forbidden: dict[str, tuple[str, int]], metadata: None
) -> None:
    service = kube.get("service", "openclaw-egress")
    assert service is not None
    proxy: sandbox.Target = (service["spec"]["clusterIP"], 3128)
    outside = (pod_address(kube, f"app.kubernetes.io/name={stand_in.NAME}"), stand_in.PORT)
    api = (pod_address(kube, "app.kubernetes.io/name=egress-proxy"), 7470)
    dns = sandbox.name_server(kube)
    # Somebody reaches each of them, so that who does not is kept from it.
    for_gateways: list[sandbox.Target] = [forbidden["Qdrant"], forbidden["sandbox"], api]
    for_all: list[sandbox.Target] = [
        *(forbidden[name] for name in ("API server", "metadata", "gateway", "kubelet")),
        outside,
        (dns, 53),
        (dns, 53, "udp"),
    ]
    gateway = kube.items("pods", "openclaw.io/agent=coordinator,app.kubernetes.io/name=gateway")[0]["metadata"]["name"]
    for pod, targets in ((gateway, for_gateways), (workspace.SHELL, for_all)):
        found = sandbox.connect_from_pod(kube, pod, targets)
        assert found == dict.fromkeys(sandbox.names_of(targets), "connected")

    for selector, opened in ((PROXIED, {proxy}), ("openclaw.io/pool,openclaw.io/egress=none", set())):
        seen = await sandbox.connect_from_sandbox(kube, selector, [proxy, *for_gateways, *for_all])
        connected = {target for target, outcome in seen.items() if outcome == "connected"}
        assert connected == sandbox.names_of(opened), seen


async def test_a_pod_that_loses_its_pool_is_still_closed_and_goes(kube: Kube, traveller: str) -> None:
    pod = sandbox.warm_pod(kube, PROXIED)
    name = pod["metadata"]["name"]
    kube.run("label", "pod", name, "openclaw.io/pool-")
    until = time.monotonic() + 30
    while kube.get("pod", name) is not None:
        assert time.monotonic() < until, "the pod was not collected"
        await asyncio.sleep(0.2)

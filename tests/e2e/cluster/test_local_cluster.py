"""The local cluster keeps what a Kubernetes promises: pods, names, storage, policies, metrics; and survives kills."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import cgroups
from tests.cluster.lifecycle import CONTROL_PLANE, LocalCluster
from tests.cluster.processes import alive, poll

from .conftest import Kubectl

pytestmark = pytest.mark.timeout(600)
Json = dict[str, Any]
IMAGE = "openclaw.local/testkit:test"
SLEEP = ["python", "-c", "import signal; signal.sigwait({signal.SIGTERM})"]
WEB = ["python", "-m", "http.server", "8080", "--directory", "/opt/tests"]
RESTRICTED: Json = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
    "runAsNonRoot": True,
}


def pod_spec(command: list[str], **more: Any) -> Json:
    container = {"name": "main", "image": IMAGE, "command": command, "securityContext": RESTRICTED}
    return {"terminationGracePeriodSeconds": 2, "containers": [{**container, **more}]}


def pod(namespace: str, name: str, command: list[str], **more: Any) -> Json:
    metadata = {"namespace": namespace, "name": name, "labels": {"name": name}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pod_spec(command, **more)}


def web(namespace: str, **more: Any) -> tuple[Json, Json]:
    """A Deployment of two, and its Service."""
    labels = {"name": "web"}
    ports = [{"name": "http", "containerPort": 8080}]
    probe = {"httpGet": {"path": "/", "port": "http"}, "periodSeconds": 1}
    resources = {"requests": {"cpu": "20m", "memory": "32Mi"}, "limits": {"cpu": "500m", "memory": "128Mi"}}
    template = pod_spec(WEB, ports=ports, readinessProbe=probe, resources=resources, **more)
    metadata = {"namespace": namespace, "name": "web"}
    return (
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": metadata,
            "spec": {
                "replicas": 2,
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": template},
            },
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": metadata,
            "spec": {"selector": labels, "ports": [{"port": 80, "targetPort": "http"}]},
        },
    )


def policy(namespace: str, spec: Json) -> Json:
    metadata = {"namespace": namespace, "name": "policy"}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata, "spec": spec}


def fetch(url: str, timeout: float = 3) -> str:
    """A Python program that prints 200 or `blocked`."""
    return (
        "import urllib.request, urllib.error\n"
        f"try: print(urllib.request.urlopen('{url}', timeout={timeout}).status)\n"
        "except (urllib.error.URLError, TimeoutError): print('blocked')\n"
    )


def reach(kubectl: Kubectl, namespace: str, source: str, url: str) -> str:
    return kubectl("exec", f"--namespace={namespace}", source, "--", "python", "-c", fetch(url)).strip()


def test_pods_exec_service_names_and_logs(kubectl: Kubectl, namespace: str, cluster: LocalCluster) -> None:
    kubectl.apply(*web(namespace), pod(namespace, "client", SLEEP))
    kubectl.wait(namespace, "condition=Available", "deployment/web")
    kubectl.wait(namespace, "condition=Ready", "pod/client")
    assert reach(kubectl, namespace, "client", "http://web/") == "200"
    assert reach(kubectl, namespace, "client", f"http://web.{namespace}.svc.cluster.local/") == "200"
    assert "GET /" in kubectl("logs", f"--namespace={namespace}", "deployment/web")
    identity = kubectl("exec", f"--namespace={namespace}", "client", "--", "id", "-u")
    assert identity.strip() == "1000"


def test_policies_allow_and_deny(kubectl: Kubectl, namespace: str) -> None:
    names = ("friend", "stranger")
    kubectl.apply(*web(namespace), *(pod(namespace, name, SLEEP) for name in names))
    kubectl.wait(namespace, "condition=Available", "deployment/web")
    kubectl.wait(namespace, "condition=Ready", *(f"pod/{name}" for name in names))
    assert [reach(kubectl, namespace, name, "http://web/") for name in names] == ["200", "200"]
    from_friend = {"from": [{"podSelector": {"matchLabels": {"name": "friend"}}}], "ports": [{"port": "http"}]}
    kubectl.apply(policy(namespace, {"podSelector": {"matchLabels": {"name": "web"}}, "ingress": [from_friend]}))
    assert poll(lambda: reach(kubectl, namespace, "stranger", "http://web/") == "blocked", seconds=20)
    assert reach(kubectl, namespace, "friend", "http://web/") == "200"
    # The kubelet still reaches its probes: nothing becomes unready.
    kubectl.wait(namespace, "condition=Available", "deployment/web")
    kubectl("delete", f"--namespace={namespace}", "networkpolicy", "policy")
    assert poll(lambda: reach(kubectl, namespace, "stranger", "http://web/") == "200", seconds=20)


def test_a_new_pod_is_covered_from_its_first_packet(kubectl: Kubectl, namespace: str) -> None:
    kubectl.apply(policy(namespace, {"podSelector": {"matchLabels": {"name": "eager"}}, "policyTypes": ["Egress"]}))
    kubectl.apply(*web(namespace))
    kubectl.wait(namespace, "condition=Available", "deployment/web")
    address = kubectl("get", f"--namespace={namespace}", "service/web", "--output=jsonpath={.spec.clusterIP}")
    # It tries as soon as it runs, again and again for some seconds: one success would show a gap.
    script = "for _ in range(15):\n " + fetch(f"http://{address}/", 0.3).replace("\n", "\n ")
    eager = pod(namespace, "eager", ["python", "-c", script])
    eager["spec"]["restartPolicy"] = "Never"
    kubectl.apply(eager)
    kubectl.wait(namespace, "jsonpath={.status.phase}=Succeeded", "pod/eager")
    assert set(kubectl("logs", f"--namespace={namespace}", "eager").split()) == {"blocked"}


def test_denied_egress_closes_the_way_to_the_api(kubectl: Kubectl, namespace: str) -> None:
    kubectl.apply(pod(namespace, "client", SLEEP))
    kubectl.wait(namespace, "condition=Ready", "pod/client")
    connect = "import socket; socket.create_connection(('kubernetes.default', 443), 3); print('open')"
    attempt = ("exec", f"--namespace={namespace}", "client", "--", "python", "-c", connect)
    assert "open" in kubectl(*attempt)
    kubectl.apply(policy(namespace, {"podSelector": {}, "policyTypes": ["Egress"]}))
    assert poll(lambda: "open" not in kubectl(*attempt, check=False), seconds=20)


def test_metrics_and_autoscaling(kubectl: Kubectl, namespace: str) -> None:
    kubectl.apply(*web(namespace))
    burn = ["python", "-c", "while True: pass"]
    labels = {"name": "busy"}
    limits = {"requests": {"cpu": "50m", "memory": "32Mi"}, "limits": {"cpu": "150m", "memory": "64Mi"}}
    metadata = {"namespace": namespace, "name": "busy"}
    target = {"type": "Utilization", "averageUtilization": 50}
    kubectl.apply(
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": metadata,
            "spec": {
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": pod_spec(burn, resources=limits)},
            },
        },
        {
            "apiVersion": "autoscaling/v2",
            "kind": "HorizontalPodAutoscaler",
            "metadata": metadata,
            "spec": {
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "busy"},
                "minReplicas": 1,
                "maxReplicas": 2,
                "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": target}}],
            },
        },
    )
    wanted = ("get", f"--namespace={namespace}", "deployment/busy", "--output=jsonpath={.spec.replicas}")
    assert poll(lambda: kubectl(*wanted) == "2", seconds=180, interval=1)
    assert "busy" in kubectl("top", "pods", f"--namespace={namespace}")


def test_a_volume_outlives_its_pod_and_a_killed_node(kubectl: Kubectl, namespace: str, cluster: LocalCluster) -> None:
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"namespace": namespace, "name": "data"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "10Mi"}}},
    }
    holder = pod(namespace, "holder", SLEEP, volumeMounts=[{"name": "data", "mountPath": "/data"}])
    holder["spec"]["volumes"] = [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]
    kubectl.apply(claim, holder)
    kubectl.wait(namespace, "condition=Ready", "pod/holder")
    kubectl("exec", f"--namespace={namespace}", "holder", "--", "sh", "-c", "echo kept > /data/file")
    kubectl("delete", f"--namespace={namespace}", "pod/holder", "--now")
    kubectl.apply(holder)
    kubectl.wait(namespace, "condition=Ready", "pod/holder")

    record = cluster.require_running()
    members = cgroups.members(cluster.groups())
    assert len(members) > len(CONTROL_PLANE)
    os.kill(record.init.pid, signal.SIGKILL)
    assert poll(lambda: not alive(record.outer) and not cgroups.members(cluster.groups()), seconds=20)
    assert not cluster.healthy()
    cluster.up()
    # The pod's condition Ready may still be the one from before the kill, until the kubelet has started it again.
    state = "--output=jsonpath={.status.containerStatuses[0].restartCount} {.status.containerStatuses[0].ready}"
    told = ("get", f"--namespace={namespace}", "pod/holder", state)
    assert poll(lambda: kubectl(*told) not in {"0 true", "0 false"} and kubectl(*told).endswith("true"), seconds=90)
    assert kubectl("exec", f"--namespace={namespace}", "holder", "--", "cat", "/data/file").strip() == "kept"


def test_the_control_plane_restarts_beneath_running_pods(
    kubectl: Kubectl, namespace: str, cluster: LocalCluster
) -> None:
    kubectl.apply(pod(namespace, "steady", SLEEP))
    kubectl.wait(namespace, "condition=Ready", "pod/steady")
    cluster.restart(control_plane_only=True)
    restarts = "--output=jsonpath={.status.containerStatuses[0].restartCount}"
    assert kubectl("get", f"--namespace={namespace}", "pod/steady", restarts) == "0"


def test_up_on_a_healthy_cluster_changes_nothing(cluster: LocalCluster) -> None:
    before = cluster.require_running()
    cluster.up()
    assert cluster.require_running() == before


def test_every_request_is_in_the_audit_log(kubectl: Kubectl, namespace: str, cluster: LocalCluster) -> None:
    mark = f"audited-{time.monotonic_ns()}"
    kubectl("create", "configmap", mark, f"--namespace={namespace}")
    assert mark in cluster.paths.audit_log.read_text()


def test_the_folder_of_the_host_stays_free_of_mounts(cluster: LocalCluster) -> None:
    cluster.require_running()
    assert str(cluster.paths.root) + "/" not in Path("/proc/self/mountinfo").read_text()

"""One description of a node → its configuration files and the plan of its first process. Pure: nothing is written."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.cluster import components
from tests.cluster.components import CLUSTER_DOMAIN, DNS_SERVICE_IP, ControlPlane
from tests.cluster.paths import REPOSITORY, ClusterPaths

NODE_IP = "172.30.0.2"
GATEWAY_IP = "172.30.0.1"
PREFIX = 24
POD_CIDR = "10.244.0.0/16"
NODE_POD_CIDR = "10.244.0.0/22"
API_PORT = 6443
RUN_FOLDER = Path("/run/openclaw")
CONTAINERD_SOCKET = Path("/run/containerd/containerd.sock")
POLICY_SOCKET = RUN_FOLDER / "network-policy.sock"
CNI_PLUGINS = Path("/usr/lib/cni")
CNI_POLICY_PLUGIN = "openclaw-network-policy"
PAUSE_IMAGE = "openclaw.local/pause:test"


@dataclass(frozen=True)
class Programs:
    """Programs built from Go modules: those of Kubernetes in their folder, and etcd."""

    kubernetes: Path
    etcd: Path

    def __getitem__(self, name: str) -> Path:
        return self.kubernetes / name


@dataclass(frozen=True)
class NodeSpec:
    """Everything a node's files depend on."""

    paths: ClusterPaths
    programs: Programs
    snapshotter: str
    cgroup_version: int
    cgroup_controllers: tuple[tuple[str, ...], ...]
    listener: int
    may_lower_oom_score: bool

    @property
    def hostname(self) -> str:
        return f"{self.paths.name}-node"

    @property
    def plane(self) -> ControlPlane:
        paths = self.paths
        return ControlPlane(NODE_IP, API_PORT, 2379, 2380, paths.pki, paths.config, paths.data, paths.audit_log)


def server_names() -> tuple[str, ...]:
    """What the API server's certificate is valid for, inside the node, in pods and on the host."""
    service = ("kubernetes", "kubernetes.default", "kubernetes.default.svc")
    full = f"kubernetes.default.svc.{CLUSTER_DOMAIN}"
    return (NODE_IP, "127.0.0.1", "localhost", components.KUBERNETES_SERVICE_IP, *service, full)


def kubelet_config(spec: NodeSpec) -> dict[str, Any]:
    """https://kubernetes.io/docs/reference/config-api/kubelet-config.v1beta1/"""
    pki = spec.paths.pki
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True, "cacheTTL": "10s"},
            "x509": {"clientCAFile": str(pki / "ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(pki / "kubelet-server.crt"),
        "tlsPrivateKeyFile": str(pki / "kubelet-server.key"),
        "cgroupDriver": "cgroupfs",
        "failCgroupV1": False,
        "failSwapOn": False,
        "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
        "resolvConf": str(spec.paths.config / "resolv.conf"),
        "clusterDNS": [DNS_SERVICE_IP],
        "clusterDomain": CLUSTER_DOMAIN,
        "podLogsDir": "/var/log/pods",
        "volumePluginDir": str(RUN_FOLDER / "volume-plugins"),
        "serializeImagePulls": False,
        "registerNode": True,
        "maxPods": 200,
        # Images come by import only: nothing could bring back one that was collected on a full disk.
        "imageGCHighThresholdPercent": 100,
        "evictionHard": {
            "memory.available": "50Mi",
            "nodefs.available": "1%",
            "nodefs.inodesFree": "1%",
            "imagefs.available": "1%",
        },
        "syncFrequency": "20s",
        "configMapAndSecretChangeDetectionStrategy": "Watch",
    }


def kube_proxy_config(spec: NodeSpec) -> dict[str, Any]:
    """https://kubernetes.io/docs/reference/config-api/kube-proxy-config.v1alpha1/"""
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "iptables",
        "clusterCIDR": POD_CIDR,
        "hostnameOverride": spec.hostname,
        "clientConnection": {"kubeconfig": str(spec.paths.config / "kube-proxy.kubeconfig")},
        # Connection tracking limits belong to the host.
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        "iptables": {"minSyncPeriod": "100ms", "syncPeriod": "30s"},
    }


def containerd_config(spec: NodeSpec) -> str:
    """https://github.com/containerd/containerd/blob/release/1.6/docs/cri/config.md (TOML, version 2)"""
    return f"""\
version = 2
root = "{RUN_FOLDER}/containerd"
state = "/run/containerd"

[grpc]
  address = "{CONTAINERD_SOCKET}"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE_IMAGE}"
  stats_collect_period = 10
  restrict_oom_score_adj = {str(not spec.may_lower_oom_score).lower()}

  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "{spec.snapshotter}"
    default_runtime_name = "runc"

    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"

      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false

  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{spec.paths.config}/cni-bin"
    conf_dir = "{spec.paths.config}/cni"
"""


def cni_config() -> dict[str, Any]:
    """bridge + host-local + portmap, then the plugin that waits until the pod's network policies are in force.

    https://www.cni.dev/plugins/current/main/bridge/
    """
    ipam = {"type": "host-local", "ranges": [[{"subnet": NODE_POD_CIDR}]], "routes": [{"dst": "0.0.0.0/0"}]}
    return {
        "cniVersion": "0.4.0",
        "name": "pods",
        "plugins": [
            {"type": "bridge", "bridge": "cni0", "isGateway": True, "ipMasq": True, "hairpinMode": True, "ipam": ipam},
            {"type": CNI_POLICY_PLUGIN, "socket": str(POLICY_SOCKET)},
            {"type": "portmap", "capabilities": {"portMappings": True}},
        ],
    }


def cni_policy_plugin() -> str:
    """The program containerd runs for the plugin type above."""
    return f'#!/bin/sh\nexec {sys.executable} -I -S {REPOSITORY}/tests/cluster/netpol_cni.py "$@"\n'


def config_files(spec: NodeSpec) -> dict[str, str]:
    """Relative path in the configuration folder → content."""
    return {
        "kubelet.yaml": yaml.safe_dump(kubelet_config(spec)),
        "kube-proxy.yaml": yaml.safe_dump(kube_proxy_config(spec)),
        "containerd.toml": containerd_config(spec),
        "cni/10-pods.conflist": json.dumps(cni_config(), indent=2),
        f"cni-bin/{CNI_POLICY_PLUGIN}": cni_policy_plugin(),
        "resolv.conf": "# There is no name server outside the cluster.\n",
    }


def component_entries(spec: NodeSpec) -> list[dict[str, Any]]:
    """Each component with what it needs first and how it is known to be ready. Shapes: supervisor.py."""
    plane, programs, config = spec.plane, spec.programs, spec.paths.config
    pki = str(spec.paths.pki)

    def entry(name: str, command: list[str], after: list[str], **ready: str) -> dict[str, Any]:
        return {"name": name, "command": command, "after": after, "ready": ready, "inherit": []}

    python = [sys.executable, "-m"]
    forwarder = [*python, "tests.cluster.forwarder", str(spec.listener), NODE_IP, str(API_PORT)]
    policy = [*python, "tests.cluster.netpol_agent", "--kubeconfig", str(config / "network-policy.kubeconfig")]
    kubelet = [
        str(programs["kubelet"]),
        f"--config={config / 'kubelet.yaml'}",
        f"--kubeconfig={config / 'kubelet.kubeconfig'}",
        f"--root-dir={RUN_FOLDER / 'kubelet'}",
        f"--hostname-override={spec.hostname}",
        f"--node-ip={NODE_IP}",
    ]
    manager = components.kube_controller_manager(
        programs["kube-controller-manager"], plane, port=10257, pod_cidr=POD_CIDR
    )
    api = ["kube-apiserver"]
    return [
        entry("etcd", components.etcd(programs.etcd, plane), [], url=f"{plane.etcd_url}/health"),
        entry(
            "containerd",
            ["containerd", "--config", str(config / "containerd.toml")],
            [],
            socket=str(CONTAINERD_SOCKET),
        ),
        entry(
            "kube-apiserver",
            components.kube_apiserver(programs["kube-apiserver"], plane, service_accounts=True),
            ["etcd"],
            url=f"{plane.server}/readyz",
            pki=pki,
            identity="admin",
        ),
        {**entry("forwarder", forwarder, []), "inherit": [spec.listener]},
        entry("kube-controller-manager", manager, api),
        entry(
            "kube-scheduler",
            components.kube_scheduler(programs["kube-scheduler"], plane, port=10259),
            api,
        ),
        entry("kube-proxy", [str(programs["kube-proxy"]), f"--config={config / 'kube-proxy.yaml'}"], api),
        entry("network-policy", [*policy, "--socket", str(POLICY_SOCKET)], api, socket=str(POLICY_SOCKET)),
        entry("kubelet", kubelet, ["containerd", *api], url="http://127.0.0.1:10248/healthz"),
    ]


def plan(spec: NodeSpec) -> dict[str, Any]:
    """What supervisor.py reads."""
    data = spec.paths.data
    return {
        "hostname": spec.hostname,
        "cgroup_version": spec.cgroup_version,
        "cgroup_controllers": [list(each) for each in spec.cgroup_controllers],
        "network": {"address": NODE_IP, "prefix": PREFIX, "gateway": GATEWAY_IP},
        "run_folder": str(RUN_FOLDER),
        # Short paths: the kubelet and containerd put sockets below them, and a socket's path is at most 107 bytes.
        "binds": [[str(data / name), str(RUN_FOLDER / name)] for name in ("kubelet", "containerd")],
        "logs": str(spec.paths.logs),
        "state": str(spec.paths.state),
        "components": component_entries(spec),
    }

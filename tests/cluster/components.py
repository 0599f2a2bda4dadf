"""The command line of every control-plane and node component: pure functions of one description.

Flags: https://kubernetes.io/docs/reference/command-line-tools-reference/
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

SERVICE_CIDR = "10.96.0.0/16"
KUBERNETES_SERVICE_IP = "10.96.0.1"
DNS_SERVICE_IP = "10.96.0.10"
CLUSTER_DOMAIN = "cluster.local"

AUDIT_POLICY: dict[str, Any] = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata"}],
}


# Of a module, as Go names it. Debian's own is too old for API servers to read consistently from their caches.
ETCD = ("etcd", "server")


@dataclass(frozen=True)
class ControlPlane:
    """Where a control plane listens and keeps its files."""

    address: str
    port: int
    etcd_port: int
    etcd_peer_port: int
    pki: Path
    config: Path
    data: Path
    audit_log: Path

    @property
    def server(self) -> str:
        return f"https://{self.address}:{self.port}"

    @property
    def etcd_url(self) -> str:
        return f"http://127.0.0.1:{self.etcd_port}"

    @property
    def audit_policy(self) -> Path:
        return self.config / "audit-policy.yaml"


def etcd(program: Path, plane: ControlPlane) -> list[str]:
    """etcd without fsync: a crash of the host may lose the test cluster, and nothing waits for the disk."""
    peer = f"http://127.0.0.1:{plane.etcd_peer_port}"
    return [
        str(program),
        "--name=test",
        f"--data-dir={plane.data / 'etcd'}",
        f"--listen-client-urls={plane.etcd_url}",
        f"--advertise-client-urls={plane.etcd_url}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=test={peer}",
        "--unsafe-no-fsync",
        "--logger=zap",
        "--auto-compaction-mode=periodic",
        "--auto-compaction-retention=5m",
    ]


def kube_apiserver(program: Path, plane: ControlPlane, *, service_accounts: bool) -> list[str]:
    """`service_accounts`: False where no controller manager creates the default account of a namespace."""
    pki = plane.pki
    return [
        str(program),
        f"--advertise-address={plane.address}",
        f"--bind-address={'0.0.0.0' if plane.address != '127.0.0.1' else plane.address}",
        f"--secure-port={plane.port}",
        f"--etcd-servers={plane.etcd_url}",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        *([] if service_accounts else ["--disable-admission-plugins=ServiceAccount"]),
        "--anonymous-auth=true",
        "--allow-privileged=true",
        f"--client-ca-file={pki / 'ca.crt'}",
        f"--tls-cert-file={pki / 'apiserver.crt'}",
        f"--tls-private-key-file={pki / 'apiserver.key'}",
        f"--kubelet-client-certificate={pki / 'apiserver-kubelet-client.crt'}",
        f"--kubelet-client-key={pki / 'apiserver-kubelet-client.key'}",
        f"--kubelet-certificate-authority={pki / 'ca.crt'}",
        "--kubelet-preferred-address-types=InternalIP",
        f"--requestheader-client-ca-file={pki / 'front-proxy-ca.crt'}",
        "--requestheader-allowed-names=front-proxy-client",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-username-headers=X-Remote-User",
        f"--proxy-client-cert-file={pki / 'front-proxy-client.crt'}",
        f"--proxy-client-key-file={pki / 'front-proxy-client.key'}",
        "--enable-aggregator-routing=false",
        f"--service-account-issuer=https://kubernetes.default.svc.{CLUSTER_DOMAIN}",
        f"--service-account-key-file={pki / 'service-account.crt'}",
        f"--service-account-signing-key-file={pki / 'service-account.key'}",
        f"--service-cluster-ip-range={SERVICE_CIDR}",
        "--service-node-port-range=30000-32767",
        "--endpoint-reconciler-type=lease",
        f"--audit-policy-file={plane.audit_policy}",
        f"--audit-log-path={plane.audit_log}",
        "--audit-log-mode=blocking",
        "--audit-log-maxsize=1024",
        "--event-ttl=1h",
        "--profiling=false",
    ]


def kube_controller_manager(program: Path, plane: ControlPlane, *, port: int, pod_cidr: str | None) -> list[str]:
    pki = plane.pki
    kubeconfig = plane.config / "controller-manager.kubeconfig"
    return [
        str(program),
        f"--kubeconfig={kubeconfig}",
        f"--authentication-kubeconfig={kubeconfig}",
        f"--authorization-kubeconfig={kubeconfig}",
        "--bind-address=127.0.0.1",
        f"--secure-port={port}",
        "--controllers=*,bootstrapsigner,tokencleaner",
        "--leader-elect=false",
        "--use-service-account-credentials=true",
        "--kube-api-qps=300",
        "--kube-api-burst=600",
        f"--root-ca-file={pki / 'ca.crt'}",
        f"--service-account-private-key-file={pki / 'service-account.key'}",
        f"--cluster-signing-cert-file={pki / 'ca.crt'}",
        f"--cluster-signing-key-file={pki / 'ca.key'}",
        f"--requestheader-client-ca-file={pki / 'front-proxy-ca.crt'}",
        f"--service-cluster-ip-range={SERVICE_CIDR}",
        *(
            [f"--cluster-cidr={pod_cidr}", "--allocate-node-cidrs=true"]
            if pod_cidr
            else ["--allocate-node-cidrs=false"]
        ),
        # A scale-up must be seen in a test of seconds: metrics come every 15 s.
        "--horizontal-pod-autoscaler-sync-period=5s",
        "--horizontal-pod-autoscaler-initial-readiness-delay=5s",
        "--profiling=false",
    ]


def kube_scheduler(program: Path, plane: ControlPlane, *, port: int) -> list[str]:
    kubeconfig = plane.config / "scheduler.kubeconfig"
    return [
        str(program),
        f"--kubeconfig={kubeconfig}",
        f"--authentication-kubeconfig={kubeconfig}",
        f"--authorization-kubeconfig={kubeconfig}",
        "--bind-address=127.0.0.1",
        f"--secure-port={port}",
        "--leader-elect=false",
        "--profiling=false",
    ]

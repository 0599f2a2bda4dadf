"""What the control plane is started with: certificates, kubeconfig, flags."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from pathlib import Path

import yaml
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.cluster import components, pki
from tests.cluster.kubeconfig import write_kubeconfig

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def written(folder: Path) -> Path:
    pki.write_cluster_pki(folder, now=NOW, server_names=("127.0.0.1", "kubernetes"), node="node", node_ip="10.0.0.2")
    return folder


def load(folder: Path, name: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate((folder / f"{name}.crt").read_bytes())


def test_every_certificate_is_signed_by_its_authority(tmp_path: Path) -> None:
    folder = written(tmp_path)
    authorities = {"ca": load(folder, "ca"), "front-proxy-ca": load(folder, "front-proxy-ca")}
    for name in ("apiserver", "admin", "kubelet", "kubelet-server", "scheduler", "front-proxy-client"):
        issuer = authorities["front-proxy-ca" if name == "front-proxy-client" else "ca"]
        load(folder, name).verify_directly_issued_by(issuer)


def test_the_server_certificate_names_every_address(tmp_path: Path) -> None:
    names = load(written(tmp_path), "apiserver").extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(each) for each in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1"]
    assert names.get_values_for_type(x509.DNSName) == ["kubernetes"]


def test_a_client_certificate_cannot_serve(tmp_path: Path) -> None:
    usage = load(written(tmp_path), "admin").extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert ExtendedKeyUsageOID.SERVER_AUTH not in usage
    assert ExtendedKeyUsageOID.CLIENT_AUTH in usage


def test_the_kubelet_is_a_node(tmp_path: Path) -> None:
    subject = load(written(tmp_path), "kubelet").subject
    assert subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == "system:node:node"
    assert subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)[0].value == "system:nodes"


def test_keys_belong_to_certificates_and_are_private(tmp_path: Path) -> None:
    folder = written(tmp_path)
    assert (folder / "admin.key").stat().st_mode & 0o077 == 0
    public = load(folder, "admin").public_key()
    assert isinstance(public, ec.EllipticCurvePublicKey)


def test_a_kubeconfig_holds_its_certificates(tmp_path: Path) -> None:
    folder = written(tmp_path / "pki")
    path = write_kubeconfig(tmp_path / "kubeconfig", "https://127.0.0.1:6443", folder, pki.ADMIN)
    content = yaml.safe_load(path.read_text())
    assert content["clusters"][0]["cluster"]["server"] == "https://127.0.0.1:6443"
    user = content["users"][0]["user"]
    assert base64.b64decode(user["client-certificate-data"]) == (folder / "admin.crt").read_bytes()
    assert path.stat().st_mode & 0o077 == 0


def plane(root: Path, address: str) -> components.ControlPlane:
    return components.ControlPlane(address, 6443, 2379, 2380, root / "pki", root / "config", root, root / "audit.log")


def test_a_lone_api_server_listens_on_loopback_only(tmp_path: Path) -> None:
    command = components.kube_apiserver(Path("/x"), plane(tmp_path, "127.0.0.1"), service_accounts=False)
    assert "--bind-address=127.0.0.1" in command
    assert "--disable-admission-plugins=ServiceAccount" in command


def test_the_api_server_authorizes_with_node_and_rbac(tmp_path: Path) -> None:
    command = components.kube_apiserver(Path("/x"), plane(tmp_path, "10.0.0.2"), service_accounts=True)
    assert "--authorization-mode=Node,RBAC" in command
    assert not [flag for flag in command if "AlwaysAllow" in flag]
    assert f"--audit-log-path={tmp_path / 'audit.log'}" in command

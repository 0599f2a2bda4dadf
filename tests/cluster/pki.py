"""Certificates of the control plane: two authorities, and one certificate per identity.

Which identity needs which names: https://kubernetes.io/docs/setup/best-practices/certificates/
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

LIFETIME = timedelta(days=365)
CLOCK_SKEW = timedelta(minutes=5)
ADMIN = "admin"


@dataclass(frozen=True)
class Pair:
    """A certificate and its private key, both PEM."""

    certificate: bytes
    key: bytes

    def write(self, folder: Path, name: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.crt").write_bytes(self.certificate)
        key = folder / f"{name}.key"
        key.touch(mode=0o600)
        key.write_bytes(self.key)


@dataclass(frozen=True)
class Authority:
    """A certificate authority that lives for one cluster."""

    pair: Pair
    now: datetime

    @classmethod
    def create(cls, common_name: str, now: datetime) -> Authority:
        key = ec.generate_private_key(ec.SECP256R1())
        name = _name(common_name, ())
        usage = x509.KeyUsage(True, False, True, False, False, True, True, False, False)
        certificate = (
            _builder(name, name, key.public_key(), now)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        return cls(Pair(_pem(certificate), _key_pem(key)), now)

    def issue(self, common_name: str, organizations: Sequence[str] = (), alternatives: Sequence[str] = ()) -> Pair:
        """A certificate for client and, where it has alternative names (DNS or IP), server use."""
        issuer = x509.load_pem_x509_certificate(self.pair.certificate)
        issuer_key = serialization.load_pem_private_key(self.pair.key, password=None)
        assert isinstance(issuer_key, ec.EllipticCurvePrivateKey)
        key = ec.generate_private_key(ec.SECP256R1())
        usages = [ExtendedKeyUsageOID.CLIENT_AUTH, *([ExtendedKeyUsageOID.SERVER_AUTH] if alternatives else [])]
        builder = (
            _builder(_name(common_name, organizations), issuer.subject, key.public_key(), self.now)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()),
                critical=False,
            )
        )
        if alternatives:
            names = x509.SubjectAlternativeName([_general_name(each) for each in alternatives])
            builder = builder.add_extension(names, critical=False)
        return Pair(_pem(builder.sign(issuer_key, hashes.SHA256())), _key_pem(key))


def write_cluster_pki(folder: Path, *, now: datetime, server_names: Sequence[str], node: str, node_ip: str) -> None:
    """Everything a control plane and one node need, as NAME.crt and NAME.key in `folder`."""
    authority = Authority.create("openclaw-test-cluster", now)
    front_proxy = Authority.create("openclaw-test-cluster-front-proxy", now)
    pairs = {
        "ca": authority.pair,
        "front-proxy-ca": front_proxy.pair,
        "apiserver": authority.issue("kube-apiserver", (), server_names),
        "apiserver-kubelet-client": authority.issue("kube-apiserver-kubelet-client", ("system:masters",)),
        "front-proxy-client": front_proxy.issue("front-proxy-client"),
        ADMIN: authority.issue("openclaw-test-admin", ("system:masters",)),
        "controller-manager": authority.issue("system:kube-controller-manager"),
        "scheduler": authority.issue("system:kube-scheduler"),
        "kube-proxy": authority.issue("system:kube-proxy"),
        "network-policy": authority.issue("openclaw:network-policy"),
        "kubelet": authority.issue(f"system:node:{node}", ("system:nodes",)),
        "kubelet-server": authority.issue(f"system:node:{node}", (), (node, node_ip)),
    }
    for name, pair in pairs.items():
        pair.write(folder, name)
    service_account = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    Pair(
        service_account.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        ),
        _key_pem(service_account),
    ).write(folder, "service-account")


def _builder(
    subject: x509.Name, issuer: x509.Name, public_key: ec.EllipticCurvePublicKey, now: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + LIFETIME)
    )


def _name(common_name: str, organizations: Sequence[str]) -> x509.Name:
    parts = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, each) for each in organizations]
    return x509.Name([*parts, x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _general_name(value: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(value))
    except ValueError:
        return x509.DNSName(value)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )

"""kubeconfig files (https://kubernetes.io/docs/reference/config-api/kubeconfig.v1/)."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import yaml


def kubeconfig(server: str, ca: bytes, certificate: bytes, key: bytes) -> dict[str, Any]:
    """One cluster, one user, one context; certificates inside the file, so that it can be copied."""

    def encoded(data: bytes) -> str:
        return base64.b64encode(data).decode()

    name = "openclaw-test"
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": {"server": server, "certificate-authority-data": encoded(ca)}}],
        "users": [
            {
                "name": name,
                "user": {"client-certificate-data": encoded(certificate), "client-key-data": encoded(key)},
            }
        ],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name, "namespace": "default"}}],
        "current-context": name,
    }


def write_kubeconfig(path: Path, server: str, pki: Path, identity: str) -> Path:
    """A kubeconfig for an identity of write_cluster_pki, readable by its owner only."""
    content = kubeconfig(
        server,
        (pki / "ca.crt").read_bytes(),
        (pki / f"{identity}.crt").read_bytes(),
        (pki / f"{identity}.key").read_bytes(),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path

"""A skill that cosign signed, from a real registry that speaks TLS or asks for tokens, to a package agents can have."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.cluster.devtools import BUILD_TIMEOUT_SECONDS
from tests.cluster.paths import REPOSITORY
from tests.integration.operator.conftest import Cluster
from tests.integration.operator.manifests import SKILL
from tests.integration.operator.process import OperatorProcess
from tests.integration.operator.test_bad_input import changed
from tests.integration.operator.test_sources import fetching
from tests.integration.registry.conftest import (
    HTPASSWD,
    LOGIN,
    StartRegistry,
    TokenServer,
    registry_program,
    start_registry,
    token_server,
)

__all__ = ["fetching", "registry_program", "start_registry", "token_server"]

pytestmark = pytest.mark.timeout(BUILD_TIMEOUT_SECONDS)

# What cosign made, and all that the repository held afterwards; see its README.md.
SIGNED = REPOSITORY / "tests" / "unit" / "operator" / "cosign"
PATH = "skills/echo"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"


@pytest.fixture
def folder(start_registry: StartRegistry, tmp_path: Path) -> Path:
    """The storage of a registry that holds the recorded repository."""
    recorded = json.loads((SIGNED / "registry.json").read_text())
    contents = {name: base64.b64decode(text) for name, text in recorded.items()}
    storage = tmp_path / "storage"
    with start_registry({}, storage) as host, httpx.Client(base_url=f"http://{host}", timeout=60) as http:
        for name, content in sorted(contents.items(), key=lambda item: b'"manifests"' in item[1]):
            kind, _, reference = name.partition("/")
            if kind == "blobs":
                place = http.post(f"/v2/{PATH}/blobs/uploads/").raise_for_status().headers["Location"]
                http.put(place, params={**httpx.URL(place).params, "digest": reference}, content=content)
            else:
                media = json.loads(content).get("mediaType", MANIFEST)
                path = f"/v2/{PATH}/manifests/{reference}"
                http.put(path, content=content, headers={"Content-Type": media}).raise_for_status()
    return storage


def login(host: str) -> str:
    """A pull secret."""
    auth = base64.b64encode(f"{LOGIN.username}:{LOGIN.secret}".encode()).decode()
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "kubernetes.io/dockerconfigjson",
        "metadata": {"name": "pull"},
        "stringData": {".dockerconfigjson": json.dumps({"auths": {host: {"auth": auth}}})},
    }
    return yaml.safe_dump(secret)


def skill(host: str, key: str, **access: Any) -> str:
    recorded = json.loads((SIGNED / "registry.json").read_text())
    digest = next(name for name in recorded if name.endswith(".sig")).removeprefix("manifests/sha256-")
    reference = f"{host}/{PATH}@sha256:{digest.removesuffix('.sig')}"
    source = {"oci": {"reference": reference, "pullSecretRef": {"name": "pull"}, **access}}
    signed = changed(SKILL, "spec.signature", {"cosign": {"publicKey": key}})
    return changed(signed, "spec.source", source)


@contextmanager
def over_tls(start: StartRegistry, folder: Path, tmp_path: Path) -> Iterator[tuple[str, str]]:
    """A registry with a certificate of its own making, which asks for a password; and that certificate."""
    key, certificate, passwords = tmp_path / "key.pem", tmp_path / "cert.pem", tmp_path / "htpasswd"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-days", "2", "-subj", "/CN=registry", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    passwords.write_text(HTPASSWD)
    auth = {"htpasswd": {"realm": "test", "path": str(passwords)}}
    with start(auth, folder, (certificate, key)) as host:
        yield host, certificate.read_text()


async def test_a_signed_skill_comes_over_tls_with_a_password(
    full_cluster: Cluster,
    fetching: Callable[..., OperatorProcess],
    start_registry: StartRegistry,
    folder: Path,
    tmp_path: Path,
) -> None:
    cluster, public = full_cluster, (SIGNED / "cosign.pub").read_text()
    fetching()
    with over_tls(start_registry, folder, tmp_path) as (host, certificate):
        bundle = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "ca"}, "data": {"ca.crt": certificate}}
        await cluster.apply(login(host), yaml.safe_dump(bundle), skill(host, public))
        message = await cluster.wait_condition("Skill", "echo", "Ready", "False", "SourceUntrusted")
        assert "name its authority in caBundleRef" in message
        trusted = {"caBundleRef": {"name": "ca", "key": "ca.crt"}}
        await cluster.apply(skill(host, another_key(), **trusted))
        message = await cluster.wait_condition("Skill", "echo", "Ready", "False", "SignatureInvalid")
        assert "none of the 2 signatures" in message
        assert "digest" not in (await cluster.get("Skill", "echo"))["status"]
        await cluster.apply(skill(host, public, **trusted))
        await verified(cluster)


async def test_a_signed_skill_comes_from_a_registry_that_asks_for_tokens(
    full_cluster: Cluster,
    fetching: Callable[..., OperatorProcess],
    start_registry: StartRegistry,
    token_server: TokenServer,
    folder: Path,
    tmp_path: Path,
) -> None:
    fetching()
    keys = tmp_path / "jwks.json"
    keys.write_text(json.dumps(token_server.jwks()))
    token = {"realm": token_server.realm, "service": token_server.service, "issuer": token_server.issuer}
    auth = {"token": {**token, "jwks": str(keys), "signingalgorithms": ["ES256"]}}
    with start_registry(auth, folder) as host:
        public = (SIGNED / "cosign.pub").read_text()
        await full_cluster.apply(login(f"http://{host}"), skill(host, public, plainHTTP=True))
        await verified(full_cluster)
    assert token_server.scopes == [f"repository:{PATH}:pull"]


async def verified(cluster: Cluster) -> None:
    """The package is in the cluster, and the status says by whom it was signed."""
    await cluster.wait_condition("Skill", "echo", "Ready", "True", "Ready")
    status = (await cluster.get("Skill", "echo"))["status"]
    assert status["fetched"]["signedBy"].startswith("sha256:")
    assert (await cluster.get("ConfigMap", status["packageConfigMap"]))["binaryData"]


def another_key() -> str:
    """The public key of somebody else."""
    made = subprocess.run(
        ["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout"], check=True, capture_output=True
    )
    public = subprocess.run(["openssl", "ec", "-pubout"], input=made.stdout, check=True, capture_output=True)
    return public.stdout.decode()

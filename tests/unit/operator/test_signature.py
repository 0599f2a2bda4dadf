"""Signatures that the real cosign made, and some it did not."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from openclaw_operator.errors import FetchError, SpecError
from openclaw_operator.fetch.registry import Artifact, Registry, parse
from openclaw_operator.fetch.web import Answer, Web
from openclaw_operator.resources import package
from openclaw_operator.resources.signature import SIGN_PREDICATE, Key, require_artifact, require_blob

FOLDER = Path(__file__).parent / "cosign"
PUBLIC = (FOLDER / "cosign.pub").read_text()
RECORDED = {path: base64.b64decode(text) for path, text in json.loads((FOLDER / "registry.json").read_text()).items()}
DIGEST = next(path for path in RECORDED if path.endswith(".sig")).removeprefix("manifests/sha256-").removesuffix(".sig")
REFERENCE = f"registry.example.com/skills/echo:1.2.0@sha256:{DIGEST}"


class Recorded:
    """Stands in for Web: the registry as cosign left it, `changes` aside."""

    def __init__(self, changes: Mapping[str, bytes] | None = None) -> None:
        self.contents = {**RECORDED, **(changes or {})}

    async def get(self, url: str, **_: object) -> Answer:
        body = self.contents.get(url.removeprefix("https://registry.example.com/v2/skills/echo/"))
        return Answer(404, {}, b"") if body is None else Answer(200, {}, body)


async def fetched(changes: Mapping[str, bytes] | None = None) -> Artifact:
    web = cast("Web", Recorded(changes))
    return await Registry(web, parse(REFERENCE), plain_http=False, login=None, secret=None).fetch(signatures=True)


def require(key: Key, artifact: Artifact, digest: str = f"sha256:{DIGEST}") -> None:
    pairs = [(item.payload, item.signature) for item in artifact.signatures]
    require_artifact(key, digest, artifact.manifest, pairs, artifact.bundles)


def pem(key: ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | rsa.RSAPublicKey) -> str:
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()


OTHER = Key(pem(ec.generate_private_key(ec.SECP256R1()).public_key()))


async def test_each_form_cosign_leaves_in_a_registry_counts() -> None:
    artifact = await fetched()
    assert len(artifact.signatures) == len(artifact.bundles) == 1
    require(Key(PUBLIC), replace(artifact, bundles=()))
    require(Key(PUBLIC), replace(artifact, signatures=()))


async def test_signatures_by_others_or_of_others_do_not_count() -> None:
    artifact = await fetched()
    for part in (artifact, replace(artifact, bundles=()), replace(artifact, signatures=())):
        with pytest.raises(SpecError, match="is by this key") as refusal:
            require(OTHER, part)
        assert refusal.value.reason == "SignatureInvalid"
        with pytest.raises(SpecError, match="is by this key"):
            require(Key(PUBLIC), part, "sha256:" + "0" * 64)
    with pytest.raises(SpecError, match="cosign sign --key") as nothing:
        require(Key(PUBLIC), replace(artifact, signatures=(), bundles=()))
    assert nothing.value.reason == "SignatureNotFound"


async def test_a_signed_statement_about_something_else_is_no_signature() -> None:
    """A provenance attestation by the same key names the artifact too, and may say that it is bad."""
    private = ec.generate_private_key(ec.SECP256R1())
    key = Key(pem(private.public_key()))
    for predicate, counts in ((SIGN_PREDICATE, True), ("https://slsa.dev/provenance/v1", False)):
        statement = {"predicateType": predicate, "subject": [{"digest": {"sha256": DIGEST}}]}
        payload, kind = json.dumps(statement).encode(), "application/vnd.in-toto+json"
        signed = f"DSSEv1 {len(kind)} {kind} {len(payload)} ".encode() + payload
        signature = base64.b64encode(private.sign(signed, ec.ECDSA(hashes.SHA256()))).decode()
        envelope = {
            "payloadType": kind,
            "payload": base64.b64encode(payload).decode(),
            "signatures": [{"sig": signature}],
        }
        bundle = json.dumps({"dsseEnvelope": envelope}).encode()
        if counts:
            require_artifact(key, f"sha256:{DIGEST}", b"", [], [bundle])
        else:
            with pytest.raises(SpecError):
                require_artifact(key, f"sha256:{DIGEST}", b"", [], [bundle])


@pytest.mark.parametrize("text", [b"", b"[]", b"{}", b'{"dsseEnvelope": 1}', b'{"messageSignature": {}}', b"\xff"])
def test_garbage_is_no_signature(text: bytes) -> None:
    with pytest.raises(SpecError, match="is by this key"):
        require_artifact(Key(PUBLIC), f"sha256:{DIGEST}", b"", [(text, "x")], [text])


async def test_content_that_changed_under_its_digest_is_refused() -> None:
    blob = next(path for path in RECORDED if path.startswith("blobs/"))
    for path in (f"manifests/sha256:{DIGEST}", blob):
        with pytest.raises(FetchError, match="changed under its digest") as refusal:
            await fetched(
                {path: b"{}" if "manifests" in path else b"x"} | ({} if "blobs" not in path else every_blob())
            )
        assert refusal.value.reason == "DigestMismatch"


def every_blob() -> dict[str, bytes]:
    return {path: b"x" for path in RECORDED if path.startswith("blobs/")}


@pytest.mark.parametrize("name", ["echo.bundle", "echo.sig"])
async def test_blob_signatures_are_over_the_uncompressed_tar(name: str) -> None:
    _, tar, _ = package.stored((await fetched()).package)
    text = (FOLDER / name).read_text()
    require_blob(Key(PUBLIC), text, tar)
    with pytest.raises(SpecError, match="cosign sign-blob"):
        require_blob(Key(PUBLIC), text, tar + b"\0")
    with pytest.raises(SpecError, match="cosign sign-blob"):
        require_blob(OTHER, text, tar)


def test_ed25519_keys_work_and_others_are_named() -> None:
    private = ed25519.Ed25519PrivateKey.generate()
    require_blob(Key(pem(private.public_key())), base64.b64encode(private.sign(b"tar")).decode(), b"tar")
    with pytest.raises(SpecError, match="neither ECDSA P-256 nor Ed25519"):
        Key(pem(rsa.generate_private_key(65537, 2048).public_key()))
    with pytest.raises(SpecError, match="not a public key in PEM"):
        Key("-----BEGIN PUBLIC KEY-----\nnonsense\n-----END PUBLIC KEY-----\n")

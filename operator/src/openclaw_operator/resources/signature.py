"""Verifies what cosign signed with a key pair. Pure; certificates and transparency logs play no part.

Formats: https://github.com/sigstore/cosign/blob/main/specs/SIGNATURE_SPEC.md (simple signing),
https://github.com/sigstore/protobuf-specs/blob/main/protos/sigstore_bundle.proto (bundles),
https://github.com/secure-systems-lab/dsse/blob/master/protocol.md (DSSE).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Iterable
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from openclaw_operator.errors import SpecError

# What `cosign sign` states about an artifact; other predicates (provenance, SBOMs) are no signature of the artifact.
SIGN_PREDICATE = "https://sigstore.dev/cosign/sign/v1"
IN_TOTO = "application/vnd.in-toto+json"
_KEY_FIELD = "spec.signature.cosign.publicKey"
PublicKey = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey


class Key:
    """A public key. `id` is the sha256 of its DER form."""

    def __init__(self, pem: str) -> None:
        """Raise SpecError InvalidKey for a text that is no public key of a kind that is known."""
        try:
            key = serialization.load_pem_public_key(pem.encode())
        except (ValueError, UnsupportedAlgorithm):
            raise SpecError(
                "InvalidKey",
                f"{_KEY_FIELD}: not a public key in PEM: use the cosign.pub that cosign generate-key-pair made",
            ) from None
        known = isinstance(key, ed25519.Ed25519PublicKey) or (
            isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1)
        )
        if not known:
            raise SpecError(
                "InvalidKey", f"{_KEY_FIELD}: neither ECDSA P-256 nor Ed25519: sign with a key of these kinds"
            )
        assert isinstance(key, ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey)
        self._key: PublicKey = key
        der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        self.id = "sha256:" + hashlib.sha256(der).hexdigest()

    def made(self, signature: str, content: bytes) -> bool:
        """Whether a base64 signature over `content` is by this key."""
        try:
            raw = base64.b64decode(signature.strip(), validate=True)
            if isinstance(self._key, ed25519.Ed25519PublicKey):
                self._key.verify(raw, content)
            else:
                self._key.verify(raw, content, ec.ECDSA(hashes.SHA256()))
        except (binascii.Error, ValueError, InvalidSignature):
            return False
        return True


def require_blob(key: Key, signature: str, content: bytes) -> None:
    """Raise SpecError SignatureInvalid unless `signature` (base64 or a bundle) over a blob is by the key."""
    text = signature.strip()
    if text.startswith("{"):
        text = str((_json(text.encode()).get("messageSignature") or {}).get("signature") or "")
    if not key.made(text, content):
        raise SpecError(
            "SignatureInvalid",
            "spec.signature.cosign.signature: not made with this key over the uncompressed tar of this package: sign "
            "what openclaw skill pack --output NAME.tar writes with cosign sign-blob, and copy the signature here",
        )


def require_artifact(
    key: Key, digest: str, manifest: bytes, simple: Iterable[tuple[bytes, str]], bundles: Iterable[bytes]
) -> None:
    """Raise SpecError unless one of the signatures found in a registry is by the key, over the manifest of `digest`.

    `simple` are (payload, base64 signature) pairs, `bundles` the texts of Sigstore bundles.
    """
    pairs, texts = list(simple), list(bundles)
    if any(_simple_digest(payload) == digest and key.made(signature, payload) for payload, signature in pairs):
        return
    if any(_bundle_signs(key, text, digest, manifest) for text in texts):
        return
    count = len(pairs) + len(texts)
    if count == 0:
        raise SpecError(
            "SignatureNotFound",
            f"spec.signature.cosign: the registry has no signature of {digest}: run cosign sign --key cosign.key on "
            "the reference with this digest",
        )
    raise SpecError(
        "SignatureInvalid",
        f"spec.signature.cosign: none of the {count} signatures of {digest} is by this key: sign the artifact with its "
        "private key, or set the public key of who signed it",
    )


def _simple_digest(payload: bytes) -> object:
    critical = _json(payload).get("critical")
    image = critical.get("image") if isinstance(critical, dict) else None
    return image.get("docker-manifest-digest") if isinstance(image, dict) else None


def _bundle_signs(key: Key, text: bytes, digest: str, manifest: bytes) -> bool:
    bundle = _json(text)
    message = bundle.get("messageSignature")
    if isinstance(message, dict):
        return key.made(str(message.get("signature")), manifest)
    envelope = bundle.get("dsseEnvelope")
    if not isinstance(envelope, dict) or envelope.get("payloadType") != IN_TOTO:
        return False
    try:
        payload = base64.b64decode(str(envelope.get("payload")), validate=True)
    except binascii.Error:
        return False
    signed = _pre_authentication(IN_TOTO, payload)
    signatures = [item for item in envelope.get("signatures") or () if isinstance(item, dict)]
    if not any(key.made(str(item.get("sig")), signed) for item in signatures):
        return False
    statement = _json(payload)
    subjects = [item for item in statement.get("subject") or () if isinstance(item, dict)]
    named = {(item.get("digest") or {}).get("sha256") for item in subjects if isinstance(item.get("digest"), dict)}
    return statement.get("predicateType") == SIGN_PREDICATE and digest.removeprefix("sha256:") in named


def _pre_authentication(payload_type: str, payload: bytes) -> bytes:
    kind = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def _json(content: bytes) -> dict[str, Any]:
    """A JSON object, {} for anything else."""
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}

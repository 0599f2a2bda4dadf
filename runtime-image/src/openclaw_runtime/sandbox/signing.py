"""Who may call a sandbox: Ed25519 signatures over one call, bound to one pod, one connection and a short time.

A pod holds public keys only, several while a key is being rotated. A signature is good for exactly one connection,
because it covers that connection's nonce; a replay fails on any other connection, and the connection's nonce is spent
by the first call made on it.
"""

import base64
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from openclaw_runtime.sandbox.protocol import (
    RELEASE_CONTEXT,
    SIGNING_CONTEXT,
    CallPayload,
    Holder,
    ReleasePayload,
)

KEY_BYTES = 32
SIGNATURE_BYTES = 64
CLOCK_SKEW_SECONDS = 30
"""How far the clocks of two nodes may be apart."""
MAX_VALIDITY_SECONDS = 600
"""A signature that claims to be good for longer is refused: nobody needs one."""


class SigningError(Exception):
    """A key cannot be used, or a call is not authorised. `str()` says why in one line."""


class Signs(Protocol):
    """Whatever can sign a call."""

    def sign(self, payload: str, context: bytes = SIGNING_CONTEXT) -> str:
        """Returns the base64 signature over a payload's text; `context` says what it is the payload of."""
        ...


class Checks(Protocol):
    """Whatever knows who may have signed."""

    def signed(self, data: bytes, signature: bytes) -> bool:
        """Whether one of the keys made the signature."""
        ...


class Signer:
    """The gateway's side: holds the private key (a raw 32-byte seed)."""

    def __init__(self, seed: bytes) -> None:
        if len(seed) != KEY_BYTES:
            raise SigningError(f"private key: expected {KEY_BYTES} raw bytes, got {len(seed)}")
        self._key = Ed25519PrivateKey.from_private_bytes(seed)

    @classmethod
    def generate(cls) -> "Signer":
        """Returns a signer with a new key, for sandboxes that live as long as this process."""
        return cls(Ed25519PrivateKey.generate().private_bytes_raw())

    @property
    def public_key(self) -> bytes:
        """The raw 32-byte public key."""
        return self._key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)

    def sign(self, payload: str, context: bytes = SIGNING_CONTEXT) -> str:
        """Returns the base64 signature over a payload's text; `context` says what it is the payload of."""
        return base64.b64encode(self._key.sign(context + payload.encode())).decode()


@dataclass(frozen=True, slots=True)
class Connection:
    """What a signature has to be for: this connection's nonce, this pod, this moment (Unix seconds)."""

    nonce: bytes
    pod_uid: str
    now: float

    def check(self, payload: CallPayload | ReleasePayload) -> None:
        """Raises `SigningError` unless the payload was made for here and now."""
        if payload.nonce != self.nonce:
            raise SigningError("nonce: not the one of this connection")
        if payload.pod_uid != self.pod_uid:
            raise SigningError("podUid: the call is for another pod")
        if payload.expires_at + CLOCK_SKEW_SECONDS < self.now:
            raise SigningError("expiresAt: the call has expired")
        if payload.expires_at > self.now + MAX_VALIDITY_SECONDS + CLOCK_SKEW_SECONDS:
            raise SigningError(f"expiresAt: more than {MAX_VALIDITY_SECONDS} s away")


class Verifier:
    """The pod's side: public keys, any of which may have signed."""

    def __init__(self, public_keys: Iterable[bytes]) -> None:
        self._keys = [Ed25519PublicKey.from_public_bytes(key) for key in public_keys]
        if not self._keys:
            raise SigningError("public keys: none given")

    @classmethod
    def from_text(cls, text: str) -> "Verifier":
        """Reads comma-separated base64 keys. Raises `SigningError`."""
        keys = []
        for number, part in enumerate(filter(None, (item.strip() for item in text.split(","))), start=1):
            try:
                key = base64.b64decode(part, validate=True)
            except ValueError:
                raise SigningError(f"public key {number}: not base64") from None
            if len(key) != KEY_BYTES:
                raise SigningError(f"public key {number}: expected {KEY_BYTES} raw bytes, got {len(key)}")
            keys.append(key)
        return cls(keys)

    def signed(self, data: bytes, signature: bytes) -> bool:
        """Whether one of the keys made the signature."""
        for key in self._keys:
            try:
                key.verify(signature, data)
            except InvalidSignature:
                continue
            return True
        return False

    def open(self, payload: str, signature: str, connection: Connection) -> CallPayload:
        """Returns the call if it is authorised for this pod, this connection and this moment.

        Raises `SigningError` if it is not, and `ProtocolError` if a correctly signed payload cannot be read.
        """
        self._check_signature(SIGNING_CONTEXT, payload, signature)
        call = CallPayload.parse(payload)
        connection.check(call)
        return call

    def open_release(self, payload: str, signature: str, connection: Connection) -> Holder:
        """Returns whose lease is to end. Raises as `open` does."""
        self._check_signature(RELEASE_CONTEXT, payload, signature)
        release = ReleasePayload.parse(payload)
        connection.check(release)
        return release.holder

    def _check_signature(self, context: bytes, payload: str, signature: str) -> None:
        try:
            raw = base64.b64decode(signature, validate=True)
            signed = payload.encode()
        except ValueError:
            raise SigningError("signature: not base64") from None
        if len(raw) != SIGNATURE_BYTES or not self.signed(context + signed, raw):
            raise SigningError("signature: no key of this pod made it")

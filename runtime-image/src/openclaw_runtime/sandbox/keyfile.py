"""Keys in mounted files, which are replaced when the operator rotates the namespace's key."""

from pathlib import Path

from openclaw_runtime.follow import FollowedFile
from openclaw_runtime.sandbox.protocol import SIGNING_CONTEXT
from openclaw_runtime.sandbox.signing import Signer, Verifier


class KeyFile:
    """Signs with the key that the file holds at that moment. Raises `OSError` or `SigningError` when it is made."""

    def __init__(self, path: Path) -> None:
        self._file = FollowedFile(path, lambda file: Signer(file.read_bytes()))

    def sign(self, payload: str, context: bytes = SIGNING_CONTEXT) -> str:
        """Returns the base64 signature over a payload's text; `context` says what it is the payload of."""
        return self._file.get().sign(payload, context)


class PublicKeysFile:
    """Believes the public keys that the file holds at that moment: base64, comma separated.

    Raises `OSError` or `SigningError` when it is made.
    """

    def __init__(self, path: Path) -> None:
        self._file = FollowedFile(path, lambda file: Verifier.from_text(file.read_text()))

    def signed(self, data: bytes, signature: bytes) -> bool:
        """Whether one of the keys made the signature."""
        return self._file.get().signed(data, signature)

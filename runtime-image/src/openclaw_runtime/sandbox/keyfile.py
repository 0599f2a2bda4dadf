"""The gateway's signing key in a mounted file, which is replaced when the operator rotates the namespace's key."""

from pathlib import Path

from openclaw_runtime.follow import FollowedFile
from openclaw_runtime.sandbox.protocol import SIGNING_CONTEXT
from openclaw_runtime.sandbox.signing import Signer


class KeyFile:
    """Signs with the key that the file holds at that moment. Raises `OSError` or `SigningError` when it is made."""

    def __init__(self, path: Path) -> None:
        self._file = FollowedFile(path, lambda file: Signer(file.read_bytes()))

    def sign(self, payload: str, context: bytes = SIGNING_CONTEXT) -> str:
        """Returns the base64 signature over a payload's text; `context` says what it is the payload of."""
        return self._file.get().sign(payload, context)

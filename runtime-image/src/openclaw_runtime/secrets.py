"""Secrets that are looked up when they are used."""

from pathlib import Path
from typing import Protocol

from openclaw_runtime.config import read_secret
from openclaw_runtime.follow import FollowedFile


class Secret(Protocol):
    """A secret that is looked up when it is used: pydantic's SecretStr, or a file that is followed."""

    def get_secret_value(self) -> str:
        """Returns the secret."""
        ...


class SecretFile:
    """A secret that is read from a file again when that is replaced. Raises `ConfigError` when it is made."""

    def __init__(self, path: Path, field: str) -> None:
        self._file = FollowedFile(path.expanduser(), lambda file: read_secret(file, field))

    def get_secret_value(self) -> str:
        """Returns what the file holds now."""
        return self._file.get().get_secret_value()

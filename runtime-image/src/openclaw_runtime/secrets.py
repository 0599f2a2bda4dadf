"""Secrets that are looked up when they are used."""

from pathlib import Path
from typing import Protocol

from pydantic import SecretStr

from openclaw_runtime.errors import ConfigError, ConfigProblem
from openclaw_runtime.follow import FollowedFile


def read_secret(path: Path, field: str) -> SecretStr:
    """Reads a secret from a file, without surrounding white space. Raises `ConfigError` if it is missing or empty."""
    try:
        value = path.expanduser().read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "is not UTF-8 text"
        raise ConfigError(field, [ConfigProblem("", f"{path} cannot be read: {reason}")]) from None
    if not value:
        raise ConfigError(field, [ConfigProblem("", f"{path} is empty; write the secret into it")])
    return SecretStr(value)


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

"""Credentials for skill registries: one JSON file that only its owner can read. Blocking: for the command line only.

Shape: `{"version": 1, "default": "HOST/PATH" or null, "registries": {"HOST": {"username": … or null, "secret": …}}}`.
"""

import contextlib
import json
import os
import stat
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from openclaw_runtime.skills.oci_errors import CredentialError

_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Credential:
    """A user name and its password, or a token alone. The secret is never shown by `repr`."""

    secret: str = field(repr=False)
    username: str | None = None


@dataclass(frozen=True, slots=True)
class Credentials:
    """All credentials; `default` is the HOST/PATH prefix that names without a host are completed with."""

    registries: Mapping[str, Credential] = field(default_factory=dict)
    default: str | None = None

    def with_login(self, host: str, credential: Credential, default: str | None) -> "Credentials":
        """Returns these credentials and the given ones; the default changes when one is given."""
        return Credentials({**self.registries, host: credential}, default or self.default)

    def without(self, host: str) -> "Credentials":
        """Returns these credentials less those of a host."""
        rest = {name: value for name, value in self.registries.items() if name != host}
        kept = None if self.default is not None and self.default.partition("/")[0] == host else self.default
        return replace(self, registries=rest, default=kept)


def default_path(environ: Mapping[str, str]) -> Path:
    """Returns $XDG_CONFIG_HOME/openclaw/registry.json, else ~/.config/openclaw/registry.json."""
    base = environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "openclaw" / "registry.json"


def load(path: Path) -> Credentials:
    """Reads the file; a missing one holds nothing. Raises `CredentialError`, never with a secret in its message."""
    try:
        with path.open(encoding="utf-8") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if mode & 0o077:
                raise CredentialError(f"{path}: others may read it (mode {mode:04o}); fix: chmod 600 {path}")
            data = json.load(file)
    except FileNotFoundError:
        return Credentials()
    except OSError as error:
        raise CredentialError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError:
        raise CredentialError(f"{path}: is not JSON; remove it and log in again") from None
    return _parse(data, path)


def _parse(data: Any, path: Path) -> Credentials:
    try:
        if data["version"] != _FORMAT:
            raise CredentialError(f"{path}: has format {data['version']!r}, this program reads {_FORMAT}; log in again")
        registries = {
            str(host): Credential(secret=str(entry["secret"]), username=entry.get("username"))
            for host, entry in data["registries"].items()
        }
        return Credentials(registries, data.get("default"))
    except (AttributeError, KeyError, TypeError):
        raise CredentialError(f"{path}: is not a credentials file; remove it and log in again") from None


def save(path: Path, credentials: Credentials) -> None:
    """Replaces the file in one step, mode 0600 from its first byte on. Raises `CredentialError`."""
    content = {
        "version": _FORMAT,
        "default": credentials.default,
        "registries": {
            host: {"username": entry.username, "secret": entry.secret} for host, entry in credentials.registries.items()
        },
    }
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # mkstemp makes the file with mode 0600.
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(content, file, indent=2)
                file.write("\n")
            Path(temporary).replace(path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                Path(temporary).unlink()
            raise
    except OSError as error:
        raise CredentialError(f"{path}: cannot be written: {error.strerror}") from None

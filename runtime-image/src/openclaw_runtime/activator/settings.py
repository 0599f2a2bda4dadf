"""The activator's settings from the environment of its pod, and the agents it serves from a mounted file."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec


class SettingsError(Exception):
    """A setting is missing or wrong. `str()` names the variable, its value and what is allowed."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How one activator is set up. `grace_seconds` is how long requests may go on after SIGTERM.

    `settle_seconds` is how long an agent has to be known before it may be idle: gateways that leave messages for it
    learn from a mounted file that there is an activator, and the kubelet takes a while to bring them that.
    """

    agents_file: Path
    namespace: str
    host: str
    port: int
    api_port: int
    grace_seconds: int
    settle_seconds: int


class Sleeper(msgspec.Struct, frozen=True):
    """An agent that hibernates. `token_sha256` is in hexadecimal; the token itself is not known here."""

    token_sha256: str
    idle_seconds: float
    wake_timeout_seconds: float


class Sleepers(msgspec.Struct, frozen=True):
    """The agents by name."""

    agents: dict[str, Sleeper]

    def of_token(self, digest: str) -> str | None:
        """Returns the agent whose token has that SHA-256."""
        return next((name for name, each in self.agents.items() if each.token_sha256 == digest), None)


def read_sleepers(path: Path) -> Sleepers:
    """Reads the mounted file. Raises `SettingsError`."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Sleepers)
    except (OSError, msgspec.MsgspecError) as error:
        raise SettingsError(f"{path}: cannot be used: {error}") from None


def read_settings(environ: Mapping[str, str]) -> Settings:
    """Reads the settings. Raises `SettingsError`."""
    return Settings(
        agents_file=Path(_required(environ, "OPENCLAW_ACTIVATOR_AGENTS_FILE")),
        namespace=_required(environ, "POD_NAMESPACE"),
        host=environ.get("OPENCLAW_ACTIVATOR_HOST", "") or "0.0.0.0",
        port=_number(environ, "OPENCLAW_ACTIVATOR_PORT", 7456),
        api_port=_number(environ, "OPENCLAW_ACTIVATOR_API_PORT", 7471),
        grace_seconds=_number(environ, "OPENCLAW_ACTIVATOR_GRACE_SECONDS", 120),
        settle_seconds=_number(environ, "OPENCLAW_ACTIVATOR_SETTLE_SECONDS", 150),
    )


def _required(environ: Mapping[str, str], name: str) -> str:
    value = environ.get(name, "")
    if not value:
        raise SettingsError(f"{name}: missing")
    return value


def _number(environ: Mapping[str, str], name: str, default: int) -> int:
    text = environ.get(name, "")
    if not text:
        return default
    if not text.isascii() or not text.isdigit() or int(text) > 65_535:
        raise SettingsError(f"{name}: {text!r} is not a number from 0 to 65535")
    return int(text)

"""The activator's settings from the environment of its pod, and the agents it serves from a mounted file."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from openclaw_runtime.environ import SettingsError, number


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
        port=number(environ, "OPENCLAW_ACTIVATOR_PORT", 7456, 65_535),
        api_port=number(environ, "OPENCLAW_ACTIVATOR_API_PORT", 7471, 65_535),
        grace_seconds=number(environ, "OPENCLAW_ACTIVATOR_GRACE_SECONDS", 120, 65_535),
        settle_seconds=number(environ, "OPENCLAW_ACTIVATOR_SETTLE_SECONDS", 150, 65_535),
    )


def _required(environ: Mapping[str, str], name: str) -> str:
    value = environ.get(name, "")
    if not value:
        raise SettingsError(f"{name}: missing")
    return value

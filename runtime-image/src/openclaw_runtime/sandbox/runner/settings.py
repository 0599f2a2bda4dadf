"""The runner's settings, all from the environment of its pod (or of the process that started it).

Imported before the child is forked, so it pulls in nothing heavy; the keys are read by the server.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from openclaw_runtime.environ import SettingsError, number
from openclaw_runtime.sandbox.memory import memory_of_call
from openclaw_runtime.sandbox.runner.languages import SERVED, Languages

LEASE_IDLE_SECONDS: Final = 300
LEASE_MAX_SECONDS: Final = 3600
_LEVELS: Final = ("isolated", "restricted")
_OWN: Final = ("OPENCLAW_", "POD_", "KUBERNETES_", "PYTHONPATH")
"""What is the runner's in the environment of a container; the rest is its image's."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How one runner is set up: `listener` is the descriptor of a socket that listens already; without
    one it listens at `port`.

    `lifeline` is a descriptor to the process that started it: a newline is written there once the runner is ready,
    and its closing ends the runner. None in a pod.

    `leased` is level `restricted`: the sandbox stays with one session's skill, until nothing was called for
    `lease_idle_seconds` or it is `lease_max_seconds` old.
    """

    public_keys: str
    pod_name: str
    pod_uid: str
    host: str
    port: int
    listener: int | None
    lifeline: int | None
    workspace: Path
    scratch_root: Path
    log_level: str
    leased: bool = False
    lease_idle_seconds: int = LEASE_IDLE_SECONDS
    lease_max_seconds: int = LEASE_MAX_SECONDS
    languages: Languages = field(default_factory=Languages)


def _seconds(environ: Mapping[str, str], name: str, default: int) -> int:
    value = number(environ, name, default, 86_400)
    if not value:
        raise SettingsError(f"{name}: 0 is not a number from 1 to 86400")
    return value


def _languages(environ: Mapping[str, str]) -> Languages:
    runtime = environ.get("OPENCLAW_SANDBOX_RUNTIME", "") or "python"
    if runtime not in SERVED:
        raise SettingsError(f"OPENCLAW_SANDBOX_RUNTIME: {runtime!r} is none of {', '.join(SERVED)}")
    node = environ.get("OPENCLAW_SANDBOX_NODE", "")
    allowances = environ.get("OPENCLAW_SANDBOX_ALLOWANCES", "")
    own = {name: value for name, value in environ.items() if not name.startswith(_OWN)} if runtime == "image" else {}
    try:
        memory = memory_of_call(environ.get("OPENCLAW_SANDBOX_MEMORY") or None)
    except ValueError as error:
        raise SettingsError(f"OPENCLAW_SANDBOX_MEMORY: {error}") from None
    return Languages(runtime, Path(node) if node else None, tuple(filter(None, allowances.split(","))), own, memory)


def read_settings(environ: Mapping[str, str]) -> Settings:
    """Reads the settings. Raises `SettingsError`."""
    keys = environ.get("OPENCLAW_SANDBOX_PUBLIC_KEYS", "")
    if not keys:
        raise SettingsError("OPENCLAW_SANDBOX_PUBLIC_KEYS: missing; give base64 Ed25519 public keys, comma separated")
    uid = environ.get("POD_UID", "")
    if not uid:
        raise SettingsError("POD_UID: missing; calls are signed for one pod, so it has to know its uid")
    level = environ.get("OPENCLAW_SANDBOX_LEVEL", "") or "isolated"
    if level not in _LEVELS:
        raise SettingsError(f"OPENCLAW_SANDBOX_LEVEL: {level!r} is none of {', '.join(_LEVELS)}")
    return Settings(
        public_keys=keys,
        pod_name=environ.get("POD_NAME", "") or "sandbox",
        pod_uid=uid,
        host=environ.get("OPENCLAW_SANDBOX_HOST", "") or "0.0.0.0",
        port=number(environ, "OPENCLAW_SANDBOX_PORT", 7460, 65_535) or 0,
        listener=number(environ, "OPENCLAW_SANDBOX_SOCKET_FD", None, 1 << 20),
        lifeline=number(environ, "OPENCLAW_SANDBOX_LIFELINE_FD", None, 1 << 20),
        workspace=Path(environ.get("OPENCLAW_SANDBOX_WORKSPACE", "") or "/workspace"),
        scratch_root=Path(environ.get("OPENCLAW_SANDBOX_SCRATCH", "") or "/tmp"),  # noqa: S108 - the pod's emptyDir
        log_level=environ.get("OPENCLAW_SANDBOX_LOG_LEVEL", "") or "info",
        leased=level == "restricted",
        lease_idle_seconds=_seconds(environ, "OPENCLAW_SANDBOX_LEASE_IDLE_SECONDS", LEASE_IDLE_SECONDS),
        lease_max_seconds=_seconds(environ, "OPENCLAW_SANDBOX_LEASE_MAX_SECONDS", LEASE_MAX_SECONDS),
        languages=_languages(environ),
    )

"""From the command line's arguments to a running gateway."""

import asyncio
import importlib.metadata
import logging
import os
import random
import secrets
import socket
import sys
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import uvloop

from openclaw_runtime.config import RuntimeConfig, default_config_path, load_config, load_environment
from openclaw_runtime.errors import ConfigError, ConfigProblem
from openclaw_runtime.gateway.assembly import gateway_token
from openclaw_runtime.gateway.serve import Place, listen, serve
from openclaw_runtime.gateway.skills import RuntimeSkills, audit_of
from openclaw_runtime.gateway.surroundings import Surroundings
from openclaw_runtime.models.factory import check_models
from openclaw_runtime.telemetry import configure_logging

logger = logging.getLogger(__name__)

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Launch:
    """What the command line chose."""

    config_path: Path | None
    dev: bool
    watch: bool


def chosen_config(launch: Launch, environ: Mapping[str, str]) -> tuple[RuntimeConfig, Path | None]:
    """Returns the configuration and its file; with --dev and no file, the defaults and None. Raises `ConfigError`."""
    path = launch.config_path or default_config_path(environ)
    if path.exists():
        return load_config(path), path
    if launch.dev and launch.config_path is None:
        return RuntimeConfig(), None
    hint = "does not exist; create it, name another with --config, or use --dev for the defaults"
    raise ConfigError(str(path), [ConfigProblem("", hint)])


def on_loopback(config: RuntimeConfig) -> RuntimeConfig:
    """Returns the configuration with the gateway on this machine only."""
    return config.model_copy(update={"gateway": config.gateway.model_copy(update={"host": LOOPBACK})})


def data_dir(environment: Mapping[str, str]) -> Path:
    """Returns where data is kept: OPENCLAW_DATA_DIR, else ~/.openclaw."""
    chosen = environment.get("OPENCLAW_DATA_DIR")
    return Path(chosen).expanduser() if chosen else Path.home() / ".openclaw"


def run(launch: Launch) -> bool:
    """Runs a gateway until it is told to stop. Returns whether all turns in flight finished.

    Raises `ConfigError`, or `OpenClawError` when it cannot listen.
    """
    environ = dict(os.environ)
    config, path = chosen_config(launch, environ)
    if launch.dev:
        config = on_loopback(config)
    configure_logging(config.developer.log_level, sys.stderr, as_json=not launch.dev)
    environment = load_environment((path or default_config_path(environ)).parent, environ)
    token, fresh = gateway_token(config, dev=launch.dev)
    check_models(config, environment)
    folder = data_dir(environment)
    around = Surroundings(
        environment=environment,
        environ=environ,
        data_dir=folder,
        version=importlib.metadata.version("openclaw-runtime"),
        replica=f"{environ.get('POD_NAME') or socket.gethostname()}-{secrets.token_hex(4)}",
        now=time.time,
        timer=time.monotonic,
        new_id=lambda: str(uuid.uuid4()),
        random=random.random,
        audit=audit_of(config, folder),
    )

    async def main() -> bool:
        skills = RuntimeSkills(config, environ=environ, environment=environment, data_dir=folder, workspace=Path.cwd())
        listener = listen(config.gateway.host, config.gateway.port)
        if launch.dev:
            _greet(config, path, around, listener, token.get_secret_value() if fresh else None)
        watched = tuple(config.skills.directories) if launch.watch else ()
        return await serve(config, around, skills, token, Place(listener, path, watched))

    with asyncio.Runner(loop_factory=uvloop.new_event_loop, debug=config.developer.debug) as runner:
        return runner.run(main())


def _greet(
    config: RuntimeConfig, path: Path | None, around: Surroundings, listener: socket.socket, token: str | None
) -> None:
    """Tells the one who started it what there is. The token is shown here once and nowhere else."""
    host, port = listener.getsockname()[:2]
    source = str(path) if path else f"no configuration file, so the defaults (create {default_config_path()} to change)"
    lines = [
        f"OpenClaw gateway {around.version}: agent {config.claw.name}, model {config.claw.model}",
        f"  configuration  {source}",
        f"  data           {around.data_dir}",
        f"  address        http://{host}:{port}/v1",
    ]
    if token:
        lines.append(f"  token          {token}   (new for this run; set gateway.token_file to keep one)")
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()

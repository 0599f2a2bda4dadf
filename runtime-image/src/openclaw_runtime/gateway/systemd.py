"""The gateway as a service of a user's systemd."""

import shlex
from collections.abc import Mapping
from pathlib import Path

UNIT = "openclaw-gateway.service"


def unit_text(executable: str, config: Path, environment_file: Path) -> str:
    """Returns the unit. https://www.freedesktop.org/software/systemd/man/latest/systemd.service.html"""
    return f"""[Unit]
Description=OpenClaw gateway
After=network-online.target
Wants=network-online.target

[Service]
ExecStart={shlex.quote(executable)} gateway --config {shlex.quote(str(config))}
EnvironmentFile=-{environment_file}
Restart=on-failure
RestartSec=5
TimeoutStopSec=45
NoNewPrivileges=yes
PrivateTmp=yes

[Install]
WantedBy=default.target
"""


def unit_path(environ: Mapping[str, str], home: Path) -> Path:
    """Returns where a user's unit belongs: under XDG_CONFIG_HOME, else ~/.config."""
    root = Path(environ["XDG_CONFIG_HOME"]) if environ.get("XDG_CONFIG_HOME") else home / ".config"
    return root / "systemd" / "user" / UNIT


def install(path: Path, text: str) -> None:
    """Writes the unit. Raises `OSError`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")

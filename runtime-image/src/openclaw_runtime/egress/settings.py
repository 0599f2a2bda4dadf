"""The proxy's settings, all from the environment of its pod."""

import ipaddress
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from openclaw_runtime.egress.policy import Address, Network, Rules
from openclaw_runtime.environ import SettingsError, number


@dataclass(frozen=True, slots=True)
class Settings:
    """How one proxy is set up. `folder` is a writable folder of its own; `interpreter` runs helpers.

    `public_keys` is a file that may be replaced at any time.
    """

    public_keys: Path
    rules: Rules
    host: str
    port: int
    api_port: int
    folder: Path
    program: str
    interpreter: str


def read_settings(environ: Mapping[str, str]) -> Settings:
    """Reads the settings. Raises `SettingsError`."""
    keys = environ.get("OPENCLAW_EGRESS_PUBLIC_KEYS_FILE", "")
    if not keys:
        raise SettingsError(
            "OPENCLAW_EGRESS_PUBLIC_KEYS_FILE: missing; give a file of base64 Ed25519 public keys, comma separated"
        )
    allow = environ.get("OPENCLAW_EGRESS_ALLOW_API_SERVER", "") or "false"
    if allow not in ("true", "false"):
        raise SettingsError(f"OPENCLAW_EGRESS_ALLOW_API_SERVER: {allow!r} is neither true nor false")
    rules = Rules(
        api_server=api_server(environ),
        allow_api_server=allow == "true",
        denied=_networks(environ, "OPENCLAW_EGRESS_DENIED_NETWORKS"),
    )
    return Settings(
        public_keys=Path(keys),
        rules=rules,
        host=environ.get("OPENCLAW_EGRESS_HOST", "") or "0.0.0.0",
        port=_port(environ, "OPENCLAW_EGRESS_PORT", 3128),
        api_port=_port(environ, "OPENCLAW_EGRESS_API_PORT", 7470),
        folder=Path(environ.get("OPENCLAW_EGRESS_FOLDER", "") or "/run/egress"),
        program=environ.get("OPENCLAW_EGRESS_SQUID", "") or "/usr/sbin/squid",
        interpreter=sys.executable,
    )


def api_server(environ: Mapping[str, str]) -> frozenset[Address]:
    """Returns the addresses at which a pod finds the API server. Raises `SettingsError`."""
    # The kubelet sets the first in every pod; the second is where the node's own services are.
    found = {_address(environ, name) for name in ("KUBERNETES_SERVICE_HOST", "OPENCLAW_EGRESS_NODE_ADDRESS")}
    return frozenset(address for address in found if address is not None)


def _address(environ: Mapping[str, str], name: str) -> Address | None:
    text = environ.get(name, "")
    if not text:
        return None
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        raise SettingsError(f"{name}: {text!r} is not an IP address") from None


def _networks(environ: Mapping[str, str], name: str) -> tuple[Network, ...]:
    networks = []
    for text in filter(None, (part.strip() for part in environ.get(name, "").split(","))):
        try:
            networks.append(ipaddress.ip_network(text))
        except ValueError:
            raise SettingsError(f"{name}: {text!r} is not a network such as 10.0.0.0/8") from None
    return tuple(networks)


def _port(environ: Mapping[str, str], name: str, default: int) -> int:
    return number(environ, name, default, 65_535, expected="a port number")

"""The operator's settings: environment variables OPENCLAW_OPERATOR_*, checked once at start."""

from __future__ import annotations

import json
from collections.abc import Mapping
from ipaddress import ip_network
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from openclaw_operator.api.base import DNS_LABEL, DNS_SUBDOMAIN, Resources
from openclaw_operator.errors import SettingsError

PREFIX = "OPENCLAW_OPERATOR_"
TRUSTED_SKILL = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?/(\*|[a-z0-9]([-a-z0-9.]*[a-z0-9])?)$"


def _split(value: object) -> object:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


def _json(value: object) -> object:
    return json.loads(value) if isinstance(value, str) else value


def _network(value: str) -> str:
    return str(ip_network(value))


Network = Annotated[str, AfterValidator(_network)]


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


class Settings(BaseModel):
    """One field per variable: `runtime_image` is OPENCLAW_OPERATOR_RUNTIME_IMAGE."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    runtime_image: str = Field("openclaw/runtime:0.1.0", min_length=1)
    sandbox_image: str = Field("openclaw/sandbox:0.1.0", min_length=1)
    sandbox_node_image: str = Field("openclaw/sandbox-node:0.1.0", min_length=1)
    qdrant_image: str = Field("qdrant/qdrant:v1.16.0", min_length=1)
    postgresql_image: str = Field("postgres:17", min_length=1)
    redis_image: str = Field("redis:8", min_length=1)
    backup_image: str = ""
    # The egress proxy of each namespace; without it skills reach nothing.
    egress_enabled: bool = True
    egress_image: str = Field("openclaw/egress-proxy:0.1.0", min_length=1)
    egress_replicas: int = Field(1, ge=1, le=10)
    egress_resources: Annotated[Resources, BeforeValidator(_json)] = Resources(
        requests={"cpu": "25m", "memory": "96Mi"}, limits={"cpu": "1", "memory": "256Mi"}
    )
    egress_denied_networks: Annotated[tuple[Network, ...], BeforeValidator(_split)] = ()
    egress_allow_api_server: bool = False
    # Of the activator in each namespace where agents hibernate.
    activator_replicas: int = Field(1, ge=1, le=10)
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"
    # Secrets of the agents' namespaces that every pod made there pulls its images with.
    image_pull_secrets: Annotated[
        tuple[Annotated[str, Field(pattern=DNS_SUBDOMAIN, max_length=253)], ...], BeforeValidator(_split)
    ] = ()
    # Namespaces served; empty means all.
    watch_namespaces: Annotated[tuple[str, ...], BeforeValidator(_split)] = ()
    # Skills that may run in gateways at level trusted: namespace/name, or namespace/* for all of a namespace.
    trusted_skills: Annotated[tuple[Annotated[str, Field(pattern=TRUSTED_SKILL)], ...], BeforeValidator(_split)] = ()
    # Namespaces from which the metrics of agents are scraped.
    monitoring_namespaces: Annotated[
        tuple[Annotated[str, Field(pattern=DNS_LABEL, max_length=63)], ...], BeforeValidator(_split)
    ] = Field(("monitoring",), min_length=1)
    log_level: Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(_lower)] = "info"
    log_format: Annotated[Literal["json", "text"], BeforeValidator(_lower)] = "json"
    resync_seconds: float = Field(600, ge=1)
    # When a request without an answer is given up, and a watch that tells nothing: bookmarks come about once a minute.
    request_seconds: float = Field(15, gt=0)
    watch_silence_seconds: float = Field(100, gt=0)
    # A page is held as parsed objects, some 15 KB each.
    page_size: int = Field(500, ge=1)
    workers: int = Field(8, ge=1, le=256)
    cluster_domain: str = Field("cluster.local", min_length=1)
    # Label selector of the Agents, Skills and MemoryStores served; empty means all.
    agent_selector: str = ""
    # Hosts that skills may be fetched from, empty means all; and those of them that may have private addresses.
    source_hosts: Annotated[tuple[str, ...], BeforeValidator(_split)] = ()
    source_private_hosts: Annotated[tuple[str, ...], BeforeValidator(_split)] = ()
    # A signing key of sandbox calls that is older is rotated; 0 for never.
    signing_key_max_age_days: float = Field(0, ge=0)
    metrics_port: int = Field(9090, ge=0, le=65535)
    health_port: int = Field(8080, ge=0, le=65535)

    @property
    def backups(self) -> str:
        """Image of the backup jobs."""
        return self.backup_image or self.runtime_image


def load_settings(environ: Mapping[str, str]) -> Settings:
    """Settings from the environment. Raises SettingsError naming each wrong variable, its value and the fix."""
    values = {
        key.removeprefix(PREFIX).lower(): value for key, value in environ.items() if key.startswith(PREFIX) and value
    }
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        raise SettingsError("; ".join(_explain(item, values) for item in error.errors())) from None


def _explain(item: Mapping[str, object], values: Mapping[str, str]) -> str:
    location = item["loc"]
    field = str(location[0]) if isinstance(location, tuple) and location else ""
    name = PREFIX + field.upper()
    if item["type"] == "extra_forbidden":
        known = ", ".join(PREFIX + known.upper() for known in Settings.model_fields)
        return f"{name} is not a setting; known are {known}"
    return f"{name}={values.get(field, '')!r}: {item['msg']}"

"""The runtime's configuration: one YAML file, the same format in a pod and on a laptop.

Secrets are never in the file: it names files that hold them, or they come from the environment. Unknown keys are
refused. `load_config` raises `ConfigError` with one line per problem: path, value, what is allowed.
"""

import os
from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    model_validator,
)

from openclaw_runtime import yamlfile
from openclaw_runtime.memory.sections import Hnsw, Importance, Quantization, Summarization, Tiers
from openclaw_runtime.models.sections import Endpoint, Models, ModelSettings, Pricing, Provider
from openclaw_runtime.schedules.cron import check_cron
from openclaw_runtime.schedules.sections import Schedule, names_once
from openclaw_runtime.sections import Section, UserPath

ENVIRONMENT_KEYS = (
    "OPENAI_API_KEY",
    "ANTHROPIC_API_KEY",
    "GROQ_API_KEY",
    "LOCAL_LLM_URL",
    "OPENAI_BASE_URL",
    "TAVILY_API_KEY",
    "SERPAPI_KEY",
    "GITHUB_TOKEN",
    "OPENCLAW_DATA_DIR",
    "OPENCLAW_CACHE_DIR",
)
"""What the runtime reads from the environment or a `.env` file beside the configuration."""


def _without_password(url: str) -> str:
    if urlsplit(url).password:
        raise ValueError("holds a password; put the password in a file and name it in password_file")
    return url


ServiceUrl = Annotated[str, AfterValidator(_without_password)]
Name = Annotated[str, Field(pattern=r"^[a-zA-Z0-9]([a-zA-Z0-9_.-]{0,61}[a-zA-Z0-9])?$")]


class Claw(Section):
    """Who the agent is and which model it speaks with."""

    name: Name = "openclaw"
    role: str = "assistant"
    description: str = ""
    soul: str = "You are a helpful assistant. You use your skills for real work and say what you did."
    model_provider: Provider = "openai"
    model: str = Field(default="gpt-4o-mini", min_length=1)
    base_url: str | None = None
    api_key_file: UserPath | None = None
    settings: ModelSettings = ModelSettings()
    pricing: Pricing | None = None
    performance: float | None = Field(default=None, ge=0, le=1)
    speed: float | None = Field(default=None, ge=0, le=100)
    vision: bool | None = None
    namespace: Name = "default"

    @property
    def endpoint(self) -> Endpoint:
        """The model as one of those that may answer."""
        return Endpoint(
            provider=self.model_provider,
            model=self.model,
            base_url=self.base_url,
            api_key_file=self.api_key_file,
            settings=self.settings,
            pricing=self.pricing,
            performance=self.performance,
            speed=self.speed,
            vision=self.vision,
        )


class Gateway(Section):
    """The HTTP server. `drain_seconds` is how long turns in flight may take after SIGTERM."""

    host: str = "127.0.0.1"
    port: int = Field(default=7456, ge=0, le=65535)
    token_file: UserPath | None = None
    max_in_flight: int = Field(default=100, ge=1)
    drain_seconds: float = Field(default=20, ge=0)


class VectorStore(Section):
    """Qdrant: `url` is a server, `path` the embedded engine. Exactly one; a laptop's default is a path."""

    provider: Literal["qdrant"] = "qdrant"
    url: ServiceUrl | None = None
    path: UserPath | None = None
    api_key_file: UserPath | None = None
    collection: Name = "openclaw"
    hnsw: Hnsw = Hnsw()
    quantization: Quantization = Quantization()

    @model_validator(mode="after")
    def _one_engine(self) -> "VectorStore":
        if self.url and self.path:
            raise ValueError("url and path are both set; keep url for a server or path for the embedded engine")
        return self


class Records(Section):
    """The SQL side: `postgresql+asyncpg://user@host/db` or `sqlite+aiosqlite:///path`."""

    url: Annotated[ServiceUrl, Field(pattern=r"^(postgresql\+asyncpg|sqlite\+aiosqlite)://")] | None = None
    password_file: UserPath | None = None


class FileMemory(Section):
    """MEMORY.md and one Markdown log per day, under `path`.

    With `auto_summarize`, once MEMORY.md has more than `summary_interval` lines, the older half becomes one line.
    """

    path: UserPath | None = None
    auto_summarize: bool = True
    summary_interval: int = Field(default=1000, ge=1)


class Embedding(Section):
    """Where vectors come from. wordllama works offline with 256 dimensions."""

    provider: Literal["wordllama", "openai", "openai-compatible"] = "wordllama"
    model: str | None = None
    dimensions: int = Field(default=256, ge=1, le=65536)
    base_url: str | None = None
    api_key_file: UserPath | None = None
    """Holds the key of the embedding API; OPENAI_API_KEY is used where it is unset."""

    @model_validator(mode="after")
    def _consistent(self) -> "Embedding":
        if self.provider == "wordllama" and self.dimensions != 256:
            raise ValueError(f"dimensions is {self.dimensions}; wordllama has exactly 256")
        if self.provider != "wordllama" and not self.model:
            raise ValueError(f"model is missing; provider {self.provider} needs the name of an embedding model")
        if self.provider == "openai-compatible" and not self.base_url:
            raise ValueError("base_url is missing; provider openai-compatible needs the address of the endpoint")
        return self


class Memory(Section):
    """What the agent remembers and where."""

    type: Literal["hybrid", "vector", "file"] = "hybrid"
    context_tokens: int = Field(default=128_000, ge=1_000)
    vector_store: VectorStore = VectorStore()
    records: Records = Records()
    file_memory: FileMemory = FileMemory()
    embedding: Embedding = Embedding()
    importance: Importance = Importance()
    summarization: Summarization = Summarization()
    tiers: Tiers | None = None


class Bus(Section):
    """How agents talk to each other. `timeout` is the default for a request, in milliseconds."""

    provider: Literal["memory", "redis"] = "memory"
    url: Annotated[ServiceUrl, Field(pattern=r"^(redis|rediss|unix)://")] | None = None
    password_file: UserPath | None = None
    timeout: int = Field(default=30_000, ge=1)

    @model_validator(mode="after")
    def _address(self) -> "Bus":
        if self.provider == "redis" and not self.url:
            raise ValueError("url is missing; provider redis needs one, like redis://host:6379/0")
        return self


class SkillAction(Section):
    """One function of a skill."""

    name: str
    description: str = ""
    input_schema: dict[str, Any] = Field(default_factory=lambda: {"type": "object"})
    output_schema: dict[str, Any] | None = None
    timeout_seconds: float = Field(default=30, gt=0)


class PackageRef(Section):
    """The ConfigMap and the key in its binaryData that hold the gzip-compressed package."""

    config_map: str
    key: str = "package.tar.gz"


class RateLimit(Section):
    """At most `calls` in any window of `per_seconds`."""

    calls: int = Field(ge=1)
    per_seconds: float = Field(gt=0)


def _pattern(pattern: str) -> str:
    from openclaw_runtime.skills.patterns import check_pattern

    return check_pattern(pattern)


def _quantity(text: str) -> str:
    from openclaw_runtime.sandbox.memory import parse_quantity

    parse_quantity(text)
    return text


class SkillTrigger(Section):
    """What starts an action without the model: a command pattern or a cron schedule."""

    type: Literal["command", "cron"]
    action: str | None = None
    pattern: Annotated[str, AfterValidator(_pattern)] | None = None
    schedule: Annotated[str, AfterValidator(check_cron)] | None = None


class McpServerConfig(Section):
    """An MCP server: started in a sandbox by `command`, or at `url`. `${NAME}` in env and headers is a secret."""

    command: list[str] = Field(default_factory=list)
    env: dict[str, str] = Field(default_factory=dict)
    url: Annotated[ServiceUrl, Field(pattern=r"^https?://")] | None = None
    headers: dict[str, str] = Field(default_factory=dict)
    tools: list[str] | None = None
    timeout_seconds: float = Field(default=60, gt=0)


class InstalledSkillConfig(Section):
    """A skill as the operator resolved it. A remote MCP server has no package."""

    name: Name
    version: str
    description: str = ""
    digest: str = Field(pattern=r"^sha256:[0-9a-f]{64}$")
    package: PackageRef | None = None
    runtime: str = "python"
    entrypoint: str = ""
    command: list[str] = Field(default_factory=list)
    actions: list[SkillAction] = Field(default_factory=list)
    mcp: McpServerConfig | None = None
    permissions: list[str] = Field(default_factory=list)
    allowed_domains: list[str] = Field(default_factory=list)
    level: Literal["isolated", "restricted", "trusted"] = "isolated"
    pool: str | None = None
    memory: Annotated[str, AfterValidator(_quantity)] | None = None
    config: dict[str, Any] = Field(default_factory=dict)
    secret_files: dict[str, UserPath] = Field(default_factory=dict)
    rate_limit: RateLimit | None = None
    triggers: list[SkillTrigger] = Field(default_factory=list)

    @model_validator(mode="after")
    def _callable(self) -> "InstalledSkillConfig":
        if self.mcp is None and not (self.actions and self.package and self.entrypoint):
            raise ValueError("needs package, entrypoint and actions, or mcp")
        return self


class Skills(Section):
    """Which skills the agent has: resolved by an operator (`installed`) or found in folders (`directories`)."""

    auto_discover: bool = True
    trusted_registries: list[str] = Field(default_factory=list)
    security_level: Literal["strict", "moderate", "permissive"] = "strict"
    directories: list[UserPath] = Field(default_factory=list)
    installed: list[InstalledSkillConfig] = Field(default_factory=list)


class Egress(Section):
    """The egress proxy of the namespace: its Service, and the ports of the proxy and of what it tells of calls."""

    host: str
    port: int = Field(default=3128, ge=1, le=65535)
    api_port: int = Field(default=7470, ge=1, le=65535)


class Sandbox(Section):
    """Where skill calls run: `pods` of a cluster or a local `subprocess`.

    `denied_networks` and `allow_api_server` are what the egress proxy is told, too: the gateway itself calls remote MCP
    servers, and goes by the same rules.
    """

    enabled: bool = True
    level: Literal["isolated", "restricted", "trusted"] = "isolated"
    provider: Literal["pods", "subprocess"] = "subprocess"
    signing_key_file: UserPath | None = None
    port: int = Field(default=7460, ge=1, le=65535)
    egress: Egress | None = None
    denied_networks: list[IPv4Network | IPv6Network] = Field(default_factory=list)
    allow_api_server: bool = False

    @model_validator(mode="after")
    def _key(self) -> "Sandbox":
        if self.provider == "pods" and self.signing_key_file is None:
            raise ValueError("signing_key_file is missing; provider pods signs every call with that Ed25519 key")
        return self


class Execution(Section):
    """Limits of a turn: `timeout` in milliseconds, `max_concurrent` skill calls at once.

    `ask_timeout` is how long a user has to answer a skill's question, in milliseconds; other limits stand still then.
    """

    timeout: int = Field(default=300_000, ge=1)
    ask_timeout: int = Field(default=600_000, ge=1, le=86_400_000)
    max_concurrent: int = Field(default=3, ge=1)
    max_requests: int = Field(default=25, ge=1, description="model requests one turn may make")
    sandbox: Sandbox = Sandbox()

    @property
    def timeout_seconds(self) -> float:
        """The timeout in seconds."""
        return self.timeout / 1000

    @property
    def ask_timeout_seconds(self) -> float:
        """The time for an answer, in seconds."""
        return self.ask_timeout / 1000

    @property
    def max_questions(self) -> int:
        """How many calls may wait for their users at once: each keeps its sandbox, and its share of the pool."""
        return 4 * self.max_concurrent


class TeamMember(Section):
    """Another agent this one may delegate to."""

    name: Name
    role: str = ""
    description: str = ""
    skills: list[str] = Field(default_factory=list)


class Team(Section):
    """The agents a coordinator delegates to."""

    members: list[TeamMember] = Field(default_factory=list)


class Activator(Section):
    """Who wakes agents that hibernate. With `reports` this agent is one of them and says when it is idle."""

    host: str
    port: int = Field(default=7471, ge=1, le=65535)
    reports: bool = False


class Developer(Section):
    """Logging and usage data. `telemetry` (anonymous usage data) is off, and nothing is sent either way today."""

    debug: bool = False
    log_level: Literal["debug", "info", "warn", "error"] = "info"
    telemetry: bool = False


class RuntimeConfig(Section):
    """The whole file."""

    # Without quotes YAML reads a number.
    version: Annotated[Literal["2026.1"], BeforeValidator(str)] = "2026.1"
    claw: Claw = Claw()
    models: Models = Models()
    gateway: Gateway = Gateway()
    memory: Memory = Memory()
    bus: Bus = Bus()
    skills: Skills = Skills()
    execution: Execution = Execution()
    schedules: Annotated[list[Schedule], AfterValidator(names_once)] = Field(default_factory=list)
    team: Team = Team()
    activator: Activator | None = None
    developer: Developer = Developer()


def parse_config(text: str, source: str) -> RuntimeConfig:
    """Reads a configuration from YAML text. Raises `ConfigError`; `source` is named in its message."""
    return yamlfile.parse(RuntimeConfig, text, source)


def load_config(path: Path) -> RuntimeConfig:
    """Reads the configuration file. Raises `ConfigError` when it cannot be read or used."""
    return yamlfile.load(RuntimeConfig, path)


def load_environment(folder: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """Returns the runtime's environment keys: from `environ`, else from `folder`/.env. Empty means unset."""
    from dotenv import dotenv_values

    file = folder / ".env"
    values = {key: value for key, value in (dotenv_values(file) if file.is_file() else {}).items() if value}
    values.update({key: value for key, value in environ.items() if value})
    return {key: values[key] for key in ENVIRONMENT_KEYS if key in values}


def default_config_path(environ: Mapping[str, str] | None = None) -> Path:
    """Returns OPENCLAW_CONFIG_PATH, else ~/.openclaw/config.yaml."""
    chosen = (os.environ if environ is None else environ).get("OPENCLAW_CONFIG_PATH")
    return Path(chosen) if chosen else Path.home() / ".openclaw" / "config.yaml"

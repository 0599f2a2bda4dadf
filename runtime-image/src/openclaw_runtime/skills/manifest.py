"""What a skill says of itself: the head of `SKILL.md`, and `skill.yaml`.

`skill.yaml` has the same field names as the spec of a Skill resource, so that one turns into the other unchanged.
"""

import difflib
import re
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic.alias_generators import to_camel
from semantic_version import Version

from openclaw_runtime.sandbox.archive import ArchiveError, check_path
from openclaw_runtime.sandbox.memory import memory_of_call
from openclaw_runtime.schedules.cron import check_cron
from openclaw_runtime.skills.patterns import check_pattern
from openclaw_runtime.skills.schemas import check_schema
from openclaw_runtime.skills.types import Level, McpServer

Permission = Literal["filesystem:read", "filesystem:write", "network:internal", "network:external", "process:execute"]
Runtime = Literal["python", "node", "bash", "image"]
ENTRYPOINTS: Final = {"python": "scripts/main.py", "node": "scripts/main.mjs", "bash": "scripts/main.sh"}
"""Where the actions are when a manifest does not say; a command of its own image may need no file at all."""
_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@-]*")
SECRET_REFERENCE = re.compile(r"\$\{([A-Z][A-Z0-9_]*)\}")
"""How env and headers of an MCP server name a secret."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=to_camel, populate_by_name=True)


def semantic(version: str) -> str:
    """Returns a version as it is. Raises `ValueError` for what is not a semantic version."""
    try:
        Version(version)
    except ValueError:
        raise ValueError(f"{version!r} is not a semantic version, like 1.2.0") from None
    return version


class FrontMatter(BaseModel):
    """The head of SKILL.md. Other keys are allowed: the format is open."""

    name: str = Field(min_length=1, max_length=63, pattern=r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$")
    description: str = Field(min_length=1, max_length=1024)
    license: str | None = None
    metadata: dict[str, Any] = Field(default_factory=dict)


class ActionManifest(_Model):
    """One function of the skill."""

    name: str = Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$", max_length=63)
    description: str = Field(default="", max_length=1024)
    input_schema: dict[str, Any] = Field(default_factory=lambda: {"type": "object"})
    output_schema: dict[str, Any] | None = None
    timeout_seconds: int = Field(default=30, ge=1, le=3600)

    @model_validator(mode="after")
    def _schemas(self) -> "ActionManifest":
        check_schema(self.input_schema, "inputSchema")
        if self.output_schema is not None:
            check_schema(self.output_schema, "outputSchema")
        return self


class TriggerManifest(_Model):
    """What starts an action without the model."""

    type: Literal["command", "cron"]
    action: str | None = None
    pattern: Annotated[str, AfterValidator(check_pattern)] | None = None
    schedule: Annotated[str, AfterValidator(check_cron)] | None = None

    @model_validator(mode="after")
    def _complete(self) -> "TriggerManifest":
        if self.type == "command" and not self.pattern:
            raise ValueError("a trigger of type command needs pattern")
        if self.type == "cron" and not (self.schedule and self.action):
            raise ValueError("a trigger of type cron needs schedule and action")
        return self


class RateLimitManifest(_Model):
    """At most `calls` in any window of `per_seconds`."""

    calls: int = Field(ge=1)
    per_seconds: int = Field(ge=1)


class SecretManifest(_Model):
    """A secret the skill is given for a call. `secret_key_ref` is the cluster's place for it."""

    name: str = Field(pattern=r"^[A-Z][A-Z0-9_]*$", max_length=63)
    secret_key_ref: dict[str, str] | None = None


class SandboxManifest(_Model):
    """How the skill wants to be isolated."""

    level: Level = "isolated"
    runtime_class_name: str | None = None
    warm: int | None = Field(default=None, ge=0, le=100)


class McpManifest(_Model):
    """An MCP server whose tools are the actions."""

    command: tuple[str, ...] | None = Field(default=None, min_length=1, max_length=64)
    env: dict[str, str] = Field(default_factory=dict, max_length=64)
    url: str | None = Field(default=None, pattern=r"^https?://[^\s/@]+(/\S*)?$", max_length=2048)
    headers: dict[str, str] = Field(default_factory=dict, max_length=32)
    tools: tuple[str, ...] | None = Field(default=None, min_length=1, max_length=64)
    timeout_seconds: int = Field(default=60, ge=1, le=3600)

    @model_validator(mode="after")
    def _one_place(self) -> "McpManifest":
        if (self.command is None) == (self.url is None):
            raise ValueError("set exactly one of command and url")
        if self.url is not None and self.env:
            raise ValueError("env is for command; a server at url takes headers")
        if self.command is not None and self.headers:
            raise ValueError("headers is for url; a server started by command takes env")
        return self


class SkillManifest(_Model):
    """`skill.yaml`."""

    version: Annotated[str, AfterValidator(semantic)]
    description: str | None = Field(default=None, max_length=1024)
    runtime: Runtime = "python"
    image: str | None = Field(default=None, max_length=512)
    command: tuple[str, ...] = Field(default=(), max_length=64)
    entrypoint: str | None = None
    actions: tuple[ActionManifest, ...] = Field(default=(), max_length=64)
    mcp: McpManifest | None = None
    permissions: tuple[Permission, ...] = ()
    allowed_domains: tuple[str, ...] = ()
    triggers: tuple[TriggerManifest, ...] = ()
    rate_limit: RateLimitManifest | None = None
    secrets: tuple[SecretManifest, ...] = ()
    resources: dict[str, Any] | None = None
    sandbox: SandboxManifest = SandboxManifest()

    @property
    def memory_limit(self) -> str | None:
        """`resources.limits.memory`, if it is set."""
        limits = (self.resources or {}).get("limits")
        found = limits.get("memory") if isinstance(limits, dict) else None
        return None if found is None else str(found)

    @model_validator(mode="after")
    def _readable_memory(self) -> "SkillManifest":
        try:
            memory_of_call(self.memory_limit)
        except ValueError as error:
            raise ValueError(f"resources.limits.memory: {error}") from None
        return self

    @property
    def main_file(self) -> str | None:
        """The entrypoint, with the default of the runtime; None where runtime image names none."""
        return self.entrypoint or ENTRYPOINTS.get(self.runtime)

    def warnings(self) -> tuple[str, ...]:
        """Returns what is allowed but hardly meant, one line each."""
        network = [name for name in self.permissions if name.startswith("network:")]
        if network and not self.allowed_domains:
            given = " and ".join(network)
            return (f"allowedDomains: empty, so {given} reaches nothing in a cluster; name the hosts it needs",)
        return ()

    @field_validator("image")
    @classmethod
    def _image(cls, value: str | None) -> str | None:
        if value is not None and not _IMAGE.fullmatch(value):
            raise ValueError(f"{value!r} is not the name of a container image, like registry.example.com/tool:1.2")
        return value

    @field_validator("entrypoint")
    @classmethod
    def _entrypoint(cls, value: str | None) -> str | None:
        try:
            return None if value is None else check_path(value)
        except ArchiveError as error:
            raise ValueError(str(error)) from None

    @model_validator(mode="after")
    def _server(self) -> "SkillManifest":
        server = self.mcp
        if server is None:
            if not self.actions:
                raise ValueError("actions: missing; name at least one action, or an MCP server in mcp")
            return self
        if self.actions:
            raise ValueError("actions: the tools of the MCP server are the actions; remove actions or mcp")
        if server.url and not {"network:external", "network:internal"} & set(self.permissions):
            raise ValueError("mcp.url: needs the permission network:external or network:internal")
        python = server.command is not None and server.command[0] in ("python", "python3")
        if server.command and not python and "process:execute" not in self.permissions:
            raise ValueError(
                f"mcp.command: {server.command[0]} needs the permission process:execute; only python runs without it"
            )
        known = {secret.name for secret in self.secrets}
        for place, value in {**server.env, **server.headers}.items():
            missing = sorted(set(SECRET_REFERENCE.findall(value)) - known)
            if missing:
                raise ValueError(f"mcp: {place} refers to {', '.join(missing)}, which secrets does not name")
        return self

    @model_validator(mode="after")
    def _consistent(self) -> "SkillManifest":
        names = [action.name for action in self.actions]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"actions: {', '.join(twice)} declared twice")
        for trigger in self.triggers:
            if trigger.action is not None and trigger.action not in names and self.mcp is None:
                raise ValueError(f"triggers: no action {trigger.action}; the skill has {', '.join(names)}")
        if self.allowed_domains and not any(name.startswith("network:") for name in self.permissions):
            raise ValueError("allowedDomains: has no effect without network:external or network:internal")
        return self

    @model_validator(mode="after")
    def _runnable(self) -> "SkillManifest":
        if self.runtime == "image" and not (self.image and self.command):
            raise ValueError("runtime: image needs image and command; set both")
        if self.runtime != "image" and (self.image or self.command):
            raise ValueError(f"image, command: have no effect with runtime {self.runtime}; use runtime: image")
        if self.runtime in ("bash", "image") and "process:execute" not in self.permissions:
            raise ValueError(f"permissions: runtime {self.runtime} runs programs; add process:execute")
        return self


def mcp_server(given: Mapping[str, Any], secrets: Mapping[str, str]) -> McpServer:
    """Returns a server from the fields of its configuration, with its secrets filled in."""

    def filled(values: Mapping[str, str]) -> dict[str, str]:
        return {
            name: SECRET_REFERENCE.sub(lambda match: secrets.get(match[1], ""), value) for name, value in values.items()
        }

    return McpServer(
        command=tuple(given["command"] or ()),
        env=filled(given["env"]),
        url=given["url"],
        headers=filled(given["headers"]),
        tools=tuple(given["tools"]) if given["tools"] is not None else None,
        timeout_seconds=given["timeout_seconds"],
    )


def problems(error: ValidationError, model: type[BaseModel]) -> list[str]:
    """Returns one line per mistake: field, value, what is allowed."""
    lines = []
    places = [item["loc"] for item in error.errors()]
    for item in error.errors():
        if any(len(place) > len(item["loc"]) and place[: len(item["loc"])] == item["loc"] for place in places):
            continue  # a list counts as too short when an item of it is wrong: only the item is news
        path = ".".join(str(part) for part in item["loc"])
        message = item["msg"].removeprefix("Value error, ")
        match item["type"]:
            case "extra_forbidden":
                known = sorted(field.alias or name for name, field in model.model_fields.items())
                near = difflib.get_close_matches(str(item["loc"][-1]), known, n=1)
                message = "unknown key" + (f"; did you mean {near[0]}?" if near else "")
                if len(item["loc"]) == 1:
                    message += f" allowed: {', '.join(known)}" if near else f"; allowed: {', '.join(known)}"
            case "missing":
                message = "missing"
            case "value_error":
                pass
            case _:
                message = f"{str(item['input'])[:60]!r} is not allowed; {message[:1].lower()}{message[1:]}"
        lines.append(f"{path}: {message}" if path else message)
    return lines

"""Skill: code an agent may call, packed by content and run in a sandbox."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from openclaw_operator.api.base import (
    CRON,
    HTTP_URL,
    LIST_ATOMIC,
    LIST_SET,
    SEMVER,
    CommonStatus,
    FreeForm,
    KeyRef,
    Model,
    Name,
    Resources,
    SandboxLevel,
    cel,
    list_map,
    schema_extra,
)
from openclaw_operator.api.source import Signature, SkillSource

Runtime = Literal["python", "node", "bash", "image"]
Permission = Literal["filesystem:read", "filesystem:write", "network:internal", "network:external", "process:execute"]
ENTRYPOINTS = {"python": "scripts/main.py", "node": "scripts/main.mjs", "bash": "scripts/main.sh"}
"""Where the actions are when a Skill does not say; a command of its own image may need no file at all."""

AllowedDomain = Annotated[
    str,
    Field(
        max_length=260,
        pattern=r"^(\*|(\*\.)?[A-Za-z0-9]([A-Za-z0-9_-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9_-]*[A-Za-z0-9])?)*"
        r"|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?$",
    ),
]


class Action(Model):
    """A function of the skill that a model may call."""

    name: str = Field(
        pattern=r"^[A-Za-z][A-Za-z0-9_]*$", max_length=63, description="Name of the action and of its function."
    )
    description: str = Field(
        min_length=1, max_length=1024, description="What it does, for the model that chooses between actions."
    )
    input_schema: FreeForm | None = Field(None, description="JSON Schema of the input; any object when unset.")
    output_schema: FreeForm | None = Field(None, description="JSON Schema of the result; anything when unset.")
    timeout_seconds: int = Field(30, ge=1, le=3600, description="Longest one call may run.")


class Trigger(Model):
    """What starts an action besides the model."""

    model_config = schema_extra(
        cel(
            "self.type == 'command' ? has(self.pattern) : has(self.schedule) && has(self.action)",
            "a trigger of type command needs pattern; one of type cron needs schedule and action",
        )
    )
    type: Literal["command", "cron"] = Field(description="A user's message that matches, or the clock.")
    pattern: str | None = Field(
        None,
        min_length=1,
        max_length=512,
        description="Regular expression (RE2) that the whole message matches, for type command. Its named groups are "
        "the input of the action.",
    )
    schedule: str | None = Field(None, pattern=CRON, max_length=128, description="Cron schedule in UTC for type cron.")
    action: str | None = Field(
        None,
        max_length=63,
        description="The action to run. When unset, a command runs the only action there is; of several the model "
        "chooses one.",
    )


class RateLimit(Model):
    """How often the skill may be called."""

    calls: int = Field(60, ge=1, description="Calls that an agent may make per window, all its replicas together.")
    per_seconds: int = Field(60, ge=1, description="Length of the window in seconds.")


class SkillSecret(Model):
    """A secret the skill gets for the time of a call."""

    name: str = Field(pattern=r"^[A-Z][A-Z0-9_]*$", max_length=63, description="Its name in ctx.secrets.")
    secret_key_ref: KeyRef = Field(description="The key of a Secret that holds the value.")


def _skill_resources() -> Resources:
    return Resources(requests={"cpu": "50m", "memory": "64Mi"}, limits={"cpu": "500m", "memory": "512Mi"})


class SkillSandbox(Model):
    """How the skill is isolated."""

    model_config = schema_extra(
        cel(
            "!has(self.maxWarm) || self.maxWarm >= self.warm",
            "maxWarm must not be below warm (2 when unset): raise maxWarm or lower warm",
            ".maxWarm",
        )
    )

    level: SandboxLevel = Field(
        "isolated",
        description="isolated: a fresh pod per call; restricted: a pod kept for one session's calls of this skill, "
        "each in a fresh process; trusted: a process in the gateway, where the Agent asks for it too and the "
        "operator's trustedSkills lists the skill.",
    )
    runtime_class_name: Name | None = Field(None, description="RuntimeClass of the pods, before the Agent's own.")
    warm: int = Field(2, ge=1, le=100, description="Ready pods to keep waiting for calls, however few come.")
    max_warm: int | None = Field(
        None,
        ge=1,
        le=1000,
        description="The most pods to keep waiting when all of them are taken at once; as many as calls may run when "
        "unset.",
    )


class McpServer(Model):
    """An MCP server whose tools are the actions of the skill."""

    model_config = schema_extra(
        cel("has(self.command) != has(self.url)", "set exactly one of command and url"),
        cel("!has(self.env) || has(self.command)", "set env only with command: a server at url takes headers"),
        cel("!has(self.headers) || has(self.url)", "set headers only with url: a server started by command takes env"),
    )
    command: list[str] | None = Field(
        None,
        min_length=1,
        max_length=64,
        description="Program and arguments of a stdio server, started in a sandbox in the folder of the package, for "
        "example [python, server.py]. Any program but python needs the permission process:execute.",
        json_schema_extra=LIST_ATOMIC,
    )
    env: dict[str, str] | None = Field(
        None, max_length=64, description="Environment of the program; ${NAME} is the secret of that name."
    )
    url: str | None = Field(
        None,
        pattern=HTTP_URL,
        max_length=2048,
        description="Address of a streamable HTTP server, called by the gateway.",
    )
    headers: dict[str, str] | None = Field(
        None,
        max_length=32,
        description="Headers of each request, for example {Authorization: 'Bearer ${TOKEN}'}; ${NAME} is the secret of "
        "that name.",
    )
    tools: list[str] | None = Field(
        None,
        min_length=1,
        max_length=64,
        description="Offer only these tools; all of them when unset.",
        json_schema_extra=LIST_SET,
    )
    timeout_seconds: int = Field(60, ge=1, le=3600, description="Longest one call may run.")


class SkillSpec(Model):
    """Desired state of a Skill."""

    model_config = schema_extra(
        cel(
            "!has(self.allowedDomains) || size(self.allowedDomains) == 0 || "
            "(has(self.permissions) && self.permissions.exists(p, p.startsWith('network:')))",
            "allowedDomains has no effect without a network permission: add network:external (public addresses) or "
            "network:internal (private ones), or remove allowedDomains",
            ".allowedDomains",
        ),
        cel(
            "!has(self.triggers) || has(self.mcp) || self.triggers.all(t, !has(t.action) || "
            "(has(self.actions) && self.actions.exists(a, a.name == t.action)))",
            "each trigger must name one of the skill's actions: fix triggers[].action or add the action",
            ".triggers",
        ),
        cel(
            "!has(self.signature) || !has(self.signature.cosign) || has(self.signature.cosign.signature) || "
            "(has(self.source) && has(self.source.oci))",
            "only a registry keeps signatures: set signature.cosign.signature for this source",
            ".signature",
        ),
        cel(
            "!has(self.mcp) || !has(self.actions) || size(self.actions) == 0",
            "the tools of an MCP server are the actions: remove actions, or set no mcp",
        ),
        cel(
            "has(self.source) || (has(self.mcp) && has(self.mcp.url))",
            "set source: only a remote MCP server (mcp.url) has no files",
        ),
        cel(
            "!has(self.mcp) || !has(self.mcp.command) || self.mcp.command[0] in ['python', 'python3'] || "
            "(has(self.permissions) && 'process:execute' in self.permissions)",
            "mcp.command needs the permission process:execute: only python runs without it",
            ".mcp",
        ),
        cel(
            "!has(self.mcp) || !has(self.mcp.url) || (has(self.permissions) && "
            "('network:external' in self.permissions || 'network:internal' in self.permissions))",
            "mcp.url needs the permission network:external or network:internal: add it",
            ".mcp",
        ),
        cel(
            "!has(self.mcp) || !has(self.mcp.url) || (has(self.allowedDomains) && size(self.allowedDomains) > 0)",
            "mcp.url is reached only where allowedDomains lists its host: add it",
            ".mcp",
        ),
        cel(
            "self.runtime == 'image' ? has(self.image) && has(self.command) && size(self.command) > 0 : "
            "!has(self.image) && (!has(self.command) || size(self.command) == 0)",
            "runtime image needs image and command, and no other runtime has them: set both with runtime: image, or "
            "remove them",
            ".runtime",
        ),
        cel(
            "!(self.runtime in ['bash', 'image']) || (has(self.permissions) && 'process:execute' in self.permissions)",
            "runtime bash and runtime image run programs: add process:execute to permissions",
            ".permissions",
        ),
    )
    version: str = Field(
        pattern=SEMVER, max_length=128, description="Semantic version, raised with each change, for example 1.2.0."
    )
    description: str = Field("", max_length=1024, description="What the skill is good for, in one sentence.")
    runtime: Runtime = Field(
        "python", description="Language of the entrypoint; image runs a command in a container image of your own."
    )
    image: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@-]*$",
        max_length=512,
        description="Container image of runtime image. Nothing has to be in it for the sandbox, which is added.",
    )
    command: list[str] = Field(
        default_factory=list,
        max_length=64,
        description="Program and arguments of runtime image; the entrypoint, if one is set, and the name of the action "
        "are added to them.",
        json_schema_extra=LIST_ATOMIC,
    )
    entrypoint: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9_][A-Za-z0-9_./-]*$",
        max_length=255,
        description="File that holds the actions, as a path in the package; scripts/main.py, scripts/main.mjs or "
        "scripts/main.sh when unset, by runtime, and none for runtime image.",
    )
    source: SkillSource | None = Field(None, description="The files; a remote MCP server has none.")
    actions: list[Action] = Field(
        default_factory=list,
        max_length=64,
        description="What the skill can do; none where its SKILL.md is all there is to it.",
        json_schema_extra=list_map("name"),
    )
    mcp: McpServer | None = Field(None, description="An MCP server whose tools are the actions.")
    permissions: list[Permission] = Field(
        default_factory=list,
        max_length=8,
        description="What the skill may touch; nothing when empty.",
        json_schema_extra=LIST_SET,
    )
    allowed_domains: list[AllowedDomain] = Field(
        default_factory=list,
        max_length=128,
        description="What the skill may reach through the egress proxy: a host name, *. and a domain for every host "
        "below it, * for every host, or an address; on ports 80 and 443, or the one that follows a colon. Only those "
        "whose addresses are public with network:external, or private with network:internal.",
        json_schema_extra=LIST_SET,
    )
    triggers: list[Trigger] = Field(
        default_factory=list, max_length=32, description="What else starts actions.", json_schema_extra=LIST_ATOMIC
    )
    rate_limit: RateLimit = Field(default_factory=RateLimit, description="Limit on calls.")
    secrets: list[SkillSecret] = Field(
        default_factory=list,
        max_length=32,
        description="Secrets handed over with a call.",
        json_schema_extra=list_map("name"),
    )
    resources: Resources = Field(
        default_factory=_skill_resources,
        description="Resources of a sandbox pod. A call may use limits.memory less 64Mi, or half of it below 128Mi: "
        "the rest is for what runs it.",
    )
    sandbox: SkillSandbox = Field(default_factory=SkillSandbox, description="Isolation.")
    signature: Signature | None = Field(None, description="Refuse any other content than this.")

    @property
    def main_file(self) -> str | None:
        """The entrypoint, with the default of the runtime; None where runtime image names none."""
        return self.entrypoint or ENTRYPOINTS.get(self.runtime)


class Fetched(Model):
    """What was last fetched for source.oci or source.archive. It is not fetched again while its package is there."""

    source: str = Field(max_length=600, description="What was fetched, by digest.")
    digest: str = Field(max_length=71, description="Digest of the package that came of it.")
    signed_by: str | None = Field(
        None, max_length=71, description="sha256 of the public key whose signature was found in the registry."
    )
    yanked: str | None = Field(
        None, max_length=1024, description="Why its publisher withdrew this version, when it was fetched."
    )
    spec: str | None = Field(
        None,
        description="The spec it was verified with, as JSON and without source: what agents that have the skill keep "
        "while a newer one is fetched.",
    )


class PoolStatus(Model):
    """A pool of sandbox pods the skill runs in. Numbers follow within half a minute, and not each call."""

    name: str = Field(description="The pool; its pods have it as their label openclaw.io/pool.")
    wanted: int = Field(description="Pods that are to wait for calls; grows and shrinks with the calls.")
    warm: int = Field(description="Pods that wait.")
    busy: int = Field(description="Pods at work.")
    starting: int = Field(description="Pods that start.")
    reason: str | None = Field(None, description="Why fewer wait than should, in one word; unset when all is well.")
    message: str | None = Field(None, description="The cause and the fix.")


class SkillStatus(CommonStatus):
    """Observed state of a Skill."""

    digest: str | None = Field(None, max_length=71, description="Digest of the package: sha256: and 64 hex digits.")
    package_config_map: str | None = Field(None, description="ConfigMap that holds the package.")
    fetched: Fetched | None = Field(None, description="What came from a registry or web server.")
    used_by: list[str] = Field(
        default_factory=list, description="The first agents that use it.", json_schema_extra=LIST_ATOMIC
    )
    users: int | None = Field(None, description="How many agents use it.")
    pools: list[PoolStatus] = Field(
        default_factory=list,
        description="The first pools of its sandbox pods, those that are short before others.",
        json_schema_extra=list_map("name"),
    )


class Skill(Model):
    """Code an agent may call. It runs in a fresh sandbox pod with only the permissions it declares."""

    # The package ConfigMap is <name>-package-<10 hex>, and the name is a label value of at most 63 characters.
    model_config = schema_extra(
        cel("self.metadata.name.size() <= 63", "metadata.name must be at most 63 characters, it is used as a label")
    )
    spec: SkillSpec = Field(description="Desired state.")
    status: SkillStatus | None = Field(None, description="Observed state, written by the operator.")


SKILL_CRD: dict[str, Any] = {
    "kind": "Skill",
    "plural": "skills",
    "singular": "skill",
    "short": "sk",
    "model": Skill,
    "columns": [
        ("Ready", "string", '.status.conditions[?(@.type=="Ready")].status', 0),
        ("Reason", "string", '.status.conditions[?(@.type=="Ready")].reason', 0),
        ("Version", "string", ".spec.version", 0),
        ("Users", "integer", ".status.users", 0),
        ("Runtime", "string", ".spec.runtime", 1),
        ("Digest", "string", ".status.digest", 1),
        ("Message", "string", '.status.conditions[?(@.type=="Ready")].message', 1),
        ("Age", "date", ".metadata.creationTimestamp", 0),
    ],
}

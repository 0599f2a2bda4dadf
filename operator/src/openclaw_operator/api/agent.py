"""Agent: one persistent AI agent behind a gateway."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from openclaw_operator.api.base import (
    DNS_LABEL,
    HOST_PORT,
    SEMVER_RANGE,
    CommonStatus,
    DeletionPolicy,
    FreeForm,
    KeyRef,
    LabelValue,
    LocalRef,
    Model,
    Name,
    Quantity,
    SandboxLevel,
    cel,
    list_map,
    schema_extra,
)
from openclaw_operator.api.gateway import Gateway
from openclaw_operator.api.memory import AgentMemory
from openclaw_operator.api.model import ModelSpec
from openclaw_operator.api.schedule import Schedule


class Soul(Model):
    """Who the agent is: its system prompt."""

    model_config = schema_extra(
        cel(
            "has(self.inline) != has(self.configMapKeyRef)",
            "set exactly one of inline and configMapKeyRef",
        )
    )
    inline: str | None = Field(None, min_length=1, max_length=65536, description="The text itself.")
    config_map_key_ref: KeyRef | None = Field(None, description="A ConfigMap key that holds the text.")


class AgentSkill(Model):
    """A Skill of the same namespace this agent may use."""

    name: Name = Field(description="Name of the Skill.")
    version: str = Field(
        "*",
        pattern=SEMVER_RANGE,
        max_length=128,
        description="Accepted versions as an npm-style range, for example ^1.2.0, '>=1.2 <2' or '*'.",
    )
    config: FreeForm | None = Field(None, description="Settings handed to the skill as ctx.config.")
    triggers: bool = Field(
        True, description="Whether the commands and times that the Skill lists as triggers start its actions here."
    )


class Workspace(Model):
    """The volume the agent works in; skills with filesystem permissions see it as /workspace."""

    size: Quantity = Field("1Gi", description="Requested size of the volume.")
    storage_class_name: Name | None = Field(
        None,
        description="Storage class of a new claim, the cluster's default when unset; an existing claim keeps its own.",
    )
    access_mode: Literal["ReadWriteOnce", "ReadWriteMany"] = Field(
        "ReadWriteOnce",
        description="ReadWriteMany lets skill pods on several nodes use it at once; an existing claim keeps its own.",
    )
    reclaim_policy: DeletionPolicy = Field(
        "Retain", description="What happens to the volume claim when the Agent is deleted."
    )


class AgentSandbox(Model):
    """The least isolation for this agent's skills; a Skill may ask for more, never for less."""

    level: SandboxLevel = Field(
        "isolated",
        description="isolated: a fresh pod per call; restricted: a pod kept for one session's calls of a skill, each "
        "in a fresh process; trusted: a process in the gateway, for skills that the operator's trustedSkills lists.",
    )
    runtime_class_name: Name | None = Field(None, description="RuntimeClass of the sandbox pods, for example gvisor.")


class Execution(Model):
    """Limits on the work of the agent."""

    timeout_seconds: int = Field(300, ge=1, le=86400, description="Longest a turn may take.")
    ask_timeout_seconds: int = Field(
        600,
        ge=1,
        le=86400,
        description="Longest a skill waits for its user's answer; the other limits of turn and call stand still then.",
    )
    max_concurrent: int = Field(3, ge=1, le=1000, description="Skill calls running at the same time per replica.")
    sandbox: AgentSandbox = Field(default_factory=AgentSandbox, description="Isolation of skill calls.")


class ServiceMonitor(Model):
    """A ServiceMonitor for the gateway, where the Prometheus Operator is installed."""

    model_config = schema_extra(
        cel(
            "!has(self.labels) || !self.labels.exists(k, k.startsWith('openclaw.io/') || k in "
            "['app.kubernetes.io/managed-by', 'app.kubernetes.io/name', 'app.kubernetes.io/instance', "
            "'app.kubernetes.io/component'])",
            "these labels are the operator's own (openclaw.io/*, app.kubernetes.io/managed-by, name, instance and "
            "component): name others in labels, which your Prometheus selects by, such as release",
            ".labels",
        ),
    )
    interval: str = Field("30s", pattern=r"^[0-9]+(ms|s|m|h)$", max_length=16, description="Time between two scrapes.")
    labels: dict[str, LabelValue] = Field(
        default_factory=dict,
        max_length=32,
        description="Labels your Prometheus selects monitors by, beside the operator's own.",
    )


class Traces(Model):
    """Where the gateway sends its traces."""

    endpoint: str = Field(
        pattern=rf"^https?://{HOST_PORT}(/[^\s?#]*)?$",
        max_length=2048,
        description="Base URL of a collector that takes OTLP over HTTP, for example http://collector.monitoring:4318.",
    )


class Observability(Model):
    """How the agent is watched."""

    service_monitor: ServiceMonitor | None = Field(None, description="Let the Prometheus Operator scrape the gateway.")
    traces: Traces | None = Field(None, description="Send traces of turns, models, skills and memory.")


class TeamSelector(Model):
    """Chooses Agents by label."""

    match_labels: dict[str, str] = Field(min_length=1, description="Labels a member must have.")


class Team(Model):
    """The agents a coordinator may delegate to."""

    model_config = schema_extra(
        cel(
            "has(self.selector) || (has(self.members) && size(self.members) > 0)",
            "name the team: set team.members or team.selector",
        )
    )
    members: list[LocalRef] = Field(
        default_factory=list, max_length=256, description="Members by name.", json_schema_extra=list_map("name")
    )
    selector: TeamSelector | None = Field(None, description="Members by label; an Agent is never its own member.")


class AgentSpec(Model):
    """Desired state of an Agent."""

    model_config = schema_extra(
        cel(
            "!has(self.gateway.autoscaling) || (has(self.memory) && has(self.memory.storeRef))",
            "embedded memory is one file on one volume, so it cannot be autoscaled: "
            "set memory.storeRef to a MemoryStore or remove gateway.autoscaling",
            ".gateway.autoscaling",
        ),
        cel(
            "self.gateway.replicas <= 1 || (has(self.memory) && has(self.memory.storeRef))",
            "embedded memory is one file on one volume, so it has one replica: "
            "set memory.storeRef to a MemoryStore or gateway.replicas to 1",
            ".gateway.replicas",
        ),
        cel(
            "!has(self.schedules) || self.schedules.all(s, !has(s.skill) || "
            "(has(self.skills) && self.skills.exists(k, k.name == s.skill.name)))",
            "a schedule calls one of the agent's skills: add the skill to skills, or correct schedules[].skill.name",
            ".schedules",
        ),
        cel(
            "!has(self.memory) || !has(self.memory.summarization) || !has(self.memory.summarization.model) || "
            "self.memory.summarization.model == self.model.name || "
            "(has(self.model.candidates) && "
            "self.model.candidates.exists(m, m.name == self.memory.summarization.model)) || "
            "(has(self.model.fallbacks) && "
            "self.model.fallbacks.exists(m, m.name == self.memory.summarization.model))",
            "summaries are made by one of the agent's models: name model.name, a candidate or a fallback in "
            "memory.summarization.model, or leave it out",
            ".memory",
        ),
    )
    role: str = Field(
        "assistant",
        pattern=r"^[a-z][a-z0-9_-]*$",
        max_length=63,
        description="What the agent is for, for example coordinator, code_expert, sysops or project_manager.",
    )
    description: str = Field("", max_length=1024, description="One sentence others choose this agent by.")
    soul: Soul | None = Field(None, description="The system prompt; a short default is made from role and description.")
    model: ModelSpec = Field(description="The language model.")
    skills: list[AgentSkill] = Field(
        default_factory=list,
        max_length=128,
        description="Skills the agent may call.",
        json_schema_extra=list_map("name"),
    )
    schedules: list[Schedule] = Field(
        default_factory=list,
        max_length=64,
        description="What the agent does at set times.",
        json_schema_extra=list_map("name"),
    )
    memory: AgentMemory = Field(default_factory=AgentMemory, description="Memory.")
    workspace: Workspace = Field(default_factory=Workspace, description="Working volume.")
    execution: Execution = Field(default_factory=Execution, description="Limits and isolation of the work.")
    gateway: Gateway = Field(default_factory=Gateway, description="The pods that serve the agent.")
    observability: Observability = Field(default_factory=Observability, description="How the agent is watched.")
    team: Team | None = Field(None, description="Agents this one may delegate to.")
    suspend: bool = Field(False, description="Stop the agent: no gateway pods, no sandbox pods; all data is kept.")


class ResolvedSkill(Model):
    """A skill as the agent got it."""

    name: str = Field(max_length=253, description="Name of the Skill.")
    version: str = Field(max_length=128, description="Version in use.")
    digest: str = Field(max_length=71, description="Digest of its package.")


class PendingRestart(Model):
    """Pods that run what the spec asked for before."""

    pods: int = Field(ge=0, description="Gateway pods that are still to be replaced.")
    message: str = Field(max_length=1024, description="What happens to them, and when.")


class AgentStatus(CommonStatus):
    """Observed state of an Agent."""

    replicas: int | None = Field(None, description="Gateway pods that exist.")
    ready_replicas: int | None = Field(None, description="Gateway pods that are ready.")
    selector: str | None = Field(None, description="Label selector of the gateway pods, for /scale.")
    endpoint: str | None = Field(None, description="Address of the OpenAI-compatible API inside the cluster.")
    token_secret: str | None = Field(None, description="Secret with the bearer token that opens the API.")
    token_key: str | None = Field(None, description="Its key in that Secret, where it is not token.")
    pending_restart: PendingRestart | None = Field(
        None, description="What a change that has not reached every pod restarts; absent when all are up to date."
    )
    skills: list[ResolvedSkill] = Field(
        default_factory=list, description="Resolved skills.", json_schema_extra=list_map("name")
    )


class Agent(Model):
    """An AI agent: a language model with a soul, skills and memory, served by a gateway."""

    # Children are named <name>-gateway and a Service name is a DNS label of at most 63 characters.
    model_config = schema_extra(
        cel(
            f"self.metadata.name.size() <= 50 && self.metadata.name.matches('{DNS_LABEL}')",
            "metadata.name must be a DNS label of at most 50 characters (lower case letters, digits, '-'), "
            "because Services are named after it",
        )
    )
    spec: AgentSpec = Field(description="Desired state.")
    status: AgentStatus | None = Field(None, description="Observed state, written by the operator.")


AGENT_CRD: dict[str, Any] = {
    "kind": "Agent",
    "plural": "agents",
    "singular": "agent",
    "short": "ag",
    "model": Agent,
    "columns": [
        ("Ready", "string", '.status.conditions[?(@.type=="Ready")].status', 0),
        ("Reason", "string", '.status.conditions[?(@.type=="Ready")].reason', 0),
        ("Role", "string", ".spec.role", 0),
        ("Model", "string", ".spec.model.name", 0),
        ("Replicas", "integer", ".status.readyReplicas", 0),
        ("Store", "string", ".spec.memory.storeRef.name", 1),
        ("Endpoint", "string", ".status.endpoint", 1),
        ("Message", "string", '.status.conditions[?(@.type=="Ready")].message', 1),
        ("Age", "date", ".metadata.creationTimestamp", 0),
    ],
    "scale": {
        "specReplicasPath": ".spec.gateway.replicas",
        "statusReplicasPath": ".status.replicas",
        "labelSelectorPath": ".status.selector",
    },
}

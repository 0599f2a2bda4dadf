"""Agent: one persistent AI agent behind a gateway."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from openclaw_operator.api.base import (
    DNS_LABEL,
    HTTP_URL,
    LIST_ATOMIC,
    SEMVER_RANGE,
    CommonStatus,
    DeletionPolicy,
    FreeForm,
    IntOrPercent,
    KeyRef,
    LocalRef,
    Model,
    Name,
    Quantity,
    Resources,
    SandboxLevel,
    SecretSource,
    Toleration,
    cel,
    list_map,
    schema_extra,
)

Provider = Literal["openai", "anthropic", "groq", "local", "openai-compatible"]


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


class ModelSettings(Model):
    """Sampling settings sent with each request."""

    temperature: float | None = Field(None, ge=0, le=2, description="Randomness, 0 to 2.")
    max_tokens: int | None = Field(None, ge=1, description="Most tokens in one answer.")
    top_p: float | None = Field(None, gt=0, le=1, description="Nucleus sampling threshold, above 0 up to 1.")
    seed: int | None = Field(None, description="Seed for providers that support repeatable sampling.")


class ModelSpec(Model):
    """The language model the agent thinks with."""

    model_config = schema_extra(
        cel(
            "!(self.provider in ['local', 'openai-compatible']) || has(self.baseURL)",
            "provider local and openai-compatible need a server: set model.baseURL, for example http://llm:8000/v1",
            ".baseURL",
        ),
        cel(
            "self.provider in ['local', 'openai-compatible'] || has(self.credentials)",
            "this provider needs an API key: set model.credentials.secretKeyRef to {name, key} of a Secret",
            ".credentials",
        ),
    )
    provider: Provider = Field("openai", description="Which API the model is reached by.")
    name: str = Field(min_length=1, max_length=253, description="Model name as the provider spells it.")
    base_url: str | None = Field(
        None,
        alias="baseURL",
        pattern=HTTP_URL,
        max_length=2048,
        description="Address of the API; needed for local and openai-compatible, overrides the default elsewhere.",
    )
    credentials: SecretSource | None = Field(None, description="The API key.")
    settings: ModelSettings | None = Field(None, description="Sampling settings; the provider's defaults where unset.")


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


class AgentMemory(Model):
    """What the agent remembers and where."""

    store_ref: LocalRef | None = Field(
        None, description="The MemoryStore to use; without it memory is embedded on the workspace volume."
    )
    context_tokens: int = Field(
        128000, ge=1024, le=2000000, description="Most tokens of conversation sent to the model in one request."
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
    max_concurrent: int = Field(3, ge=1, le=1000, description="Skill calls running at the same time per replica.")
    sandbox: AgentSandbox = Field(default_factory=AgentSandbox, description="Isolation of skill calls.")


class ScalingRule(Model):
    """How fast an autoscaler moves in one direction."""

    stabilization_window_seconds: int = Field(ge=0, le=3600, description="Seconds a recommendation must hold.")
    percent: int = Field(ge=1, le=1000, description="Most change per period, in percent of the replicas.")
    period_seconds: int = Field(60, ge=1, le=1800, description="Length of a period.")


class ScalingBehavior(Model):
    """Speed limits of the autoscaler."""

    scale_down: ScalingRule = Field(
        default_factory=lambda: ScalingRule(stabilization_window_seconds=300, percent=10, period_seconds=60),
        description="Removing replicas.",
    )
    scale_up: ScalingRule = Field(
        default_factory=lambda: ScalingRule(stabilization_window_seconds=60, percent=100, period_seconds=60),
        description="Adding replicas.",
    )


class Autoscaling(Model):
    """A HorizontalPodAutoscaler on the gateway."""

    model_config = schema_extra(
        cel(
            "self.minReplicas <= self.maxReplicas",
            "minReplicas must not exceed maxReplicas: lower minReplicas or raise maxReplicas",
            ".minReplicas",
        )
    )
    min_replicas: int = Field(3, ge=1, le=100, description="Fewest replicas.")
    max_replicas: int = Field(10, ge=1, le=100, description="Most replicas.")
    cpu_utilization: int = Field(70, ge=1, le=1000, description="Target mean CPU use in percent of the request.")
    memory_utilization: int = Field(80, ge=1, le=1000, description="Target mean memory use in percent of the request.")
    behavior: ScalingBehavior = Field(default_factory=ScalingBehavior, description="Speed limits.")


class GatewayService(Model):
    """The Service in front of the gateway."""

    type: Literal["ClusterIP", "NodePort", "LoadBalancer"] = Field("ClusterIP", description="Kind of Service.")
    annotations: dict[str, str] = Field(default_factory=dict, description="Annotations for cloud load balancers.")


class PodDisruptionBudget(Model):
    """How many replicas voluntary disruptions must leave."""

    model_config = schema_extra(
        cel(
            "!(has(self.minAvailable) && has(self.maxUnavailable))",
            "set minAvailable or maxUnavailable, not both",
        )
    )
    min_available: IntOrPercent | None = Field(None, description="Replicas that must stay, as a number or percentage.")
    max_unavailable: IntOrPercent | None = Field(
        None, description="Replicas that may be away, as a number or percentage; 1 when both are unset."
    )


class TopologySpread(Model):
    """Spreads gateway pods over a topology; the pod selector is filled in by the operator."""

    max_skew: int = Field(1, ge=1, description="Largest difference in pods between two domains.")
    topology_key: str = Field(min_length=1, max_length=316, description="Node label that defines the domains.")
    when_unsatisfiable: Literal["DoNotSchedule", "ScheduleAnyway"] = Field(
        "ScheduleAnyway", description="Whether a pod that would break the spread may be scheduled."
    )


class EnvVar(Model):
    """An environment variable of the gateway container."""

    model_config = schema_extra(
        cel("!(has(self.value) && has(self.valueFrom))", "set value or valueFrom, not both"),
    )
    name: str = Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=253, description="Name of the variable.")
    value: str | None = Field(None, max_length=32768, description="Its value.")
    value_from: EnvSource | None = Field(None, description="Where its value comes from.")


class EnvSource(Model):
    """A Secret or ConfigMap key."""

    model_config = schema_extra(
        cel(
            "has(self.secretKeyRef) != has(self.configMapKeyRef)",
            "set exactly one of secretKeyRef and configMapKeyRef",
        )
    )
    secret_key_ref: KeyRef | None = Field(None, description="A key of a Secret.")
    config_map_key_ref: KeyRef | None = Field(None, description="A key of a ConfigMap.")


def _gateway_resources() -> Resources:
    return Resources(
        requests={"cpu": "250m", "memory": "512Mi"},
        limits={"cpu": "1", "memory": "2Gi"},
    )


class Affinity(Model):
    """Affinity as in a pod spec; what is inside is checked when it is applied."""

    node_affinity: FreeForm | None = Field(None, description="Nodes the pods must or should run on.")
    pod_affinity: FreeForm | None = Field(None, description="Pods they must or should run near to.")
    pod_anti_affinity: FreeForm | None = Field(None, description="Pods they must or should run away from.")


class Gateway(Model):
    """The pods that serve the agent."""

    replicas: int = Field(1, ge=0, le=100, description="Number of gateway pods; unused while autoscaling is set.")
    autoscaling: Autoscaling | None = Field(None, description="Let a HorizontalPodAutoscaler choose the replicas.")
    resources: Resources = Field(default_factory=_gateway_resources, description="Resources of a gateway pod.")
    service: GatewayService = Field(default_factory=GatewayService, description="The Service in front of the pods.")
    pod_disruption_budget: PodDisruptionBudget = Field(
        default_factory=PodDisruptionBudget, description="Protection against voluntary disruptions."
    )
    node_selector: dict[str, str] = Field(default_factory=dict, description="Labels a node must have.")
    tolerations: list[Toleration] = Field(
        default_factory=list, max_length=64, description="Taints to tolerate.", json_schema_extra=LIST_ATOMIC
    )
    affinity: Affinity | None = Field(None, description="Affinity as in a pod spec; checked when it is applied.")
    topology_spread: list[TopologySpread] = Field(
        default_factory=list,
        max_length=8,
        description="Spread over nodes and zones.",
        json_schema_extra=list_map("topologyKey"),
    )
    extra_env: list[EnvVar] = Field(
        default_factory=list, max_length=128, description="More environment.", json_schema_extra=list_map("name")
    )
    image_pull_secrets: list[LocalRef] = Field(
        default_factory=list,
        max_length=16,
        description="Secrets with credentials for the image registry.",
        json_schema_extra=list_map("name"),
    )


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
    memory: AgentMemory = Field(default_factory=AgentMemory, description="Memory.")
    workspace: Workspace = Field(default_factory=Workspace, description="Working volume.")
    execution: Execution = Field(default_factory=Execution, description="Limits and isolation of the work.")
    gateway: Gateway = Field(default_factory=Gateway, description="The pods that serve the agent.")
    team: Team | None = Field(None, description="Agents this one may delegate to.")
    suspend: bool = Field(False, description="Stop the agent: no gateway pods, no sandbox pods; all data is kept.")


class ResolvedSkill(Model):
    """A skill as the agent got it."""

    name: str = Field(max_length=253, description="Name of the Skill.")
    version: str = Field(max_length=128, description="Version in use.")
    digest: str = Field(max_length=71, description="Digest of its package.")


class AgentStatus(CommonStatus):
    """Observed state of an Agent."""

    replicas: int | None = Field(None, description="Gateway pods that exist.")
    ready_replicas: int | None = Field(None, description="Gateway pods that are ready.")
    selector: str | None = Field(None, description="Label selector of the gateway pods, for /scale.")
    endpoint: str | None = Field(None, description="Address of the OpenAI-compatible API inside the cluster.")
    token_secret: str | None = Field(None, description="Secret whose key token opens the API.")
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

"""What the builders of an Agent's children are given, once every reference is resolved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from openclaw_operator.api.agent import AgentSpec
from openclaw_operator.api.base import KeyRef
from openclaw_operator.api.memorystore import Embedding, MemoryStoreSpec
from openclaw_operator.api.skill import SkillSpec
from openclaw_operator.resources.egress import EgressOptions
from openclaw_operator.resources.meta import MONITORING, Images, Owner
from openclaw_operator.resources.pool import Pool


@dataclass(frozen=True)
class Store:
    """The MemoryStore an agent uses."""

    name: str
    spec: MemoryStoreSpec

    @property
    def embedding(self) -> Embedding:
        """How it makes vectors."""
        return self.spec.embedding


@dataclass(frozen=True)
class ResolvedSkill:
    """A Skill in the version that is there, with its package ("": a remote MCP server) and pool (None: the gateway)."""

    name: str
    spec: SkillSpec
    digest: str
    package: str
    level: str
    config: dict[str, Any]
    pool: Pool | None
    # Whether its triggers start actions in this agent.
    triggers: bool = True

    @property
    def mcp_url(self) -> str | None:
        """Where the MCP server is that the gateway calls, if this is one."""
        return self.spec.mcp.url if self.spec.mcp else None

    @property
    def secrets(self) -> dict[str, KeyRef]:
        """Secret name in ctx.secrets → where its value is."""
        return {secret.name: secret.secret_key_ref for secret in self.spec.secrets}


@dataclass(frozen=True)
class Member:
    """An agent a coordinator may delegate to."""

    name: str
    role: str
    description: str
    skills: tuple[str, ...]
    hibernates: bool = False


@dataclass(frozen=True)
class AgentInputs:
    """Everything an Agent's children are made from."""

    owner: Owner
    spec: AgentSpec
    soul: str
    images: Images
    store: Store | None
    skills: tuple[ResolvedSkill, ...]
    team: tuple[Member, ...]
    # What variables of the gateway take from ConfigMaps.
    variables: Mapping[str, str] = field(default_factory=dict)
    # How namespaces' egress proxies are set up. Gateways go by the same rules where they call remote MCP servers.
    egress: EgressOptions = field(default_factory=EgressOptions)
    # Namespaces from which metrics are scraped.
    monitoring: tuple[str, ...] = MONITORING
    # Whether the agent hibernates now: no pods; and whether its Service leads to the activator, which holds requests.
    asleep: bool = False
    held: bool = False

    @property
    def embedded(self) -> bool:
        """Whether memory lives on the workspace volume."""
        return self.store is None

    @property
    def stopped(self) -> bool:
        """Whether there are to be no pods, whatever replicas and autoscaling say."""
        return self.spec.suspend or self.asleep

    @property
    def autoscaled(self) -> bool:
        """Whether a HorizontalPodAutoscaler decides the replicas."""
        return self.spec.gateway.autoscaling is not None and not self.stopped

    @property
    def meets_activator(self) -> bool:
        """Whether the gateway talks to the activator: to say that it is idle, or to wake a member of its team."""
        return self.spec.gateway.hibernation is not None or any(member.hibernates for member in self.team)

    @property
    def gateway(self) -> str:
        """Name of most children."""
        return self.owner.child("gateway")

"""Inputs for the builders, as the tests vary them."""

from __future__ import annotations

from typing import Any

from openclaw_operator.api.agent import AgentSpec
from openclaw_operator.api.memorystore import MemoryStoreSpec
from openclaw_operator.api.skill import SkillSpec
from openclaw_operator.resources.egress import EgressOptions
from openclaw_operator.resources.inputs import AgentInputs, Member, ResolvedSkill, Store
from openclaw_operator.resources.meta import Images, Owner
from openclaw_operator.resources.pool import effective_level, pool_for

IMAGES = Images(
    "runtime:1", "sandbox:1", "sandbox-node:1", "qdrant:1", "postgres:1", "redis:1", "backup:1", "IfNotPresent"
)
EGRESS = EgressOptions("egress:1", resources={"limits": {"memory": "256Mi"}})
DIGEST = "sha256:" + "ab" * 32


def owner(kind: str, name: str) -> Owner:
    return Owner(kind, name, "demo", f"uid-of-{name}")


def skill_spec(**changes: Any) -> SkillSpec:
    data: dict[str, Any] = {
        "version": "1.2.0",
        "description": "Works with git",
        "source": {"inline": {"files": {"scripts/main.py": "pass\n"}}},
        "actions": [{"name": "smartCommit", "description": "commits", "inputSchema": {"type": "object"}}],
        "permissions": ["filesystem:read", "filesystem:write", "process:execute"],
        "triggers": [{"type": "cron", "schedule": "0 9,18 * * *", "action": "smartCommit"}],
        "secrets": [{"name": "GITHUB_TOKEN", "secretKeyRef": {"name": "github", "key": "token"}}],
    }
    return SkillSpec.model_validate(data | changes)


def store(**changes: Any) -> Store:
    return Store("mem", MemoryStoreSpec.model_validate(changes))


def agent_inputs(name: str, spec: dict[str, Any], *, memory: Store | None = None, skills: bool = False) -> AgentInputs:
    model = {"model": {"provider": "openai-compatible", "name": "m", "baseURL": "http://llm:8000/v1"}}
    stored = {"memory": {**spec.get("memory", {}), "storeRef": {"name": memory.name}}} if memory else {}
    agent = AgentSpec.model_validate(model | spec | stored)
    resolved: tuple[ResolvedSkill, ...] = ()
    if skills:
        skill = skill_spec()
        resolved = (
            ResolvedSkill(
                name="git-ai-helper",
                spec=skill,
                digest=DIGEST,
                package="git-ai-helper-package-ababababab",
                level=effective_level(agent, skill),
                config={"style": "conventional"},
                pool=pool_for(name, agent, skill, IMAGES),
            ),
        )
    return AgentInputs(
        owner=owner("Agent", name),
        spec=agent,
        soul="You commit.",
        images=IMAGES,
        store=memory,
        skills=resolved,
        team=(Member("code-expert", "code_expert", "Writes code", ("git-ai-helper",)),) if agent.team else (),
        egress=EGRESS,
    )

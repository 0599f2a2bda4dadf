"""Sandbox pools: skills whose pods look alike share one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal

from openclaw_operator.api.agent import AgentSpec
from openclaw_operator.api.skill import SkillSpec
from openclaw_operator.resources.meta import Images

# From the most to the least isolated.
LEVELS = ("isolated", "restricted", "trusted")


@dataclass(frozen=True)
class PoolShape:
    """What the pods of a pool look like; equal shapes are one pool.

    `runner_image` is the image the runner is copied from, where `image` is the skill's own. `runtime` is what the
    pods serve (python serves bash, too), and `allowances` are the permissions that a process has to be started with,
    where it is started before its call.
    """

    image: str
    resources: str
    runtime_class: str | None
    egress: Literal["none", "proxied"]
    claim: str | None
    mode: Literal["ro", "rw"] | None
    # Whether a pod stays with the session of its first call (level restricted).
    leased: bool = False
    runner_image: str | None = None
    runtime: Literal["python", "node", "image"] = "python"
    allowances: tuple[str, ...] = ()
    # Whether the agent's own data is on the workspace, which the pods then must not see.
    embedded: bool = False
    pull_secrets: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """First 10 hex digits of the sha256 of the shape as canonical JSON."""
        workspace = None if self.claim is None else {"claim": self.claim, "mode": self.mode}
        shape: dict[str, Any] = {
            "image": self.image,
            "resources": json.loads(self.resources),
            "runtimeClassName": self.runtime_class,
            "egress": self.egress,
            "workspace": workspace,
        }
        if self.leased:
            shape["level"] = "restricted"
        # Only where it is set: pods of a shape that has none of it keep their pool when the operator is updated.
        if self.runner_image:
            shape["runnerImage"] = self.runner_image
        if self.runtime != "python":
            shape |= {"runtime": self.runtime, "allowances": self.allowances}
        if self.embedded:
            shape["embedded"] = True
        if self.pull_secrets:
            shape["imagePullSecrets"] = self.pull_secrets
        text = json.dumps(shape, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:10]

    def container_resources(self) -> dict[str, Any]:
        """The resources of the sandbox container."""
        result: dict[str, Any] = json.loads(self.resources)
        return result


@dataclass(frozen=True)
class Pool:
    """A pool as one agent needs it: how many pods wait, and how many may be in use beside them."""

    shape: PoolShape
    warm: int
    busy: int
    # Whether skills with network:internal are among its callers.
    internal: bool = False
    # The most that may wait when demand grows; None: as many as may be in use.
    max_warm: int | None = None

    @property
    def id(self) -> str:
        """The pool's id."""
        return self.shape.id

    @property
    def most(self) -> int:
        """The most pods that may wait, however many calls come."""
        return max(self.warm, self.busy if self.max_warm is None else self.max_warm)


def effective_level(agent: AgentSpec, skill: SkillSpec) -> str:
    """The stricter of what the agent and the skill ask for.

    The gateway's own image has only Python, so any other runtime is never `trusted`.
    """
    level = min(agent.execution.sandbox.level, skill.sandbox.level, key=LEVELS.index)
    return "isolated" if level == "trusted" and skill.runtime != "python" else level


def is_marked_trusted(namespace: str, name: str, marks: Collection[str]) -> bool:
    """Whether the platform engineer lets a Skill run in gateways; marks are `namespace/name` or `namespace/*`."""
    return f"{namespace}/{name}" in marks or f"{namespace}/*" in marks


def workspace_claim(agent_name: str) -> str:
    """Name of the claim that the sandbox pods of an agent mount."""
    return f"{agent_name}-workspace"


def pool_for(agent_name: str, agent: AgentSpec, skill: SkillSpec, images: Images) -> Pool | None:
    """The pool a skill of an agent runs in; None when it runs in the gateway itself, or there is nothing to run."""
    if skill.mcp and skill.mcp.url:
        return None
    level = effective_level(agent, skill)
    if level == "trusted" or not (skill.actions or skill.mcp):
        return None
    permissions = set(skill.permissions)
    mode: Literal["ro", "rw"] | None = None
    if "filesystem:write" in permissions:
        mode = "rw"
    elif "filesystem:read" in permissions:
        mode = "ro"
    resources = skill.resources.model_dump(exclude_defaults=False)
    shape = PoolShape(
        image=_image(skill, images),
        resources=json.dumps(resources, sort_keys=True, separators=(",", ":")),
        runtime_class=skill.sandbox.runtime_class_name or agent.execution.sandbox.runtime_class_name,
        egress="proxied" if permissions & {"network:external", "network:internal"} else "none",
        claim=workspace_claim(agent_name) if mode else None,
        mode=mode,
        leased=level == "restricted",
        runner_image=images.sandbox if skill.runtime == "image" else None,
        runtime="python" if skill.runtime == "bash" else skill.runtime,
        allowances=_allowances(permissions) if skill.runtime == "node" else (),
        embedded=mode is not None and agent.memory.store_ref is None,
        pull_secrets=images.pull_secrets,
    )
    scaling = agent.gateway.autoscaling
    replicas = scaling.max_replicas if scaling else max(agent.gateway.replicas, 1)
    in_use = agent.execution.max_concurrent * replicas
    # Gateways keep as many idle leases as calls may run, so waiting ones never take the place of a call.
    busy = 2 * in_use if shape.leased else in_use
    internal = "network:internal" in permissions
    return Pool(shape, skill.sandbox.warm, busy, internal=internal, max_warm=skill.sandbox.max_warm)


def _image(skill: SkillSpec, images: Images) -> str:
    if skill.runtime == "image":
        assert skill.image is not None, "a CEL rule of SkillSpec"
        return skill.image
    return images.sandbox_node if skill.runtime == "node" else images.sandbox


def _allowances(permissions: Collection[str]) -> tuple[str, ...]:
    """The permissions a system call filter depends on; which network it is does not matter to it."""
    network = not {"network:external", "network:internal"}.isdisjoint(permissions)
    wanted = {"process:execute": "process:execute" in permissions, "network:external": network}
    return tuple(name for name, given in wanted.items() if given)


def merge(pools: list[Pool]) -> dict[str, Pool]:
    """Pools of all agents of a namespace by id: the largest wish for warm pods, the sum of the calls."""
    merged: dict[str, Pool] = {}
    for pool in pools:
        known = merged.get(pool.id)
        if known is None:
            merged[pool.id] = pool
        else:
            internal = known.internal or pool.internal
            limits = [each.max_warm for each in (known, pool) if each.max_warm is not None]
            most = max(limits) if len(limits) == 2 else None
            merged[pool.id] = Pool(pool.shape, max(known.warm, pool.warm), known.busy + pool.busy, internal, most)
    return merged

"""The Skills an Agent names: which of them it is given, and in which version."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import semantic_version

from openclaw_operator.api.agent import AgentSkill, AgentSpec
from openclaw_operator.api.skill import SkillSpec
from openclaw_operator.cluster.references import Key as ReferenceKey
from openclaw_operator.errors import SpecError
from openclaw_operator.reconcile.context import Context
from openclaw_operator.reconcile.primaries import Primary
from openclaw_operator.reconcile.required import require_secret
from openclaw_operator.resources.inputs import ResolvedSkill
from openclaw_operator.resources.pool import effective_level, is_marked_trusted, pool_for


class SkillResolver:
    """Resolves the skills of Agents, and remembers what each was given while a newer one is not checked yet."""

    def __init__(self, context: Context) -> None:
        self._context = context
        # The Skills each agent was given, as they were when they had been checked.
        self._given: dict[ReferenceKey, dict[str, Primary]] = {}

    def gone(self, key: ReferenceKey) -> None:
        """The Agent was deleted."""
        self._given.pop(key, None)

    def waits(self, primary: Primary, spec: AgentSpec, status: dict[str, Any]) -> bool:
        """Whether a skill the agent has was edited before this process saw what it was.

        To take it away until it is verified would cost its pods. The report on the skill wakes the agent.
        """
        had = {skill["name"] for skill in status.get("skills") or ()}
        for wanted in spec.skills:
            skill = self._context.primaries.get(("Skill", primary.namespace, wanted.name))
            if wanted.name in had and skill and not skill.deleting:
                checked = skill.load()["status"].get("observedGeneration")
                if checked != skill.generation and self._last_given(primary, skill) is None:
                    return True
        return False

    def _last_given(self, primary: Primary, skill: Primary) -> Primary | None:
        """The Skill in the version the agent has, if it is known: to this process, or from what was fetched before."""
        given = self._given.get(primary.key, {}).get(skill.name)
        return given if given and given.uid == skill.uid else _kept(primary, skill)

    async def resolve(
        self, primary: Primary, spec: AgentSpec, named: set[ReferenceKey]
    ) -> tuple[tuple[ResolvedSkill, ...], SpecError | None]:
        """The skills that are there; the agent works without the others, and says which and why."""
        found: list[ResolvedSkill] = []
        given: dict[str, Primary] = {}
        problem: SpecError | None = None
        for index, wanted in enumerate(spec.skills):
            try:
                skill = self._checked(primary, index, wanted)
                found.append(await self._resolved(primary, spec, index, wanted, skill, named))
                given[wanted.name] = skill
            except SpecError as error:
                problem = problem or error
        self._given[primary.key] = given
        return tuple(sorted(found, key=lambda skill: skill.name)), problem

    def _checked(self, primary: Primary, index: int, wanted: AgentSkill) -> Primary:
        """The Skill as it is, or as the agent has it while a newer one is not checked yet. Raises SpecError."""
        path = f"spec.skills[{index}]"
        skill = self._context.primaries.get(("Skill", primary.namespace, wanted.name))
        if skill is None or skill.deleting:
            raise SpecError(
                "SkillNotFound",
                f"{path}.name: Skill {wanted.name!r} does not exist in namespace {primary.namespace}: "
                "create it or correct the name",
            )
        try:
            accepted = semantic_version.NpmSpec(wanted.version)
        except (ValueError, AttributeError):
            # AttributeError: what the library says of a range 'a - b' with an end that is none.
            raise SpecError(
                "InvalidVersionRange",
                f"{path}.version: {wanted.version!r} is not a version range: use for example '^1.2.0', "
                "'>=1.2 <2' or '*'",
            ) from None
        content = skill.load()
        status, version_text = content["status"], content["spec"]["version"]
        if status.get("observedGeneration") != skill.generation and (given := self._last_given(primary, skill)):
            return given
        version = semantic_version.Version(version_text)
        # A pre-release is only ever taken when it is asked for, except by '*', which takes what is there.
        if version not in accepted and wanted.version.strip() not in ("*", "x", "X"):
            raise SpecError(
                "SkillVersionMismatch",
                f"{path}.version: Skill {wanted.name!r} is at {version_text}, which {wanted.version!r} does not "
                "accept: widen the range or change the Skill",
            )
        if not status.get("digest") or status.get("observedGeneration") != skill.generation:
            raise SpecError(
                "SkillNotReady",
                f"{path}.name: Skill {wanted.name!r} has no verified package yet: see its conditions with "
                f"kubectl describe skill {wanted.name}",
            )
        return skill

    async def _resolved(
        self,
        primary: Primary,
        spec: AgentSpec,
        index: int,
        wanted: AgentSkill,
        skill: Primary,
        named: set[ReferenceKey],
    ) -> ResolvedSkill:
        path = f"spec.skills[{index}]"
        content = skill.load()
        skill_spec, status = SkillSpec.model_validate(content["spec"]), content["status"]
        level = effective_level(spec, skill_spec)
        if level == "trusted" and not is_marked_trusted(primary.namespace, wanted.name, self._context.trusted_skills):
            raise SpecError(
                "SkillNotTrusted",
                f"{path}.name: Skill {wanted.name!r} and this Agent ask for sandbox.level trusted, which runs the "
                "skill in the gateway itself, and the operator does not allow it: add "
                f"'{primary.namespace}/{wanted.name}' to the chart value sandbox.trustedSkills, or set sandbox.level "
                "of the Skill to restricted or isolated",
            )
        for secret in skill_spec.secrets:
            secret_path = f"{path}.name: Skill {wanted.name!r}, spec.secrets[{secret.name}].secretKeyRef"
            await require_secret(self._context, primary, secret_path, secret.secret_key_ref, named)
        return ResolvedSkill(
            name=wanted.name,
            spec=skill_spec,
            digest=status["digest"],
            package=status.get("packageConfigMap") or "",
            level=level,
            config=wanted.config or {},
            pool=pool_for(primary.name, spec, skill_spec, self._context.images),
            triggers=wanted.triggers,
        )


def _kept(primary: Primary, skill: Primary) -> Primary | None:
    """A Skill from outside the cluster as it was verified last, where that is what the agent has."""
    content = skill.load()
    status = content["status"]
    fetched, digest = status.get("fetched") or {}, status.get("digest")
    had = primary.load()["status"].get("skills") or ()
    has = any((entry["name"], entry["digest"]) == (skill.name, digest) for entry in had)
    if not has or not fetched.get("spec") or fetched.get("digest") != digest:
        return None
    return replace(skill, content=json.dumps({**content, "spec": json.loads(fetched["spec"])}).encode())

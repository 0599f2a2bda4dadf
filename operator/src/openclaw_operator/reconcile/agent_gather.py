"""What an Agent names, as far as it can be found: its soul, secrets, store, skills and team."""

from __future__ import annotations

from dataclasses import dataclass

from openclaw_operator.api.agent import AgentSpec
from openclaw_operator.api.base import KeyRef
from openclaw_operator.api.memorystore import MemoryStoreSpec
from openclaw_operator.cluster.references import Key as ReferenceKey
from openclaw_operator.errors import SpecError
from openclaw_operator.reconcile.agent_skills import SkillResolver
from openclaw_operator.reconcile.context import Context
from openclaw_operator.reconcile.primaries import Primary
from openclaw_operator.reconcile.required import require_secret
from openclaw_operator.resources import agent_config, agent_deployment
from openclaw_operator.resources.inputs import AgentInputs, Member, Store
from openclaw_operator.resources.meta import Owner


@dataclass
class Gathered:
    """What an agent names, as far as it could be found."""

    inputs: AgentInputs
    problem: SpecError | None


class Gatherer:
    """Resolves the references of Agents."""

    def __init__(self, context: Context, skills: SkillResolver) -> None:
        self._context = context
        self._skills = skills

    async def gather(self, primary: Primary, owner: Owner, spec: AgentSpec) -> Gathered:
        """Resolve every reference. Raises SpecError for one the agent cannot be without."""
        named: set[ReferenceKey] = set()
        if self._context.stalls.doubts("Deployment", primary.namespace, f"{primary.name}-gateway"):
            # Pods that do not start may wait for a Secret that was there once.
            self._context.references.doubt(primary.key)
        try:
            soul = await self._soul(primary, spec, named)
            await self._require_secrets(primary, spec, named)
            variables = await self._variables(primary, spec, named)
            store = self._store(primary, spec)
            skills, problem = await self._skills.resolve(primary, spec, named)
        finally:
            self._context.references.expect(primary.key, named)
        inputs = AgentInputs(
            owner=owner,
            spec=spec,
            soul=soul,
            images=self._context.images,
            store=store,
            skills=skills,
            team=self._team(primary, spec),
            variables=variables,
            egress=self._context.egress,
            monitoring=self._context.monitoring,
        )
        return Gathered(inputs, problem)

    async def _soul(self, primary: Primary, spec: AgentSpec, named: set[ReferenceKey]) -> str:
        if spec.soul is None or (spec.soul.inline is None and spec.soul.config_map_key_ref is None):
            return agent_config.default_soul(primary.name, spec.role, spec.description)
        ref = spec.soul.config_map_key_ref
        if ref is None:
            return spec.soul.inline or ""
        named.add(("ConfigMap", primary.namespace, ref.name))
        data = await self._context.references.config_map(primary.namespace, ref.name, primary.key)
        if data is None:
            raise SpecError(
                "SoulNotFound",
                f"spec.soul.configMapKeyRef.name: ConfigMap {ref.name!r} does not exist in namespace "
                f"{primary.namespace}: create it with the key {ref.key!r}",
            )
        if not data.get(ref.key):
            raise SpecError(
                "SoulNotFound",
                f"spec.soul.configMapKeyRef.key: ConfigMap {ref.name!r} has no text under {ref.key!r} "
                f"(it has {', '.join(sorted(data)) or 'no keys'}): add the key or name another",
            )
        return data[ref.key]

    async def _require_secrets(self, primary: Primary, spec: AgentSpec, named: set[ReferenceKey]) -> None:
        wanted: dict[str, KeyRef] = {}
        if spec.model.credentials:
            wanted["spec.model.credentials.secretKeyRef"] = spec.model.credentials.secret_key_ref
        for place, other in spec.model.others():
            if other.credentials:
                wanted[f"{place}.credentials.secretKeyRef"] = other.credentials.secret_key_ref
        if spec.gateway.auth:
            wanted["spec.gateway.auth.tokenSecretRef"] = spec.gateway.auth.token_secret_ref
        for item in agent_deployment.extra_env(spec):
            if item.value_from and item.value_from.secret_key_ref:
                wanted[f"spec.gateway.extraEnv[{item.name}].valueFrom.secretKeyRef"] = item.value_from.secret_key_ref
        for path, ref in wanted.items():
            await require_secret(self._context, primary, path, ref, named)

    async def _variables(self, primary: Primary, spec: AgentSpec, named: set[ReferenceKey]) -> dict[str, str]:
        """What variables of the gateway take from ConfigMaps. Raises SpecError for one that is not there."""
        found = {}
        for item in agent_deployment.extra_env(spec):
            ref = item.value_from.config_map_key_ref if item.value_from else None
            if ref is None:
                continue
            named.add(("ConfigMap", primary.namespace, ref.name))
            data = await self._context.references.config_map(primary.namespace, ref.name, primary.key)
            if data is None or ref.key not in data:
                there = "does not exist" if data is None else f"has nothing under {ref.key!r}"
                raise SpecError(
                    "ConfigMapNotFound",
                    f"spec.gateway.extraEnv[{item.name}].valueFrom.configMapKeyRef: ConfigMap {ref.name!r} {there} in "
                    f"namespace {primary.namespace}: create it with the key {ref.key!r}, or name another",
                )
            found[item.name] = data[ref.key]
        return found

    def _store(self, primary: Primary, spec: AgentSpec) -> Store | None:
        ref = spec.memory.store_ref
        if ref is None:
            return None
        store = self._context.primaries.get(("MemoryStore", primary.namespace, ref.name))
        if store is None or store.deleting:
            raise SpecError(
                "MemoryStoreNotFound",
                f"spec.memory.storeRef.name: MemoryStore {ref.name!r} does not exist in namespace "
                f"{primary.namespace}: create it or name another",
            )
        return Store(ref.name, MemoryStoreSpec.model_validate(store.load()["spec"]))

    def _team(self, primary: Primary, spec: AgentSpec) -> tuple[Member, ...]:
        """The members that exist: one that is missing is one nobody can delegate to yet."""
        if spec.team is None:
            return ()
        names = {member.name for member in spec.team.members}
        labels = spec.team.selector.match_labels if spec.team.selector else None
        members = []
        for name in self._context.primaries.agents(primary.namespace):
            agent = self._context.primaries.get(("Agent", primary.namespace, name))
            if agent is None or agent.deleting or name == primary.name:
                continue
            content = agent.load()
            matches = labels is not None and labels.items() <= content["labels"].items()
            if name in names or matches:
                member = content["spec"]
                skills = tuple(sorted(skill["name"] for skill in member.get("skills") or ()))
                hibernates = (member.get("gateway") or {}).get("hibernation") is not None
                members.append(Member(name, member.get("role", ""), member.get("description", ""), skills, hibernates))
        return tuple(members)

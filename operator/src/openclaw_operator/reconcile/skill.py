"""Skill: read its files, check them, pack them, say who uses it."""

from __future__ import annotations

import re
from typing import Any

import jsonschema

from openclaw_operator.api.skill import SkillSpec
from openclaw_operator.cluster.references import Key as ReferenceKey
from openclaw_operator.errors import SpecError
from openclaw_operator.reconcile.agent import CONFLICT_RECHECK_SECONDS, applied_condition
from openclaw_operator.reconcile.children import Children, Outcome
from openclaw_operator.reconcile.context import Context
from openclaw_operator.reconcile.primaries import Primary
from openclaw_operator.reconcile.status import Condition
from openclaw_operator.resources import package
from openclaw_operator.resources.meta import Owner
from openclaw_operator.resources.package import Package

USERS_SHOWN = 10


class SkillReconciler:
    """Reconciles Skills."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def reconcile(self, primary: Primary) -> float | None:
        """Bring one Skill to its spec. Raises ApiError for a passing fault."""
        content = primary.load()
        owner = Owner("Skill", primary.name, primary.namespace, primary.uid)
        problem: SpecError | None = None
        packed: Package | None = None
        outcome = Outcome()
        try:
            spec = SkillSpec.model_validate(content["spec"])
            packed = await self._verified_package(primary, spec)
        except SpecError as error:
            problem = error
        else:
            outcome = await self._apply(owner, packed)
        await self._report(primary, content["status"], packed, problem, outcome)
        if outcome.refusal:
            raise outcome.refusal
        return CONFLICT_RECHECK_SECONDS if outcome.problem else None

    def gone(self, key: tuple[str, str, str]) -> None:
        """The Skill was deleted; its package goes with it."""
        self._context.references.expect(key, set())

    async def _verified_package(self, primary: Primary, spec: SkillSpec) -> Package:
        check_actions(spec)
        files = await self._files(primary, spec)
        if spec.entrypoint not in files:
            raise SpecError(
                "EntrypointNotFound",
                f"spec.entrypoint: {spec.entrypoint!r} is not among the files ({', '.join(sorted(files)[:10])}): "
                "add the file or correct the path",
            )
        packed = package.build(files)
        wanted = spec.signature.sha256.removeprefix("sha256:") if spec.signature else packed.hex
        if wanted != packed.hex:
            raise SpecError(
                "DigestMismatch",
                f"spec.signature.sha256: {wanted} was signed, but the files have {packed.hex}: "
                "restore the files, or sign these and set spec.signature.sha256 to their digest",
            )
        return packed

    async def _files(self, primary: Primary, spec: SkillSpec) -> dict[str, str]:
        references = self._context.references
        ref = spec.source.config_map_ref
        named: set[ReferenceKey] = {("ConfigMap", primary.namespace, ref.name)} if ref else set()
        references.expect(primary.key, named)
        if ref is None:
            return dict(spec.source.inline.files) if spec.source.inline else {}
        data = await references.config_map(primary.namespace, ref.name, primary.key)
        if data is None:
            raise SpecError(
                "SourceNotFound",
                f"spec.source.configMapRef.name: ConfigMap {ref.name!r} does not exist in namespace "
                f"{primary.namespace}: create it, with __ in its keys in place of each / of a path",
            )
        return package.unpack_keys(data)

    async def _apply(self, owner: Owner, packed: Package) -> Outcome:
        """Apply the package. The one before it stays for gateways that have not reloaded yet."""
        context = self._context
        desired = package.config_map(owner, packed)
        name = desired["metadata"]["name"]
        older = sorted(
            (live for live in context.children.owned_by(owner.uid) if live.kind == "ConfigMap" and live.name != name),
            key=lambda live: (live.created, int(live.resource_version)),
        )
        keep = [("ConfigMap", live.name) for live in older[-1:]]
        return await Children(context.client, context.children, owner).converge([desired], keep=keep)

    async def _report(
        self,
        primary: Primary,
        old: dict[str, Any],
        packed: Package | None,
        problem: SpecError | None,
        outcome: Outcome,
    ) -> None:
        usable = packed is not None and outcome.problem is None and outcome.refusal is None
        users = self._context.primaries.users(primary.key)
        fields: dict[str, Any] = {
            "digest": packed.digest if packed and usable else None,
            "packageConfigMap": package.config_map_name(primary.name, packed.digest) if packed and usable else None,
            "users": len(users),
            "usedBy": users[:USERS_SHOWN] or None,
        }
        verified = (
            Condition("Verified", False, problem.reason, problem.message)
            if problem
            else Condition("Verified", True, "Verified", "the files, the actions and the digest are in order")
        )
        applied = applied_condition(outcome)
        worst = next((part for part in (verified, applied) if not part.status), None)
        ready = (
            Condition("Ready", False, worst.reason, worst.message)
            if worst
            else Condition("Ready", True, "Ready", "agents can call it")
        )
        await self._context.report(primary, old, fields, [verified, applied, ready])


def check_actions(spec: SkillSpec) -> None:
    """Raise SpecError for an action's JSON Schema or a trigger's pattern that cannot be compiled."""
    for index, action in enumerate(spec.actions):
        for name, schema in (("inputSchema", action.input_schema), ("outputSchema", action.output_schema)):
            if schema is None:
                continue
            try:
                jsonschema.Draft202012Validator.check_schema(schema)
            except jsonschema.SchemaError as error:
                where = "".join(f".{part}" for part in error.absolute_path)
                raise SpecError(
                    "InvalidSchema",
                    f"spec.actions[{index}].{name}{where}: {error.message}: correct the JSON Schema of action "
                    f"{action.name!r}",
                ) from None
        kind = (action.input_schema or {}).get("type", "object")
        if kind != "object":
            raise SpecError(
                "InvalidSchema",
                f"spec.actions[{index}].inputSchema.type: {kind!r}: the input of an action is an object, use 'object'",
            )
    for index, trigger in enumerate(spec.triggers):
        if trigger.pattern is None:
            continue
        try:
            re.compile(trigger.pattern)
        except re.error as error:
            raise SpecError(
                "InvalidPattern",
                f"spec.triggers[{index}].pattern: {trigger.pattern!r} is no regular expression ({error}): correct it",
            ) from None

"""Skill: find its package, check it, keep it in the cluster, say who uses it."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

import jsonschema

from openclaw_operator.api.skill import SkillSpec
from openclaw_operator.errors import FetchError, SpecError
from openclaw_operator.fetch.guard import Guard
from openclaw_operator.reconcile.agent import CONFLICT_RECHECK_SECONDS
from openclaw_operator.reconcile.children import Children, Outcome, applied_condition
from openclaw_operator.reconcile.context import Context
from openclaw_operator.reconcile.downloads import PendingError
from openclaw_operator.reconcile.primaries import Primary
from openclaw_operator.reconcile.shortage import PoolState, sandbox_condition
from openclaw_operator.reconcile.source import Found, Sources
from openclaw_operator.reconcile.status import Condition
from openclaw_operator.resources import declared, package, schemas, triggers
from openclaw_operator.resources.meta import Owner
from openclaw_operator.resources.package import Package

USERS_SHOWN = 10
_SECRET = re.compile(r"\$\{([A-Z][A-Z0-9_]*)\}")
POOLS_SHOWN = 10


class SkillReconciler:
    """Reconciles Skills. `guard` says what may be fetched from, None nothing; `jitter` in 0..1 spreads retries."""

    def __init__(self, context: Context, guard: Guard | None, jitter: Callable[[], float]) -> None:
        self._context = context
        self._reported: dict[tuple[str, str, str], dict[str, PoolState]] = {}
        self._sources = Sources(context, guard, jitter)

    async def reconcile(self, primary: Primary) -> float | None:
        """Bring one Skill to its spec. Raises ApiError for a passing fault."""
        content = primary.load()
        owner = Owner("Skill", primary.name, primary.namespace, primary.uid)
        problem: SpecError | None = None
        found: Found | None = None
        outcome = Outcome()
        try:
            found = await self._verified(primary, owner, SkillSpec.model_validate(content["spec"]), content["status"])
        except PendingError:
            await self._report_pending(primary, content["status"], None)
            return None
        except SpecError as error:
            if isinstance(error, FetchError) and error.passing and content["status"].get("digest"):
                await self._report_pending(primary, content["status"], error)
                return self._sources.due_in(primary.key)
            problem = error
        else:
            outcome = await self._apply(owner, found.package)
        await self._report(primary, content["status"], found, problem, outcome)
        if outcome.refusal:
            raise outcome.refusal
        if found and not outcome.problem:
            self._sources.done(primary.key)
        return CONFLICT_RECHECK_SECONDS if outcome.problem else self._sources.due_in(primary.key)

    def gone(self, key: tuple[str, str, str]) -> None:
        """The Skill was deleted; its package goes with it."""
        self._reported.pop(key, None)
        self._context.references.expect(key, set())
        self._sources.gone(key)

    async def _verified(self, primary: Primary, owner: Owner, spec: SkillSpec, status: dict[str, Any]) -> Found:
        check_actions(spec)
        check_mcp(spec)
        found = await self._sources.find(primary, owner, spec, status)
        entrypoint = spec.main_file if spec.actions else "SKILL.md"
        if entrypoint is not None and entrypoint not in found.files and spec.mcp is None:
            raise SpecError(
                "EntrypointNotFound",
                f"spec.entrypoint: {entrypoint!r} is not among the files ({', '.join(sorted(found.files)[:10])}): "
                "add the file or correct the path"
                if spec.actions
                else "spec.actions: none, and there is no SKILL.md either: add actions, or the file with instructions",
            )
        if spec.mcp is None and spec.runtime == "python" and entrypoint is not None and entrypoint.endswith(".py"):
            problem = await asyncio.to_thread(schemas.syntax_error, entrypoint, found.files[entrypoint].data)
            if problem:
                raise SpecError("SyntaxError", f"spec.entrypoint: {problem}: correct the file")
        wanted = spec.signature.sha256.removeprefix("sha256:") if spec.signature and spec.signature.sha256 else None
        if wanted not in (None, found.package.hex):
            raise SpecError(
                "DigestMismatch",
                f"spec.signature.sha256: {wanted} was signed, but the files have {found.package.hex}: "
                "restore the files, or sign these and set spec.signature.sha256 to their digest",
            )
        if spec.source and spec.source.remote:
            await asyncio.to_thread(declared.check, spec, found.files)
        return found

    async def _apply(self, owner: Owner, packed: Package) -> Outcome:
        """Apply the package. The one before it stays for gateways that have not reloaded yet."""
        context = self._context
        desired = [package.config_map(owner, packed)] if packed.archive else []
        names = {item["metadata"]["name"] for item in desired}
        older = sorted(
            (
                live
                for live in context.children.owned_by(owner.uid)
                if live.kind == "ConfigMap" and live.name not in names
            ),
            key=lambda live: (live.created, int(live.resource_version)),
        )
        keep = [("ConfigMap", live.name) for live in older[-1:]]
        return await Children(context.client, context.children, owner).converge(desired, keep=keep)

    async def _report_pending(self, primary: Primary, old: dict[str, Any], failed: FetchError | None) -> None:
        """While the package is fetched for the first time, or again after it `failed` for what may pass.

        Agents keep the version they have: to them the new spec is not there until observedGeneration says so.
        """
        kept = {key: old.get(key) for key in ("digest", "packageConfigMap", "fetched", "users", "usedBy")}
        status, reason, text = (
            (False, failed.reason, failed.message) if failed else (None, "Fetching", "the package is being fetched")
        )
        conditions = [Condition(name, status, reason, text) for name in ("Verified", "Ready")]
        observed = old.get("observedGeneration") if old.get("digest") else None
        await self._context.report(primary, old, kept, conditions, observed=observed)

    async def _report(
        self,
        primary: Primary,
        old: dict[str, Any],
        found: Found | None,
        problem: SpecError | None,
        outcome: Outcome,
    ) -> None:
        packed = found.package if found and outcome.problem is None and outcome.refusal is None else None
        users = self._context.primaries.users(primary.key)
        fetched = old.get("fetched")
        if found:
            # As text: a merge patch could not keep a null in a schema.
            kept = {name: value for name, value in primary.load()["spec"].items() if name != "source"}
            fetched = {**found.fetched, "spec": json.dumps(kept, sort_keys=True)} if found.fetched else None
        fields: dict[str, Any] = {
            "digest": packed.digest if packed else None,
            "packageConfigMap": package.config_map_name(primary.name, packed.digest)
            if packed and packed.archive
            else None,
            "fetched": fetched,
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
        states = self._pools(primary, bool(users))
        # What was reported once stays: another operator's view of the same pods is no reason to write.
        told = states is None or states == self._reported.get(primary.key)
        fields["pools"] = old.get("pools") if told or states is None else _pool_statuses(states)
        sandbox = sandbox_condition(
            None if states is None else {f"pool {name}": state for name, state in states.items()}, old
        )
        if worst is None and not sandbox.status and not any(state.available for state in (states or {}).values()):
            worst = sandbox
        ready = (
            Condition("Ready", False, worst.reason, worst.message)
            if worst
            else Condition("Ready", True, "Ready", "agents can call it")
        )
        conditions = [verified, *_yanked(found), applied, sandbox, ready]
        await self._context.report(primary, old, fields, conditions)
        if states is not None:
            self._reported[primary.key] = states

    def _pools(self, primary: Primary, used: bool) -> dict[str, PoolState] | None:
        """The pools the skill runs in; None while they are not known."""
        if not used:
            return {}
        board = self._context.board
        return board.of_skill(primary.namespace, primary.name) if board.knows(primary.namespace) else None


def _pool_statuses(states: Mapping[str, PoolState]) -> list[dict[str, Any]] | None:
    """The pools as the status has them: what is short comes first."""
    order = sorted(states.items(), key=lambda item: (item[1].shortage is None, item[0]))
    return [state.status(name) for name, state in order[:POOLS_SHOWN]] or None


def _yanked(found: Found | None) -> list[Condition]:
    """A warning: what is pinned keeps working."""
    reason = (found.fetched or {}).get("yanked") if found else None
    if reason is None:
        return []
    text = f"the publisher withdrew this version ({reason}): move spec.source.oci.reference and spec.version to another"
    return [Condition("Yanked", True, "Yanked", text)]


def check_actions(spec: SkillSpec) -> None:
    """Raise SpecError for an action's JSON Schema that cannot be compiled, or a trigger that could start nothing."""
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
            except RecursionError:
                raise SpecError(
                    "InvalidSchema",
                    f"spec.actions[{index}].{name}: nested too deeply: the JSON Schema of action {action.name!r} "
                    "cannot be checked; flatten it",
                ) from None
            if problem := schemas.unusable(schema):
                raise SpecError("InvalidSchema", f"spec.actions[{index}].{name}{problem}")
        kind = (action.input_schema or {}).get("type", "object")
        if kind != "object":
            raise SpecError(
                "InvalidSchema",
                f"spec.actions[{index}].inputSchema.type: {kind!r}: the input of an action is an object, use 'object'",
            )
    triggers.check(spec)


def check_mcp(spec: SkillSpec) -> None:
    """Raise SpecError for a secret that an MCP server's environment or headers name and the Skill has not."""
    if spec.mcp is None:
        return
    known = {secret.name for secret in spec.secrets}
    for field, values in (("env", spec.mcp.env), ("headers", spec.mcp.headers)):
        for name, value in (values or {}).items():
            missing = sorted(set(_SECRET.findall(value)) - known)
            if missing:
                raise SpecError(
                    "UnknownSecret",
                    f"spec.mcp.{field}.{name}: refers to secret {missing[0]}, which spec.secrets does not have: add it "
                    "there, or correct the name",
                )

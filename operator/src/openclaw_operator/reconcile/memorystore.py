"""MemoryStore: credentials once, servers, backup, and what they report."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from openclaw_operator.api.memorystore import MemoryStoreSpec
from openclaw_operator.cluster.references import Key as ReferenceKey
from openclaw_operator.errors import SpecError
from openclaw_operator.reconcile.agent import CONFLICT_RECHECK_SECONDS
from openclaw_operator.reconcile.children import Children, Outcome, applied_condition
from openclaw_operator.reconcile.context import Context
from openclaw_operator.reconcile.primaries import Primary
from openclaw_operator.reconcile.required import require_secret
from openclaw_operator.reconcile.status import Condition
from openclaw_operator.resources import backup, stores
from openclaw_operator.resources import memorystore as builders
from openclaw_operator.resources.meta import Owner

PASSWORD_BYTES = 24
_KEYS = (stores.QDRANT_KEY, stores.POSTGRESQL_KEY, stores.REDIS_KEY)


class MemoryStoreReconciler:
    """Reconciles MemoryStores."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def reconcile(self, primary: Primary) -> float | None:
        """Bring one MemoryStore to its spec. Raises ApiError for a passing fault."""
        content = primary.load()
        spec = MemoryStoreSpec.model_validate(content["spec"])
        owner = Owner("MemoryStore", primary.name, primary.namespace, primary.uid)
        problem: SpecError | None = None
        outcome = Outcome()
        try:
            await self._require_secrets(primary, spec)
        except SpecError as error:
            problem = error
        else:
            outcome = await self._apply(owner, spec)
        await self._report(primary, content["status"], spec, problem, outcome)
        if outcome.refusal:
            raise outcome.refusal
        if outcome.problem and outcome.problem.reason == "OwnershipConflict":
            return CONFLICT_RECHECK_SECONDS
        return None

    def gone(self, key: tuple[str, str, str]) -> None:
        """The MemoryStore was deleted; its servers go with it, its volumes as deletionPolicy says."""
        self._context.references.expect(key, set())
        self._observe_backup(key[1], key[2], None)

    async def _require_secrets(self, primary: Primary, spec: MemoryStoreSpec) -> None:
        named: set[ReferenceKey] = set()
        try:
            for path, ref in stores.user_secrets(spec).items():
                await require_secret(self._context, primary, f"{path}.secretKeyRef", ref, named)
        finally:
            self._context.references.expect(primary.key, named)

    async def _apply(self, owner: Owner, spec: MemoryStoreSpec) -> Outcome:
        context = self._context
        children = Children(context.client, context.children, owner)
        name = stores.credentials_secret(owner.name)
        try:
            # Volumes that are kept are worth nothing without their passwords.
            owned = spec.deletion_policy == "Delete"
            await children.ensure_secret(name, "memory", _KEYS, self._new_password, owned=owned)
        except SpecError as problem:
            return Outcome(problem=problem)
        users = self._users(owner) if spec.backup else {}
        # What is half restored would make a backup that looks good.
        held = context.primaries.restoring(owner.namespace, owner.name) is not None
        desired = builders.build(owner, spec, context.images, users, held=held)
        return await children.converge(desired, keep=[("Secret", name)])

    def _users(self, owner: Owner) -> dict[str, Any]:
        """The specs of the Agents that use it."""
        primaries = self._context.primaries
        names = primaries.users(("MemoryStore", owner.namespace, owner.name))
        agents = {name: primaries.get(("Agent", owner.namespace, name)) for name in names}
        return {name: agent.load()["spec"] for name, agent in agents.items() if agent and not agent.deleting}

    def _new_password(self) -> bytes:
        return base64.urlsafe_b64encode(self._context.random_bytes(PASSWORD_BYTES)).rstrip(b"=")

    async def _report(
        self,
        primary: Primary,
        old: dict[str, Any],
        spec: MemoryStoreSpec,
        problem: SpecError | None,
        outcome: Outcome,
    ) -> None:
        name = primary.name
        servers = {
            "qdrant": spec.vector.qdrant.managed is not None,
            "postgresql": spec.records.postgresql.managed is not None,
            "redis": spec.cache.redis.managed is not None,
        }
        waiting: list[str] = []
        qdrant_ready: str | None = None
        for server, managed in servers.items():
            if not managed:
                continue
            live = self._context.children.get("StatefulSet", primary.namespace, f"{name}-{server}")
            facts = live.facts if live and live.owner and live.owner.uid == primary.uid else None
            ready, wanted = (facts["ready"], facts["wanted"]) if facts else (0, 1)
            if server == "qdrant":
                qdrant_ready = f"{ready}/{wanted}"
            if facts is None or ready < wanted or not facts["current"]:
                waiting.append(f"{server} {ready}/{wanted}")
        fields: dict[str, Any] = {
            "endpoints": {
                "qdrant": stores.qdrant_url(name, spec),
                "postgresql": stores.postgresql_url(name, spec).split("@", 1)[1].split("/", 1)[0],
                "redis": stores.redis_url(name, spec).split("//", 1)[1].split("/", 1)[0],
            },
            "credentialsSecret": stores.credentials_secret(name),
            "qdrantReady": qdrant_ready,
            "users": len(self._context.primaries.users(primary.key)),
        }
        cron_job = self._context.children.get("CronJob", primary.namespace, f"{name}-{backup.SERVER}")
        self._observe_backup(primary.namespace, name, cron_job.facts if cron_job else None)
        await self._context.report(primary, old, fields, _conditions(problem, outcome, waiting))

    def _observe_backup(self, namespace: str, name: str, facts: Mapping[str, Any] | None) -> None:
        metrics = self._context.metrics
        failed, succeeded = backup_state(facts)
        for gauge, value in ((metrics.backup_failed, failed), (metrics.backup_success, succeeded)):
            if value is None:
                gauge.remove(namespace, name)
            else:
                gauge.labels(namespace, name).set(value)


def backup_state(facts: Mapping[str, Any] | None) -> tuple[bool | None, float | None]:
    """Whether the last scheduled backup failed, and the Unix time of the last good one; None where there is none.

    `facts` are those of the CronJob. One that is suspended is not expected to do anything.
    """
    if facts is None or facts["suspended"]:
        return None, None
    scheduled, succeeded = facts["scheduled"], facts["succeeded"]
    if scheduled is None:
        return None, succeeded
    return not facts["running"] and (succeeded is None or succeeded < scheduled), succeeded


def _conditions(problem: SpecError | None, outcome: Outcome, waiting: list[str]) -> list[Condition]:
    resolved = (
        Condition("ReferencesResolved", False, problem.reason, problem.message)
        if problem
        else Condition("ReferencesResolved", True, "Resolved", "everything the spec names was found")
    )
    available = (
        Condition("Available", False, "Progressing", f"waiting for servers to be ready: {', '.join(waiting)}")
        if waiting
        else Condition("Available", True, "Available", "every managed server is ready")
    )
    parts = [resolved, applied_condition(outcome), available]
    worst = next((part for part in parts if part.status is not True), None)
    ready = (
        Condition("Ready", False, worst.reason, worst.message)
        if worst
        else Condition("Ready", True, "Ready", "agents can use it")
    )
    return [*parts, ready]

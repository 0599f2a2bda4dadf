"""MemoryStore: credentials once, servers, backup, and what they report."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from operator import attrgetter
from typing import Any

from openclaw_operator.api.memorystore import MemoryStoreSpec
from openclaw_operator.cluster.references import Key as ReferenceKey
from openclaw_operator.errors import SpecError, TerminatingError
from openclaw_operator.reconcile import drill as drills
from openclaw_operator.reconcile import jobs, lastbackup
from openclaw_operator.reconcile.agent import CONFLICT_RECHECK_SECONDS
from openclaw_operator.reconcile.children import Children, Outcome, applied_condition
from openclaw_operator.reconcile.context import Context
from openclaw_operator.reconcile.lastbackup import LastBackup
from openclaw_operator.reconcile.primaries import Primary
from openclaw_operator.reconcile.queue import soonest
from openclaw_operator.reconcile.required import require_secret
from openclaw_operator.reconcile.stalls import Cause, Workload
from openclaw_operator.reconcile.status import Condition, told_condition
from openclaw_operator.resources import backup, drill, servers, stores
from openclaw_operator.resources import memorystore as builders
from openclaw_operator.resources.meta import Owner

PASSWORD_BYTES = 24
# The finalizer of a deletion in the foreground, as tools for GitOps ask for it.
FOREGROUND = "foregroundDeletion"
_NO_SERVER = {"ready": 0, "wanted": 1, "current": False}
FAILING = "ServersFailing"
# Each managed server, and where the spec says what it is.
_SERVERS = {
    "qdrant": "spec.vector.qdrant.managed",
    "postgresql": "spec.records.postgresql.managed",
    "redis": "spec.cache.redis.managed",
}
_KEYS = (stores.QDRANT_KEY, stores.POSTGRESQL_KEY, stores.REDIS_KEY)


class MemoryStoreReconciler:
    """Reconciles MemoryStores."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._last = LastBackup(context)

    async def reconcile(self, primary: Primary) -> float | None:
        """Bring one MemoryStore to its spec. Raises ApiError for a passing fault."""
        content = primary.load()
        spec = MemoryStoreSpec.model_validate(content["spec"])
        owner = Owner("MemoryStore", primary.name, primary.namespace, primary.uid)
        if primary.deleting:
            try:
                return await self._let_go(primary, owner, spec, content["status"])
            except TerminatingError:
                await self._go_with_namespace(primary, spec)
                return None
        await lastbackup.hold(self._context, primary, held=spec.deletion_policy == "Snapshot")
        problem = await self._missing(primary, spec)
        outcome = Outcome() if problem else await self._apply(owner, spec)
        return _after(outcome, await self._report(primary, content["status"], spec, problem, outcome))

    async def _let_go(self, primary: Primary, owner: Owner, spec: MemoryStoreSpec, old: dict[str, Any]) -> float | None:
        """It is being deleted, and held: take the next step to what its policy wants, in the end the finalizer away.

        Raises TerminatingError where its namespace goes as well, ApiError for a passing fault.
        """
        if FOREGROUND in primary.finalizers:
            # The garbage collector deletes its children first. Volumes stay, and servers come back when it is done.
            return None
        context, last = self._context, self._last
        saved = spec.deletion_policy == "Snapshot" and last.made(owner)
        pending = spec.deletion_policy == "Snapshot" and not saved
        problem = await self._missing(primary, spec) if pending else None
        outcome = Outcome() if problem else await self._apply(owner, spec, held=True, saved=saved)
        failed = problem or outcome.problem or outcome.refusal
        waiting, behind = self._servers(primary, spec)
        if pending:
            if isinstance(outcome.refusal, TerminatingError):
                raise outcome.refusal
            condition, again = lastbackup.blocked(), None
            if not failed:
                condition, again = await last.make(owner, spec, _counts(waiting))
            later = await self._report(primary, old, spec, problem, outcome, condition)
            return _after(outcome, soonest(again, later))
        if builders.volumes(spec, saved=saved) == "Delete" and behind and not failed:
            # The controller of StatefulSets tells once it has noted on the claims that they go, too.
            return None
        kept = f"stay, since {failed.message}" if failed else "are deleted"
        message = f"{await last.what(owner)} was made; volumes {kept}" if saved else None
        await lastbackup.hold(context, primary, held=False)
        # Told once it is done, and so only once.
        if message:
            await context.recorder.tell(primary, "LastBackupMade", message)
        return None

    async def _go_with_namespace(self, primary: Primary, spec: MemoryStoreSpec) -> None:
        """Nothing can be made there any more, and all that was there goes: to hold it would serve nobody."""
        await lastbackup.hold(self._context, primary, held=False)
        if spec.deletion_policy == "Snapshot":
            message = f"MemoryStore {primary.name} went without a last backup: no Job can run in a namespace that goes"
            await self._context.recorder.namespace_goes(primary, "NoLastBackup", message)

    def gone(self, key: tuple[str, str, str]) -> None:
        """The MemoryStore was deleted; its servers go with it, its volumes as deletionPolicy says."""
        self._context.references.expect(key, set())
        self._observe_backup(key[1], key[2], None, None)
        for server in _SERVERS:
            self._context.stalls.over("StatefulSet", key[1], f"{key[2]}-{server}")

    async def _missing(self, primary: Primary, spec: MemoryStoreSpec) -> SpecError | None:
        """What it names and is not there."""
        try:
            await self._require_secrets(primary, spec)
        except SpecError as problem:
            return problem
        return None

    async def _require_secrets(self, primary: Primary, spec: MemoryStoreSpec) -> None:
        named: set[ReferenceKey] = set()
        try:
            for path, ref in stores.user_secrets(spec).items():
                await require_secret(self._context, primary, f"{path}.secretKeyRef", ref, named)
        finally:
            self._context.references.expect(primary.key, named)

    async def _apply(self, owner: Owner, spec: MemoryStoreSpec, *, held: bool = False, saved: bool = False) -> Outcome:
        context = self._context
        children = Children(context.client, context.children, owner)
        name = stores.credentials_secret(owner.name)
        try:
            # Volumes that are kept are worth nothing without their passwords.
            owned = builders.volumes(spec, saved=saved) == "Delete"
            await children.ensure_secret(name, "memory", _KEYS, self._new_password, owned=owned)
        except SpecError as problem:
            return Outcome(problem=problem)
        users = self._users(owner) if spec.backup else {}
        # What is half restored would make a backup that looks good.
        held = held or context.primaries.restoring(owner.namespace, owner.name) is not None
        desired = builders.build(owner, spec, context.images, users, held=held, saved=saved)
        return await children.converge(desired, keep=[("Secret", name), ("Job", owner.child(backup.LAST))])

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
        last: Condition | None = None,
    ) -> float | None:
        """Write the status. Returns when to look again whether servers get ready, None once they are."""
        name = primary.name
        facts = self._facts(primary, "qdrant") if spec.vector.qdrant.managed else None
        waiting, _ = self._servers(primary, spec)
        fields: dict[str, Any] = {
            "endpoints": {
                "qdrant": stores.qdrant_url(name, spec),
                "postgresql": stores.postgresql_url(name, spec).split("@", 1)[1].split("/", 1)[0],
                "redis": stores.redis_url(name, spec).split("//", 1)[1].split("/", 1)[0],
            },
            "credentialsSecret": stores.credentials_secret(name),
            "qdrantReady": f"{facts['ready']}/{facts['wanted']}" if facts else None,
            "users": len(self._context.primaries.users(primary.key)),
        }
        runs = {part: self._runs(primary, part) for part in (backup.SERVER, drill.SERVER)}
        self._observe_backup(primary.namespace, name, runs[backup.SERVER], runs[drill.SERVER])
        owner = Owner("MemoryStore", name, primary.namespace, primary.uid)
        fields["lastDrill"], proven = await drills.judge(self._context, owner, spec, runs[drill.SERVER], old)
        unready, again = await self._unready(primary, waiting, old)
        await self._context.report(primary, old, fields, _conditions(problem, outcome, unready, last, proven))
        before = [(each["type"], each["reason"]) for each in old.get("conditions") or ()]
        if proven and proven.status is not None and (proven.type, proven.reason) not in before:
            reason = proven.type if proven.status else proven.reason
            await self._context.recorder.tell(primary, reason, proven.message, warning=not proven.status)
        return again

    async def _unready(
        self, primary: Primary, waiting: Mapping[str, str], old: dict[str, Any]
    ) -> tuple[Condition | None, float | None]:
        """The condition Available while servers are not ready, and when to look again; None once all of them are."""
        context, owner = self._context, Owner("MemoryStore", primary.name, primary.namespace, primary.uid)
        causes, pauses, known = list[Cause](), list[float](), True
        for server, path in _SERVERS.items():
            live = context.children.get("StatefulSet", primary.namespace, owner.child(server))
            if live is None or server not in waiting:
                context.stalls.over("StatefulSet", primary.namespace, owner.child(server))
                continue
            workload = Workload(
                what=server,
                selector=servers.selector(owner, server),
                image=f"{path}.image, or images.{server} of the operator's chart",
                resources=f"{path}.resources",
            )
            look, pause = await context.stalls.look(live, workload)
            pauses.append(pause)
            known = known and look.known
            causes += [look.cause] if look.cause else []
        if not waiting:
            return None, None
        again = min(pauses, default=None)
        message = f"waiting for servers to be ready: {_counts(waiting)}"
        told = told_condition(old, "Available")
        if not known and told and told["message"].startswith(f"{message}; "):
            # Told before the operator started anew.
            return Condition("Available", False, told["reason"], told["message"]), again
        message = "; ".join([message, *(cause.message for cause in causes)])
        reason = "Progressing" if all(cause.passing for cause in causes) else FAILING
        return Condition("Available", False, reason, message), again

    def _runs(self, primary: Primary, part: str) -> Mapping[str, Any] | None:
        """What is known of a CronJob."""
        cron_job = self._context.children.get("CronJob", primary.namespace, f"{primary.name}-{part}")
        return cron_job.facts if cron_job else None

    def _servers(self, primary: Primary, spec: MemoryStoreSpec) -> tuple[dict[str, str], bool]:
        """The managed servers that wait for pods and how many are ready, and whether the controller of one has not seen
        its last change."""
        managed = (server for server, path in _SERVERS.items() if attrgetter(path.removeprefix("spec."))(spec))
        found = {server: self._facts(primary, server) for server in managed}
        waiting = {
            server: f"{facts['ready']}/{facts['wanted']}"
            for server, facts in found.items()
            if facts["ready"] < facts["wanted"] or not facts["current"]
        }
        return waiting, not all(facts["current"] for facts in found.values())

    def _facts(self, primary: Primary, server: str) -> Mapping[str, Any]:
        live = self._context.children.get("StatefulSet", primary.namespace, f"{primary.name}-{server}")
        return live.facts if live and live.owner and live.owner.uid == primary.uid else _NO_SERVER

    def _observe_backup(
        self, namespace: str, name: str, runs: Mapping[str, Any] | None, drill_runs: Mapping[str, Any] | None
    ) -> None:
        metrics = self._context.metrics
        failed, succeeded = jobs.run_state(runs)
        not_proven, proven = jobs.run_state(drill_runs)
        for gauge, value in (
            (metrics.backup_failed, failed),
            (metrics.backup_success, succeeded),
            (metrics.drill_failed, not_proven),
            (metrics.drill_success, proven),
        ):
            if value is None:
                gauge.remove(namespace, name)
            else:
                gauge.labels(namespace, name).set(value)


def _counts(waiting: Mapping[str, str]) -> str:
    return ", ".join(f"{server} {count}" for server, count in waiting.items())


def _after(outcome: Outcome, again: float | None = None) -> float | None:
    """When to look again. Raises the refusal, which is worth another try."""
    if outcome.refusal:
        raise outcome.refusal
    if outcome.problem and outcome.problem.reason == "OwnershipConflict":
        return CONFLICT_RECHECK_SECONDS
    return again


def _conditions(
    problem: SpecError | None,
    outcome: Outcome,
    unready: Condition | None,
    last: Condition | None,
    proven: Condition | None,
) -> list[Condition]:
    resolved = (
        Condition("ReferencesResolved", False, problem.reason, problem.message)
        if problem
        else Condition("ReferencesResolved", True, "Resolved", "everything the spec names was found")
    )
    available = unready or Condition("Available", True, "Available", "every managed server is ready")
    applied = applied_condition(outcome)
    parts = [resolved, applied, available, *(each for each in (proven, last) if each)]
    # One that is to go waits for its last backup, whatever else it waits for.
    worst = next((part for part in (resolved, applied, last or available) if part.status is not True), None)
    ready = (
        Condition("Ready", False, worst.reason, worst.message)
        if worst
        else Condition("Ready", True, "Ready", "agents can use it")
    )
    return [*parts, ready]

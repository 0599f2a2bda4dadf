"""MemoryRestore: stop the agents, run the Job, let them start again. Each step is in the status before it is taken.

Pending → Pausing → Restoring → Resuming → Succeeded, or Failed. An operator that starts anew reads the phase and goes
on from there. There is one Job with a name that is known beforehand, and its uid is noted: once it was seen it is never
made again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from openclaw_operator.api.backup import BackupDestination
from openclaw_operator.api.base import KeyRef
from openclaw_operator.api.memoryrestore import MemoryRestoreSpec
from openclaw_operator.api.memorystore import MemoryStoreSpec
from openclaw_operator.cluster.kinds import BY_NAME
from openclaw_operator.cluster.live import Live
from openclaw_operator.cluster.references import Key as ReferenceKey
from openclaw_operator.errors import (
    ForbiddenError,
    NotFoundError,
    OwnershipConflictError,
    SpecError,
)
from openclaw_operator.reconcile import jobs, pause
from openclaw_operator.reconcile.children import Children
from openclaw_operator.reconcile.context import Context
from openclaw_operator.reconcile.pods import newest_first
from openclaw_operator.reconcile.primaries import Primary
from openclaw_operator.reconcile.required import require_secret
from openclaw_operator.reconcile.status import MEANT_TO_STOP, Condition
from openclaw_operator.resources import backup, restore
from openclaw_operator.resources.inputs import Store
from openclaw_operator.resources.meta import MANAGED_BY, OPERATOR, Owner

# What is waited for is other resources' business: nothing tells this one.
LOOK_AGAIN_SECONDS = 2.0
# What somebody has to put right takes longer.
PROBLEM_SECONDS = 15.0
DONE = frozenset({"Succeeded", "Failed"})
_S3_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")


@dataclass
class _Step:
    """Where a restore is now: the phase, the Ready condition, and fields of the status that change."""

    phase: str
    reason: str
    message: str
    fields: dict[str, Any] = field(default_factory=dict)
    again: float | None = LOOK_AGAIN_SECONDS


class MemoryRestoreReconciler:
    """Reconciles MemoryRestores."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def reconcile(self, primary: Primary) -> float | None:
        """Take the next step of one restore. Raises ApiError for a passing fault."""
        content = primary.load()
        old = content["status"]
        phase = old.get("phase", "Pending")
        if phase in DONE:
            return None
        spec = MemoryRestoreSpec.model_validate(content["spec"])
        owner = Owner("MemoryRestore", primary.name, primary.namespace, primary.uid)
        try:
            step = await self._step(phase, primary, owner, spec, old)
        except SpecError as problem:
            # Nothing was changed before Restoring; from then on, it cannot be made good.
            failed = phase == "Restoring"
            step = _Step("Failed" if failed else phase, problem.reason, problem.message, again=PROBLEM_SECONDS)
        if step.phase == "Pending" and self._context.primaries.forget_restore(primary.key):
            # It was to begin before, and its status did not get through.
            pause.wake(self._context, primary.namespace, spec.store_ref.name)
        if step.phase in DONE:
            step.fields["completedAt"] = self._context.timestamp()
            step.again = None
        await self._report(primary, old, step)
        if step.phase != phase:
            pause.wake(self._context, primary.namespace, spec.store_ref.name)
            return None if step.phase in DONE else 0.0
        return step.again

    def gone(self, key: tuple[str, str, str]) -> None:
        """The MemoryRestore was deleted; its Job goes with it, and whom it stopped is woken."""
        self._context.references.expect(key, set())

    async def _step(
        self, phase: str, primary: Primary, owner: Owner, spec: MemoryRestoreSpec, old: dict[str, Any]
    ) -> _Step:
        if phase == "Pending":
            return await self._begin(primary, owner, spec)
        if phase == "Pausing":
            return await self._pause(owner, spec)
        if phase == "Restoring":
            return await self._restore(owner, spec, old)
        return self._resume(owner, spec, old)

    async def _begin(self, primary: Primary, owner: Owner, spec: MemoryRestoreSpec) -> _Step:
        """Everything that can be known to be wrong is, before an agent is stopped. Raises SpecError."""
        store = self._store(owner, spec)
        await self._require_credentials(primary, spec, store)
        await self._require_claim(owner, restore.source(spec, store))
        running = self._context.primaries.restoring(owner.namespace, store.name)
        if running not in (None, owner.name):
            return _Step("Pending", "Progressing", f"waiting for MemoryRestore {running} of the same store")
        known = self._context.primaries.get(("MemoryStore", owner.namespace, store.name))
        if known is None or known.ready != "True":
            return _Step("Pending", "Progressing", f"waiting for MemoryStore {store.name} to be ready")
        await self._require_free_name(owner)
        # Said before the status is written, so that no second restore begins meanwhile.
        self._context.primaries.begin_restore(primary.key, store.name)
        started = {"startedAt": self._context.timestamp()}
        return _Step("Pausing", "Progressing", "stopping the agents that use the store", started)

    async def _pause(self, owner: Owner, spec: MemoryRestoreSpec) -> _Step:
        self._store(owner, spec)
        busy = await self._still_running(owner.namespace, spec.store_ref.name)
        if busy:
            return _Step("Pausing", "Progressing", f"waiting for {', '.join(busy)} to end")
        return _Step("Restoring", "Progressing", "nothing uses the store; the restore begins")

    async def _restore(self, owner: Owner, spec: MemoryRestoreSpec, old: dict[str, Any]) -> _Step:
        context, name = self._context, owner.child(restore.SUFFIX)
        live = context.children.get("Job", owner.namespace, name)
        if live is None and not old.get("jobUID"):
            try:
                live = await self._create(owner, spec)
            except ForbiddenError as refusal:
                return _Step("Restoring", "Refused", refusal.message, again=jobs.REFUSED_SECONDS)
        if live and (live.owner is None or live.owner.uid != owner.uid):
            raise OwnershipConflictError("Job", name)
        if live is None:
            raise SpecError(
                "JobDeleted", f"Job {name} was deleted while it ran: the store may be half restored; restore it anew"
            )
        noted = {"jobUID": live.uid}
        if live.facts["complete"]:
            said = await jobs.summary(context.client, owner.namespace, jobs.of(name), "vectors")
            made = {"backup": said["backup"]} if "backup" in said else {}
            return _Step("Resuming", "Progressing", "restored; agents start again", {**noted, **made})
        if live.facts["failed"]:
            cause = await jobs.cause(context.client, owner.namespace, jobs.of(name)) or live.facts["failed"]
            return _Step("Failed", "RestoreFailed", f"{cause}; correct it and make a new MemoryRestore", noted)
        message = jobs.running(name, await jobs.stuck(context.client, owner.namespace, name))
        return _Step("Restoring", "Progressing", message, noted, jobs.JOB_SECONDS)

    def _resume(self, owner: Owner, spec: MemoryRestoreSpec, old: dict[str, Any]) -> _Step:
        waiting = [
            name
            for name in self._context.primaries.users(("MemoryStore", owner.namespace, spec.store_ref.name))
            if not self._answers(owner.namespace, name)
        ]
        if waiting:
            return _Step("Resuming", "Progressing", f"restored; waiting for agents to start: {', '.join(waiting)}")
        what = f"backup {old['backup']}" if old.get("backup") else "the backup"
        return _Step("Succeeded", "Restored", f"{what} was restored")

    def _answers(self, namespace: str, name: str) -> bool:
        """Whether an agent is available again, or cannot be for another reason than the restore."""
        agent = self._context.primaries.get(("Agent", namespace, name))
        if agent is None or agent.deleting:
            return True
        found = {each["type"]: each for each in agent.load()["status"].get("conditions") or ()}
        available, resolved = found.get("Available", {}), found.get("ReferencesResolved", {})
        started = available.get("status") == "True" or available.get("reason") in MEANT_TO_STOP
        return started or resolved.get("status") == "False"

    async def _still_running(self, namespace: str, store: str) -> list[str]:
        """Gateways and backups that may still read or write."""
        context = self._context
        agents = context.primaries.users(("MemoryStore", namespace, store))
        busy = []
        for name in agents:
            live = context.children.get("Deployment", namespace, f"{name}-gateway")
            runs = live and (live.facts["wanted"] or live.facts["replicas"] or not live.facts["current"])
            if runs or (live is None and self._is_new(namespace, name)):
                busy.append(f"agent {name}")
        cron_job = context.children.get("CronJob", namespace, f"{store}-{backup.SERVER}")
        if cron_job and (cron_job.facts["running"] or not cron_job.facts["suspended"]):
            busy.append("its backup")
        if not busy:
            # A Deployment no longer counts pods that drain their last turns.
            selector = f"{MANAGED_BY}={OPERATOR},app.kubernetes.io/name=gateway"
            busy += [
                f"pod {pod['metadata']['name']}"
                for pod in await newest_first(context.client, namespace, selector)
                if (pod["metadata"].get("labels") or {}).get("openclaw.io/agent") in agents
                and (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed")
            ]
        return busy

    def _is_new(self, namespace: str, name: str) -> bool:
        """Whether an agent has told nothing of itself yet: its pods may be made just now."""
        agent = self._context.primaries.get(("Agent", namespace, name))
        return agent is not None and not agent.deleting and not agent.load()["status"].get("conditions")

    def _store(self, owner: Owner, spec: MemoryRestoreSpec) -> Store:
        name = spec.store_ref.name
        known = self._context.primaries.get(("MemoryStore", owner.namespace, name))
        if known is None or known.deleting:
            raise SpecError(
                "MemoryStoreNotFound",
                f"spec.storeRef.name: MemoryStore {name!r} does not exist in namespace {owner.namespace}: create it "
                "or make a MemoryRestore that names another",
            )
        return Store(name, MemoryStoreSpec.model_validate(known.load()["spec"]))

    async def _require_credentials(self, primary: Primary, spec: MemoryRestoreSpec, store: Store) -> None:
        named: set[ReferenceKey] = set()
        s3 = restore.source(spec, store).s3
        try:
            if s3 and s3.credentials:
                for key in _S3_KEYS:
                    ref = KeyRef(name=s3.credentials.name, key=key)
                    await require_secret(self._context, primary, "destination.s3.credentials", ref, named)
        finally:
            self._context.references.expect(primary.key, named)

    async def _require_claim(self, owner: Owner, where: BackupDestination) -> None:
        if where.pvc is None:
            return
        try:
            await self._context.client.get(BY_NAME["PersistentVolumeClaim"], owner.namespace, where.pvc.claim_name)
        except NotFoundError:
            raise SpecError(
                "ClaimNotFound",
                f"destination.pvc.claimName: PersistentVolumeClaim {where.pvc.claim_name!r} does not exist in "
                f"namespace {owner.namespace}: create it, or name in spec.source.destination where the backup is",
            ) from None

    async def _require_free_name(self, owner: Owner) -> None:
        name = owner.child(restore.SUFFIX)
        try:
            await self._context.client.get(BY_NAME["Job"], owner.namespace, name)
        except NotFoundError:
            return
        raise OwnershipConflictError("Job", name)

    async def _create(self, owner: Owner, spec: MemoryRestoreSpec) -> Live:
        context = self._context
        store = self._store(owner, spec)
        await Children(context.client, context.children, owner).ensure(restore.config_map(owner, spec, store))
        return await jobs.create(context, restore.job(owner, spec, store, context.images))

    async def _report(self, primary: Primary, old: dict[str, Any], step: _Step) -> None:
        fields = {"phase": step.phase, **step.fields}
        done = step.phase in ("Resuming", "Succeeded")
        restored = Condition("Restored", done, step.reason, step.message)
        ready = Condition("Ready", step.phase == "Succeeded", step.reason, step.message)
        await self._context.report(primary, old, fields, [restored, ready])

"""The last backup of a MemoryStore with deletionPolicy Snapshot: what has to be true before it goes.

A finalizer holds the MemoryStore, and while it does, its servers are kept as ever. A Job with a name that is known
beforehand makes the backup; Kubernetes repeats it a few times. That it is complete is all there is to remember.
"""

from __future__ import annotations

from dataclasses import replace

from openclaw_operator.api.memorystore import FINALIZER, MemoryStoreSpec
from openclaw_operator.cluster.kinds import BY_NAME
from openclaw_operator.cluster.live import Live
from openclaw_operator.errors import ForbiddenError, OwnershipConflictError, SpecError, TerminatingError
from openclaw_operator.reconcile import jobs
from openclaw_operator.reconcile.context import Context
from openclaw_operator.reconcile.primaries import Primary
from openclaw_operator.reconcile.status import Condition
from openclaw_operator.resources import backup
from openclaw_operator.resources.meta import Owner

TYPE = "LastBackup"
OTHERWISE = "set spec.deletionPolicy to Retain or Delete to let the MemoryStore go without it"


async def hold(context: Context, primary: Primary, *, held: bool) -> None:
    """Set the finalizer, or take it away; written only where it is not so already. Raises ApiError."""
    if held == (FINALIZER in primary.finalizers):
        return
    others = tuple(name for name in primary.finalizers if name != FINALIZER)
    finalizers = (*others, FINALIZER) if held else others
    kind = BY_NAME[primary.kind]
    answer = await context.client.set_finalizers(
        kind, primary.namespace, primary.name, finalizers, resource_version=primary.resource_version
    )
    if not primary.deleting:
        # Nothing else changed in that version, so its echo is no news.
        version = answer["metadata"]["resourceVersion"]
        context.primaries.put(replace(primary, resource_version=version, finalizers=finalizers))


class LastBackup:
    """Makes last backups."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def made(self, owner: Owner) -> bool:
        """Whether there is one."""
        job = self._job(owner)
        return job is not None and _owned(job, owner) and bool(job.facts["complete"])

    async def what(self, owner: Owner) -> str:
        """What was made, in words."""
        pods = jobs.of(owner.child(backup.LAST))
        said = await jobs.summary(self._context.client, owner.namespace, pods, backup.SERVER)
        return f"backup {said['backup']}" if "backup" in said else "a last backup"

    async def make(self, owner: Owner, spec: MemoryStoreSpec, waiting: str) -> tuple[Condition, float | None]:
        """The next step, and after how many seconds to look again; `waiting` names servers that are not ready, if any.

        Raises TerminatingError where none can be made any more, ApiError for a fault.
        """
        if spec.backup is None:
            # Its rule was not there when it was stored.
            return _failed("NoBackups", f"spec.backup does not say where to: set it, or {OTHERWISE}"), None
        job = self._job(owner)
        if job is None:
            restore = self._half_restored(owner)
            if restore:
                return _under_way(f"waiting for MemoryRestore {restore} to end"), None
            if waiting:
                return _under_way(f"waiting for servers to be ready: {waiting}; or {OTHERWISE}"), None
            try:
                job = await jobs.create(self._context, backup.last(owner, spec, spec.backup, self._context.images))
            except TerminatingError:
                raise
            except ForbiddenError as refusal:
                return _failed("Refused", f"{refusal.message}; or {OTHERWISE}"), jobs.REFUSED_SECONDS
            except SpecError as problem:
                return _failed(problem.reason, f"{problem.message}; or {OTHERWISE}"), None
        name, client = job.name, self._context.client
        if not _owned(job, owner):
            conflict = OwnershipConflictError("Job", name)
            return _failed(conflict.reason, conflict.message), jobs.REFUSED_SECONDS
        if job.facts["failed"]:
            cause = await jobs.cause(client, owner.namespace, jobs.of(name)) or job.facts["failed"]
            return _failed(
                "LastBackupFailed",
                f"{cause}: correct it and delete Job {name}, which is then made anew; or {OTHERWISE}",
            ), None
        stuck_by = await jobs.stuck(client, owner.namespace, name)
        message = jobs.running(name, stuck_by) + (f": correct it, or {OTHERWISE}" if stuck_by else "")
        return _under_way(message), jobs.JOB_SECONDS

    def _job(self, owner: Owner) -> Live | None:
        return self._context.children.get("Job", owner.namespace, owner.child(backup.LAST))

    def _half_restored(self, owner: Owner) -> str | None:
        """The MemoryRestore whose Job is at work: what it leaves half done would make a backup that looks good."""
        name = self._context.primaries.restoring(owner.namespace, owner.name)
        restore = self._context.primaries.get(("MemoryRestore", owner.namespace, name)) if name else None
        # One that has only stopped agents does not go on without its store.
        return name if restore and restore.load()["status"].get("phase") == "Restoring" else None


def blocked() -> Condition:
    """While something else keeps it from being made, which another condition names."""
    return _under_way(f"waiting for the other conditions; or {OTHERWISE}")


def _owned(job: Live, owner: Owner) -> bool:
    return job.owner is not None and job.owner.uid == owner.uid


def _under_way(message: str) -> Condition:
    return Condition(TYPE, False, "Progressing", message)


def _failed(reason: str, message: str) -> Condition:
    return Condition(TYPE, False, reason, message)

"""MemoryRestore: puts a backup back into a MemoryStore, once."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from openclaw_operator.api.backup import BackupDestination
from openclaw_operator.api.base import DNS_LABEL, LIST_ATOMIC, CommonStatus, LocalRef, Model, Name, cel, schema_extra

Phase = Literal["Pending", "Pausing", "Restoring", "Resuming", "Succeeded", "Failed"]
Part = Literal["records", "vectors"]


class RestoreSource(Model):
    """Which backup, and where it is."""

    backup: str = Field(
        "latest",
        pattern=r"^(latest|[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}-[0-9]{2}-[0-9]{2}Z)$",
        description="Name of a backup, for example 2026-11-27T02-00-00Z, or latest.",
    )
    destination: BackupDestination | None = Field(
        None, description="Where it is; the spec.backup.destination of the MemoryStore when unset."
    )
    store: Name | None = Field(None, description="MemoryStore it was made of; the one that is restored when unset.")
    namespace: Name | None = Field(None, description="Namespace it was made in; this one when unset.")


class MemoryRestoreSpec(Model):
    """What to restore. It cannot be changed: a restore is done once."""

    model_config = schema_extra(
        cel("self == oldSelf", "a restore is done once and cannot be changed: make a new MemoryRestore")
    )
    store_ref: LocalRef = Field(description="MemoryStore to restore into. What it holds is replaced.")
    source: RestoreSource = Field(
        default_factory=lambda: RestoreSource(backup="latest"), description="Which backup, and where it is."
    )
    parts: list[Part] = Field(
        default=["records", "vectors"],
        min_length=1,
        max_length=2,
        description="What to restore: records (PostgreSQL), vectors (Qdrant).",
        json_schema_extra=LIST_ATOMIC,
    )


class MemoryRestoreStatus(CommonStatus):
    """Observed state of a MemoryRestore."""

    phase: Phase | None = Field(None, description="Pending, Pausing, Restoring, Resuming, Succeeded or Failed.")
    started_at: str | None = Field(
        None, description="When agents began to be stopped for it.", json_schema_extra={"format": "date-time"}
    )
    completed_at: str | None = Field(
        None, description="When it ended, well or not.", json_schema_extra={"format": "date-time"}
    )
    backup: str | None = Field(None, description="Name of the backup that was restored.")
    job_uid: str | None = Field(None, alias="jobUID", description="The Job that does it; there is never another.")


class MemoryRestore(Model):
    """Puts a backup back into a MemoryStore, once. The agents that use the store stand still meanwhile."""

    model_config = schema_extra(
        cel(
            f"self.metadata.name.size() <= 40 && self.metadata.name.matches('{DNS_LABEL}')",
            "metadata.name must be a DNS label of at most 40 characters (lower case letters, digits, '-'), "
            "because a Job is named after it",
        )
    )
    spec: MemoryRestoreSpec = Field(description="What to restore.")
    status: MemoryRestoreStatus | None = Field(None, description="Observed state, written by the operator.")


MEMORYRESTORE_CRD: dict[str, Any] = {
    "kind": "MemoryRestore",
    "plural": "memoryrestores",
    "singular": "memoryrestore",
    "short": "mr",
    "model": MemoryRestore,
    "columns": [
        ("Store", "string", ".spec.storeRef.name", 0),
        ("Phase", "string", ".status.phase", 0),
        ("Backup", "string", ".status.backup", 0),
        ("Started", "date", ".status.startedAt", 0),
        ("Message", "string", '.status.conditions[?(@.type=="Ready")].message', 1),
        ("Age", "date", ".metadata.creationTimestamp", 0),
    ],
}

"""Backups of a MemoryStore: where they go, when they are made, and how they are proven."""

from __future__ import annotations

from pydantic import Field

from openclaw_operator.api.base import CRON, HTTP_URL, LocalRef, Model, Name, cel, schema_extra


class S3Destination(Model):
    """A bucket of an S3-compatible object store."""

    bucket: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", description="Name of the bucket.")
    prefix: str = Field("daily", max_length=512, description="Folder in the bucket.")
    endpoint: str | None = Field(None, pattern=HTTP_URL, max_length=2048, description="Address; AWS when unset.")
    region: str = Field("us-east-1", min_length=1, max_length=64, description="Region.")
    credentials: LocalRef | None = Field(
        None, description="Secret with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; the node's identity when unset."
    )


class PVCDestination(Model):
    """A volume claim of the same namespace."""

    claim_name: Name = Field(description="Name of an existing PersistentVolumeClaim.")
    path: str = Field("daily", pattern=r"^[A-Za-z0-9_][A-Za-z0-9_./-]*$", max_length=255, description="Folder in it.")


class BackupDestination(Model):
    """Where backups go."""

    model_config = schema_extra(cel("has(self.s3) != has(self.pvc)", "set exactly one of s3 and pvc"))
    s3: S3Destination | None = Field(None, description="An object store.")
    pvc: PVCDestination | None = Field(None, description="A volume.")


class Drill(Model):
    """Proves regularly that the newest backup can be restored, in servers that are thrown away."""

    schedule: str = Field(
        "0 4 * * 0", pattern=CRON, max_length=128, description="Cron schedule, in the time zone of the backups."
    )


class Backup(Model):
    """Regular backups of vectors and records."""

    schedule: str = Field("0 2 * * *", pattern=CRON, max_length=128, description="Cron schedule.")
    time_zone: str | None = Field(None, max_length=64, description="Time zone of the schedule, for example Etc/UTC.")
    destination: BackupDestination = Field(description="Where backups go.")
    retention_days: int = Field(
        7, ge=1, le=3650, description="Days a backup is kept; the newest complete one is kept however old it is."
    )
    verify: bool = Field(
        True, description="Read every backup back from its destination and compare checksums before it counts as one."
    )
    suspend: bool = Field(False, description="Stop making backups.")
    drill: Drill | None = Field(
        None,
        description="Restore the newest backup into scratch servers now and then and compare; {} is weekly, none when "
        "unset. Its pod needs the memory of the servers, and room on its node for what is restored.",
    )

"""What `openclaw backup` reads: one YAML or JSON file that the operator renders."""

from pathlib import Path
from typing import Annotated

from pydantic import Field, model_validator

from openclaw_runtime import yamlfile
from openclaw_runtime.config import Name, ServiceUrl
from openclaw_runtime.sections import Section, UserPath


class Qdrant(Section):
    """Qdrant's REST addresses: of each node of a cluster, as a snapshot holds the shards of one."""

    nodes: list[ServiceUrl] = Field(min_length=1)
    api_key_file: UserPath | None = None


class S3(Section):
    """A bucket. Credentials come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or from the node's identity."""

    bucket: str = Field(min_length=3)
    prefix: str = ""
    endpoint: str | None = Field(default=None, pattern=r"^https?://")
    region: str = "us-east-1"


class Destination(Section):
    """Where backups are kept: exactly one."""

    s3: S3 | None = None
    directory: UserPath | None = None

    @model_validator(mode="after")
    def _one(self) -> "Destination":
        if (self.s3 is None) == (self.directory is None):
            raise ValueError("set exactly one of s3 and directory")
        return self


class BackupConfig(Section):
    """The whole file.

    `records` is where pg_dump has put its file, `rows` how many of each table are in it, `resources` what of the
    cluster is kept with it.
    """

    store: Name
    namespace: Name
    destination: Destination
    qdrant: Qdrant | None = None
    records: UserPath | None = None
    rows: UserPath | None = None
    resources: UserPath | None = None
    retention_days: Annotated[int, Field(ge=1)] = 7
    verify: bool = True

    @property
    def folder(self) -> str:
        """Where in the destination this store's backups are."""
        return f"{self.namespace}/{self.store}"


def load(path: Path) -> BackupConfig:
    """Reads the file. Raises `ConfigError`."""
    return yamlfile.load(BackupConfig, path)

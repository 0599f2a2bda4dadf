"""The table of contents of a backup, and which backups a retention lets go. Pure: the time comes in."""

from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from openclaw_runtime.errors import BackupError, NoSuchBackupError

MANIFEST = "manifest.json"
# Beside what is saved, for as long as a snapshot is on a node.
TAKEN = "snapshot.json"
FORMAT = 1
LATEST = "latest"
# A job may run for six hours: a folder without a manifest that is older will never get one.
ABANDONED = timedelta(hours=24)
# Of the backups that are there: the last words of a step have room for 2 KiB.
NAMED = 10
_NAME = "%Y-%m-%dT%H-%M-%SZ"


class Part(BaseModel):
    """One file of a backup. Of vectors also the collection, and the node as its place in the cluster."""

    model_config = ConfigDict(frozen=True)

    path: str
    kind: Literal["records", "vectors", "resources"]
    size: int
    sha256: str
    collection: str | None = None
    node: int | None = None


class Taken(BaseModel):
    """A snapshot that a backup has made on a node."""

    model_config = ConfigDict(frozen=True)

    node: int = Field(ge=0)
    collection: str
    name: str


class Count(BaseModel):
    """How many points a collection had before its snapshots were taken, and after."""

    model_config = ConfigDict(frozen=True)

    before: int
    after: int

    def holds(self, points: int) -> bool:
        """Whether a restored collection of that many is what was there; it may have grown while it was copied."""
        return min(self.before, self.after) <= points <= max(self.before, self.after)


class Manifest(BaseModel):
    """What a backup consists of. Times are UTC; `rows` are of each table, exactly those of the dump."""

    model_config = ConfigDict(frozen=True)

    format: int = FORMAT
    name: str
    store: str
    namespace: str
    started: datetime
    completed: datetime
    verified: bool
    parts: list[Part]
    points: dict[str, Count] = Field(default_factory=dict)
    # Older backups have none.
    rows: dict[str, int] = Field(default_factory=dict)

    @property
    def size(self) -> int:
        """Bytes of all parts."""
        return sum(part.size for part in self.parts)

    def of(self, kind: str) -> list[Part]:
        """The parts of one kind."""
        return [part for part in self.parts if part.kind == kind]


def read(text: str | bytes, source: str) -> Manifest:
    """A manifest from its JSON. Raises `BackupError`."""
    try:
        found = Manifest.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        raise BackupError(f"{source} is no manifest of a backup: {first['msg']}") from None
    if found.format != FORMAT:
        raise BackupError(f"{source} has format {found.format}, this version reads {FORMAT}: use a newer image")
    return found


def read_rows(file: Path) -> dict[str, int]:
    """How many rows tables have, as psql wrote it: a table and a number a line. Raises `BackupError`."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
        return {table: int(count) for table, _, count in (line.rpartition("\t") for line in lines if line)}
    except OSError as error:
        raise BackupError(f"{file} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise BackupError(f"{file} is no list of tables and numbers: {error}") from None


def name_of(started: datetime) -> str:
    """The name of the backup that was started then."""
    return started.astimezone(UTC).strftime(_NAME)


def started_at(name: str) -> datetime | None:
    """When a backup of that name was started; None for what is no name of ours."""
    try:
        return datetime.strptime(name, _NAME).replace(tzinfo=UTC)
    except ValueError:
        return None


def pick(wanted: str, complete: Collection[str], folder: str) -> str:
    """The name of the backup that is meant: itself, or the newest for `latest`. Raises `NoSuchBackupError`."""
    if not complete:
        raise NoSuchBackupError(f"there is no complete backup in {folder}: look at the jobs that make them")
    if wanted == LATEST:
        return max(complete)
    if wanted not in complete:
        newest = sorted(complete, reverse=True)[:NAMED]
        raise NoSuchBackupError(
            f"there is no complete backup {wanted!r} in {folder}; there are {len(complete)}, "
            f"the newest of them {', '.join(newest)}"
        )
    return wanted


def expired(complete: Sequence[str], partial: Sequence[str], now: datetime, days: int) -> list[str]:
    """The names to delete: too old, but never the newest complete one; and what was abandoned half-way."""
    limit = now - timedelta(days=days)
    kept = max(complete, default=None)
    old = [name for name in complete if name != kept and _before(name, limit)]
    return sorted([*old, *(name for name in partial if _before(name, now - ABANDONED))])


def _before(name: str, limit: datetime) -> bool:
    started = started_at(name)
    return started is not None and started < limit

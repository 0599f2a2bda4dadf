"""Where backups are kept: a bucket or a folder, behind one client; every transfer is a stream of bounded memory.

Calls block: a job does one thing at a time. The client's asynchronous ones would answer on threads of its own, which
may still want the interpreter when it ends, and abort the process.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, S3Store

from openclaw_runtime.backup import config as configs
from openclaw_runtime.backup.manifest import MANIFEST, Manifest, Part, name_of, read, started_at
from openclaw_runtime.errors import BackupError

if TYPE_CHECKING:
    from obstore.store import ObjectStore

CHUNK = 1 << 20
# Parts of an upload that are in memory at once. S3 takes 10,000 parts, so big files get bigger ones.
PARTS_AT_ONCE = 3
SMALLEST_PART = 8 << 20
MOST_PARTS = 9_000


@dataclass(frozen=True, slots=True)
class Written:
    """What an upload came to."""

    size: int
    sha256: str


def open_destination(config: configs.Destination) -> "Destination":
    """The client. Raises `BackupError` when the destination cannot be set up."""
    if config.directory is not None:
        try:
            local = LocalStore(config.directory, mkdir=True, automatic_cleanup=True)
        except BaseError as error:
            raise BackupError(f"{config.directory} cannot be used: {_first_line(error)}") from None
        return Destination(local, str(config.directory))
    s3 = config.s3
    assert s3 is not None
    store = S3Store(
        s3.bucket,
        prefix=s3.prefix.strip("/") or None,
        config={"endpoint": s3.endpoint} if s3.endpoint else {},
        region=s3.region,
        client_options={"allow_http": True, "connect_timeout": "10s", "timeout": "6h"},
        retry_config={"max_retries": 5},
    )
    where = "/".join(part for part in (f"s3://{s3.bucket}", s3.prefix.strip("/")) if part)
    return Destination(store, f"{where} at {s3.endpoint}" if s3.endpoint else where)


class Destination:
    """Backups of one destination. `where` is for messages. Every method raises `BackupError`."""

    def __init__(self, store: "ObjectStore", where: str) -> None:
        self._store = store
        self.where = where

    def write(self, path: str, content: Iterator[bytes], *, expected: int = 0) -> Written:
        """Writes a file from a stream; `expected` bytes decide how it is cut. An error of the stream leaves nothing."""
        digest, size = hashlib.sha256(), 0

        def counted() -> Iterator[bytes]:
            nonlocal size
            for chunk in content:
                digest.update(chunk)
                size += len(chunk)
                yield chunk

        with self._explained(f"write {path}"):
            obstore.put(
                self._store,
                path,
                counted(),
                chunk_size=max(SMALLEST_PART, expected // MOST_PARTS),
                max_concurrency=PARTS_AT_ONCE,
            )
        return Written(size, digest.hexdigest())

    def read(self, path: str) -> Iterator[bytes]:
        """The content of a file, in pieces."""
        with self._explained(f"read {path}"):
            answer = obstore.get(self._store, path)
            for chunk in answer.stream(min_chunk_size=CHUNK):
                yield bytes(chunk)

    def checked(self, folder: str, part: Part) -> Iterator[bytes]:
        """The content of a part; raises `BackupError` at its end where size or checksum are not the manifest's."""
        digest, size = hashlib.sha256(), 0
        for chunk in self.read(f"{folder}/{part.path}"):
            digest.update(chunk)
            size += len(chunk)
            yield chunk
        if size != part.size:
            raise BackupError(f"{folder}/{part.path} has {size} bytes, its manifest says {part.size}: it is damaged")
        if digest.hexdigest() != part.sha256:
            raise BackupError(f"{folder}/{part.path} has another checksum than its manifest says: it is damaged")

    def names(self, folder: str) -> tuple[list[str], list[str]]:
        """The backups below `folder`: complete ones, and those without a manifest."""
        complete: list[str] = []
        partial: list[str] = []
        with self._explained(f"list {folder}"):
            found = obstore.list_with_delimiter(self._store, f"{folder}/")
            for prefix in found["common_prefixes"]:
                name = prefix.rstrip("/").rpartition("/")[2]
                if started_at(name) is not None:
                    (complete if self._has_manifest(f"{folder}/{name}") else partial).append(name)
        return sorted(complete), sorted(partial)

    def _has_manifest(self, folder: str) -> bool:
        try:
            obstore.head(self._store, f"{folder}/{MANIFEST}")
        except FileNotFoundError:
            return False
        return True

    def manifest(self, folder: str, name: str) -> Manifest:
        """The manifest of one backup."""
        path = f"{folder}/{name}/{MANIFEST}"
        found = read(b"".join(self.read(path)), path)
        if found.name != name:
            # Its name leads to the files: those of another backup would be checked and restored.
            raise BackupError(f"{path} is the manifest of {found.name}: give the folder that name again")
        return found

    def finish(self, folder: str, manifest: Manifest) -> None:
        """Writes the manifest, which makes a backup of what was written before."""
        self.put(
            f"{folder}/{name_of(manifest.started)}/{MANIFEST}", manifest.model_dump_json(indent=2).encode() + b"\n"
        )

    def put(self, path: str, content: bytes) -> None:
        """Writes a small file."""
        with self._explained(f"write {path}"):
            obstore.put(self._store, path, content)

    def find(self, path: str) -> bytes | None:
        """The content of a small file, None where there is none."""
        with self._explained(f"read {path}"):
            try:
                return bytes(obstore.get(self._store, path).bytes())
            except FileNotFoundError:
                return None

    def remove(self, path: str) -> None:
        """Deletes a file that is there."""
        with self._explained(f"delete {path}"):
            obstore.delete(self._store, path)

    def delete(self, folder: str) -> None:
        """Deletes a backup: the manifest first, so that what is left of it is none."""
        with self._explained(f"delete {folder}"):
            paths = [item["path"] for batch in obstore.list(self._store, f"{folder}/") for item in batch]
            first = [path for path in paths if path == f"{folder}/{MANIFEST}"]
            for batch in (first, [path for path in paths if path not in first]):
                if batch:
                    obstore.delete(self._store, batch)

    @contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        try:
            yield
        except BackupError:
            raise
        except (BaseError, OSError) as error:
            raise BackupError(f"cannot {what} in {self.where}: {_first_line(error)}") from None


def _first_line(error: Exception) -> str:
    """What a client says, without the dump of the request that follows it."""
    lines = str(error).splitlines()
    return lines[0] if lines else type(error).__name__

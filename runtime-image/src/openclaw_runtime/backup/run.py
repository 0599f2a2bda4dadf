"""Makes a backup, checks one, and lets go of old ones."""

import logging
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from urllib.parse import quote

from pydantic import ValidationError

from openclaw_runtime.backup.config import BackupConfig
from openclaw_runtime.backup.destination import CHUNK, Destination
from openclaw_runtime.backup.manifest import TAKEN, Count, Manifest, Part, Taken, expired, name_of, read_rows
from openclaw_runtime.backup.vectors import VectorServer
from openclaw_runtime.errors import BackupError

LOG = logging.getLogger(__name__)


def run(
    config: BackupConfig, destination: Destination, vectors: VectorServer | None, now: Callable[[], datetime]
) -> Manifest:
    """Makes a backup and then deletes what is older than the retention. Raises `BackupError`; then nothing was deleted.

    Records come before vectors: a vector whose record is younger than the dump can still be recalled, as it carries the
    record; a record that is marked as indexed and has no vector could not.
    """
    started = now()
    name = name_of(started)
    folder = f"{config.folder}/{name}"
    if vectors:
        vectors.check_nodes()
    parts: list[Part] = []
    if config.records:
        parts.append(_file(destination, folder, "postgresql.dump", "records", config.records))
    rows = read_rows(config.rows) if config.rows else {}
    points: dict[str, Count] = {}
    if vectors:
        for collection in vectors.collections():
            before = vectors.count(collection)
            parts += [_snapshot(destination, folder, vectors, node, collection) for node in range(vectors.nodes)]
            points[collection] = Count(before=before, after=vectors.count(collection))
    if config.resources:
        parts.append(_file(destination, folder, config.resources.name, "resources", config.resources))
    if config.verify:
        _verify_parts(destination, folder, parts)
    manifest = Manifest(
        name=name,
        store=config.store,
        namespace=config.namespace,
        started=started,
        completed=now(),
        verified=config.verify,
        parts=parts,
        points=points,
        rows=rows,
    )
    destination.finish(config.folder, manifest)
    LOG.info("backup %s is complete: %d files, %d bytes, in %s", name, len(parts), manifest.size, destination.where)
    _let_go(config, destination, vectors, now())
    return manifest


def verify(destination: Destination, folder: str, manifest: Manifest) -> None:
    """Reads a whole backup and compares sizes and checksums. Raises `BackupError` that names what is damaged."""
    _verify_parts(destination, f"{folder}/{manifest.name}", manifest.parts)


def _verify_parts(destination: Destination, folder: str, parts: list[Part]) -> None:
    for part in parts:
        for _ in destination.checked(folder, part):
            pass
        LOG.info("checked %s: %d bytes", part.path, part.size)


def _file(destination: Destination, folder: str, path: str, kind: str, file: Path) -> Part:
    try:
        size = file.stat().st_size
    except OSError as error:
        raise BackupError(f"{file} cannot be read: {error.strerror}") from None
    written = destination.write(f"{folder}/{path}", _read_file(file), expected=size)
    LOG.info("saved %s: %d bytes", path, written.size)
    return Part.model_validate({"path": path, "kind": kind, "size": written.size, "sha256": written.sha256})


def _snapshot(destination: Destination, folder: str, vectors: VectorServer, node: int, collection: str) -> Part:
    path = f"qdrant/{quote(collection, safe='')}/{node}.snapshot"
    with vectors.snapshot(node, collection) as snapshot:
        # Who is killed now leaves it there, and its name does not tell whose it is.
        taken = Taken(node=node, collection=collection, name=snapshot.name)
        destination.put(f"{folder}/{TAKEN}", taken.model_dump_json().encode())
        written = destination.write(f"{folder}/{path}", vectors.download(snapshot), expected=snapshot.size)
    destination.remove(f"{folder}/{TAKEN}")
    LOG.info("saved %s: %d bytes", path, written.size)
    return Part(path=path, kind="vectors", size=written.size, sha256=written.sha256, collection=collection, node=node)


def _let_go(config: BackupConfig, destination: Destination, vectors: VectorServer | None, now: datetime) -> None:
    complete, partial = destination.names(config.folder)
    for name in expired(complete, partial, now, config.retention_days):
        if vectors and name in partial:
            _forget_snapshot(destination, f"{config.folder}/{name}/{TAKEN}", vectors)
        destination.delete(f"{config.folder}/{name}")
        LOG.info("deleted %s: %s", name, "unfinished" if name in partial else f"over {config.retention_days} days old")


def _forget_snapshot(destination: Destination, path: str, vectors: VectorServer) -> None:
    """Removes what an unfinished backup had left on a node: that one snapshot, and no other."""
    noted = destination.find(path)
    if noted is None:
        return
    try:
        taken = Taken.model_validate_json(noted)
    except ValidationError as error:
        LOG.warning("%s names no snapshot: %s", path, error.errors()[0]["msg"])
        return
    if taken.node < vectors.nodes and vectors.forget(taken.node, taken.collection, taken.name):
        LOG.info("deleted snapshot %s of collection %s, left on node %d", taken.name, taken.collection, taken.node)


def _read_file(file: Path) -> Iterator[bytes]:
    with file.open("rb") as content:
        while chunk := content.read(CHUNK):
            yield chunk

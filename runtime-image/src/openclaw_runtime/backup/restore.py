"""Puts a backup back: first all of it is fetched and checked, and only then anything is changed."""

import logging
from collections.abc import Iterator
from pathlib import Path

from openclaw_runtime.backup.destination import Destination
from openclaw_runtime.backup.manifest import Manifest, Part, pick, read
from openclaw_runtime.backup.vectors import VectorServer
from openclaw_runtime.errors import BackupError, NoSuchBackupError

LOG = logging.getLogger(__name__)
# In the folder that the steps of a restore share.
CHOSEN = "chosen.json"
RECORDS = "postgresql.dump"
# What a drill has counted after it restored the dump.
ROWS = "restored.rows"


def fetch(destination: Destination, folder: str, wanted: str, into: Path, kinds: frozenset[str]) -> Manifest:
    """Chooses a backup, checks every file of the `kinds`, and leaves the dump and the choice in `into`.

    Raises `BackupError` when there is no such backup, it has no records, or a file is damaged.
    """
    complete, _ = destination.names(folder)
    name = pick(wanted, complete, f"{folder} of {destination.where}")
    manifest = destination.manifest(folder, name)
    if "records" in kinds and not manifest.of("records"):
        raise NoSuchBackupError(f"backup {name} has no records: restore vectors alone, or another backup")
    for part in manifest.parts:
        if part.kind not in kinds:
            continue
        content = destination.checked(f"{folder}/{name}", part)
        if part.kind == "records":
            _keep(content, into / RECORDS)
        else:
            for _ in content:
                pass
        LOG.info("checked %s: %d bytes", part.path, part.size)
    (into / CHOSEN).write_text(manifest.model_dump_json(), encoding="utf-8")
    LOG.info("backup %s of %s is whole", name, manifest.completed.isoformat())
    return manifest


def chosen(folder: Path) -> Manifest:
    """The backup that `fetch` chose: `latest` means the same to every step. Raises `BackupError`."""
    file = folder / CHOSEN
    try:
        return read(file.read_bytes(), str(file))
    except OSError as error:
        raise BackupError(f"{file} cannot be read: {error.strerror}; run `openclaw backup fetch` first") from None


def restore_vectors(
    destination: Destination, folder: str, manifest: Manifest, vectors: VectorServer, scratch: Path
) -> dict[str, int]:
    """Replaces each collection of the backup; others stay. Returns their points. Raises `BackupError`.

    One snapshot at a time lies in `scratch`. Where Qdrant has fewer nodes than it had, one node takes several.
    """
    vectors.check_nodes()
    points = {}
    by_collection: dict[str, list[Part]] = {}
    for part in manifest.of("vectors"):
        by_collection.setdefault(part.collection or "", []).append(part)
    for collection, parts in by_collection.items():
        vectors.drop(collection)
        for part in parts:
            file = scratch / "collection.snapshot"
            _keep(destination.checked(f"{folder}/{manifest.name}", part), file)
            vectors.restore((part.node or 0) % vectors.nodes, collection, file, part.sha256)
            file.unlink()
        points[collection] = vectors.count(collection)
        LOG.info("restored collection %s: %d points", collection, points[collection])
    return points


def check_points(manifest: Manifest, points: dict[str, int]) -> None:
    """Compares what was restored with what was there. Raises `BackupError` for what is missing."""
    for collection, count in manifest.points.items():
        if not count.holds(points.get(collection, 0)):
            raise BackupError(
                f"collection {collection} has {points.get(collection, 0)} points after the restore, "
                f"and had {count.before} to {count.after} when backup {manifest.name} was made"
            )


def check_rows(manifest: Manifest, rows: dict[str, int]) -> None:
    """Compares what was restored with what was dumped. Raises `BackupError` for the first table that differs."""
    for table, count in sorted(manifest.rows.items()):
        if rows.get(table) != count:
            found = f"{rows[table]} rows" if table in rows else "is missing"
            raise BackupError(
                f"table {table}: {found} after the restore; backup {manifest.name} was made of {count} rows"
            )


def _keep(content: Iterator[bytes], file: Path) -> None:
    with file.open("wb") as target:
        for chunk in content:
            target.write(chunk)

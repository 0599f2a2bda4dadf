"""Collections on disk: one folder each, with its parameters, its shard and nothing else; aliases beside them.

STORAGE/aliases.json
STORAGE/collections/NAME/parameters.json    the body that created it, and its payload indexes
STORAGE/collections/NAME/shard/             the engine's files
SNAPSHOTS/NAME/….snapshot                   a tar of the collection's folder
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import qdrant_edge as edge

from tests.cluster.qdrant_front.errors import BadRequestError, ConflictError, FrontError, NotFoundError, no_collection
from tests.cluster.qdrant_front.translate import parse_config, parse_index

NAME = re.compile(r"[A-Za-z0-9_.-]{1,255}")
OPTIMIZE_EVERY = 2000
"""Points written between two runs of the engine's optimizers, which build the vector index."""


class Collection:
    """One collection. The engine's calls are guarded by `lock`; they block, so they belong in threads."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lock = threading.RLock()
        self.parameters: dict[str, Any] = json.loads((folder / "parameters.json").read_text())
        self.shard: edge.EdgeShard = edge.EdgeShard.load(str(folder / "shard"))
        self.operations = 0
        self.unoptimized = 0

    @classmethod
    def create(cls, folder: Path, body: dict[str, Any]) -> Collection:
        config = parse_config(body)
        folder.mkdir(parents=True)
        try:
            with engine_errors():
                (folder / "shard").mkdir()
                edge.EdgeShard.create(str(folder / "shard"), config).close()
        except FrontError:
            shutil.rmtree(folder)
            raise
        write_json(folder / "parameters.json", {"body": body, "indexes": {}})
        return cls(folder)

    def update(self, operation: edge.UpdateOperation, points: int = 0) -> dict[str, Any]:
        """Apply it; returns Qdrant's UpdateResult."""
        with self.lock, engine_errors():
            self.shard.update(operation)
            self.operations += 1
            self.unoptimized += points
            if self.unoptimized >= OPTIMIZE_EVERY:
                self.shard.optimize()
                self.unoptimized = 0
        return {"operation_id": self.operations, "status": "completed"}

    def create_index(self, field: str, schema: Any) -> dict[str, Any]:
        with self.lock:
            result = self.update(edge.UpdateOperation.create_field_index(field, parse_index(schema)))
            self.parameters["indexes"][field] = schema
            self._save()
        return result

    def delete_index(self, field: str) -> dict[str, Any]:
        with self.lock:
            result = self.update(edge.UpdateOperation.delete_field_index(field))
            self.parameters["indexes"].pop(field, None)
            self._save()
        return result

    def change(self, body: dict[str, Any]) -> None:
        """PATCH: parameters are remembered and shown, and the engine builds what they change."""
        with self.lock:
            merged = {**self.parameters["body"]}
            for key, value in body.items():
                if key == "quantization_config":
                    merged[key] = None if value == "Disabled" else value
                elif key == "vectors" and "" in value:
                    merged[key] = {**merged[key], **value[""]}
                else:
                    merged[key] = {**merged.get(key, {}), **value} if isinstance(value, dict) else value
            config = parse_config(merged)
            self.parameters["body"] = merged
            self._save()
            with engine_errors():
                self.shard.close()
                self.shard = edge.EdgeShard.load(str(self.folder / "shard"), config)
                self.shard.optimize()

    def vector_of(self, point_id: Any, name: str) -> Any:
        with engine_errors():
            found = self.shard.retrieve([point_id], False, True)
        if not found:
            raise NotFoundError(f"Not found: No point with id {point_id} found")
        vector = found[0].vector
        return vector[name] if isinstance(vector, dict) else vector

    def info(self) -> dict[str, Any]:
        """Qdrant's CollectionInfo."""
        with self.lock, engine_errors():
            details = self.shard.info()
        body = self.parameters["body"]
        parameters = {
            "vectors": body.get("vectors") or {},
            "shard_number": 1,
            "replication_factor": 1,
            "write_consistency_factor": 1,
            "on_disk_payload": body.get("on_disk_payload", True),
        }
        if body.get("sparse_vectors"):
            parameters["sparse_vectors"] = body["sparse_vectors"]
        hnsw = {"m": 16, "ef_construct": 100, "full_scan_threshold": 10000, "max_indexing_threads": 0, "on_disk": False}
        optimizers = {
            "deleted_threshold": 0.2,
            "vacuum_min_vector_number": 1000,
            "default_segment_number": 0,
            "flush_interval_sec": 5,
        }
        return {
            "status": "green",
            "optimizer_status": "ok",
            "indexed_vectors_count": details.indexed_vectors_count,
            "points_count": details.points_count,
            "segments_count": details.segments_count,
            "config": {
                "params": parameters,
                "hnsw_config": {**hnsw, **(body.get("hnsw_config") or {})},
                "optimizer_config": {**optimizers, **(body.get("optimizers_config") or {})},
                "wal_config": {"wal_capacity_mb": 32, "wal_segments_ahead": 0},
                "quantization_config": body.get("quantization_config"),
            },
            "payload_schema": {
                field: schema_json(self.parameters["indexes"].get(field), index)
                for field, index in details.payload_schema.items()
            },
        }

    def pack(self, target: Path) -> None:
        """A tar of the whole collection, taken while nothing can change it."""
        with self.lock, engine_errors():
            self.shard.flush()
            with tarfile.open(target, "w") as tar:
                for name in ("parameters.json", "shard"):
                    tar.add(self.folder / name, arcname=name)

    def close(self) -> None:
        with self.lock, engine_errors():
            self.shard.flush()
            self.shard.close()

    def _save(self) -> None:
        write_json(self.folder / "parameters.json", self.parameters)


def schema_json(schema: Any, index: edge.PayloadIndexInfo) -> dict[str, Any]:
    kind = schema if isinstance(schema, str) else (schema or {}).get("type")
    shown: dict[str, Any] = {"data_type": kind, "points": index.points}
    if isinstance(schema, dict):
        shown["params"] = schema
    return shown


class Store:
    """All collections, aliases and snapshots of one storage folder."""

    def __init__(self, storage: Path, snapshots: Path) -> None:
        self.root = storage / "collections"
        self.snapshots = snapshots
        self.alias_file = storage / "aliases.json"
        self.lock = threading.RLock()
        for folder in (self.root, snapshots):
            folder.mkdir(parents=True, exist_ok=True)
        for left_over in self.root.glob(".*"):
            shutil.rmtree(left_over)
        self.collections = {folder.name: Collection(folder) for folder in sorted(self.root.iterdir())}
        self.aliases: dict[str, str] = json.loads(self.alias_file.read_text()) if self.alias_file.exists() else {}

    def get(self, name: str) -> Collection:
        """By name or alias. Raises NotFoundError."""
        found = self.collections.get(self.aliases.get(name, name))
        if found is None:
            raise no_collection(name)
        return found

    def create(self, name: str, body: dict[str, Any]) -> None:
        if not NAME.fullmatch(name) or name.startswith("."):
            raise BadRequestError(f"collection name {name!r}: letters, digits, `_`, `-` and `.` only")
        with self.lock:
            if name in self.collections or name in self.aliases:
                raise ConflictError(f"Wrong input: Collection `{name}` already exists!")
            self.collections[name] = Collection.create(self.root / name, body)

    def delete(self, name: str) -> bool:
        with self.lock:
            collection = self.collections.pop(name, None)
            if collection is None:
                return False
            collection.close()
            shutil.rmtree(collection.folder)
            self._set_aliases({alias: target for alias, target in self.aliases.items() if target != name})
            return True

    def change_aliases(self, actions: list[dict[str, Any]]) -> None:
        """All or nothing. https://qdrant.tech/documentation/concepts/collections/#collection-aliases"""
        with self.lock:
            changed = dict(self.aliases)
            for action in actions:
                if create := action.get("create_alias"):
                    if create["collection_name"] not in self.collections:
                        raise no_collection(create["collection_name"])
                    changed[create["alias_name"]] = create["collection_name"]
                elif delete := action.get("delete_alias"):
                    if changed.pop(delete["alias_name"], None) is None:
                        raise NotFoundError(f"Not found: Alias {delete['alias_name']} does not exists!")
                elif rename := action.get("rename_alias"):
                    if rename["old_alias_name"] not in changed:
                        raise NotFoundError(f"Not found: Alias {rename['old_alias_name']} does not exists!")
                    changed[rename["new_alias_name"]] = changed.pop(rename["old_alias_name"])
                else:
                    raise BadRequestError(f"unknown alias action: {', '.join(action)}")
            self._set_aliases(changed)

    def _set_aliases(self, aliases: dict[str, str]) -> None:
        self.aliases = aliases
        write_json(self.alias_file, aliases)

    # --- snapshots ----------------------------------------------------------------------------------------------------
    def create_snapshot(self, name: str) -> dict[str, Any]:
        collection = self.get(name)
        folder = self.snapshots / collection.folder.name
        folder.mkdir(parents=True, exist_ok=True)
        stamp = datetime.now(UTC).strftime("%Y-%m-%d-%H-%M-%S-%f")
        final = folder / f"{collection.folder.name}-{stamp}.snapshot"
        fresh = final.with_suffix(".partial")
        collection.pack(fresh)
        fresh.rename(final)
        return describe(final)

    def list_snapshots(self, name: str) -> list[dict[str, Any]]:
        folder = self.snapshots / self.get(name).folder.name
        return [describe(file) for file in sorted(folder.glob("*.snapshot"))]

    def snapshot(self, name: str, snapshot: str) -> Path:
        """The file. Raises NotFoundError."""
        folder = self.snapshots / self.get(name).folder.name
        file = folder / snapshot
        if file.parent != folder or not file.is_file():
            raise NotFoundError(f"Not found: Snapshot {snapshot} not found")
        return file

    def recover(self, name: str, archive: Path, checksum: str | None) -> None:
        """Replace (or create) a collection with the content of a snapshot; the old one stays if that fails."""
        if checksum is not None and checksum != file_digest(archive):
            raise BadRequestError(f"Snapshot checksum mismatch: expected {checksum}, got {file_digest(archive)}")
        name = self.aliases.get(name, name)
        if not NAME.fullmatch(name) or name.startswith("."):
            raise BadRequestError(f"collection name {name!r} is not allowed")
        fresh = self.root / f".recover-{name}"
        shutil.rmtree(fresh, ignore_errors=True)
        try:
            with tarfile.open(archive) as tar:
                # The Python of Debian 12 does not know the argument of this name yet.
                tar.extraction_filter = getattr(tarfile, "data_filter", lambda member, _path: member)
                tar.extractall(fresh)
            Collection(fresh).close()
        except (tarfile.TarError, OSError, ValueError, FrontError) as error:
            shutil.rmtree(fresh, ignore_errors=True)
            raise BadRequestError(f"Failed to restore snapshot: {error}") from error
        with self.lock:
            old = self.collections.pop(name, None)
            if old is not None:
                old.close()
                shutil.rmtree(old.folder)
            fresh.rename(self.root / name)
            self.collections[name] = Collection(self.root / name)

    def close(self) -> None:
        for collection in self.collections.values():
            collection.close()


def describe(file: Path) -> dict[str, Any]:
    """Qdrant's SnapshotDescription."""
    status = file.stat()
    created = datetime.fromtimestamp(status.st_mtime, UTC)
    return {
        "name": file.name,
        "creation_time": created.strftime("%Y-%m-%dT%H:%M:%S"),
        "size": status.st_size,
        "checksum": file_digest(file),
    }


def file_digest(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def write_json(path: Path, content: Any) -> None:
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(content))
    fresh.rename(path)


@contextmanager
def engine_errors() -> Iterator[None]:
    """The engine raises plain Exception for whatever does not fit: that is a bad request in Qdrant's words."""
    try:
        yield
    except FrontError:
        raise
    except Exception as error:
        raise BadRequestError(f"Wrong input: {error}") from error

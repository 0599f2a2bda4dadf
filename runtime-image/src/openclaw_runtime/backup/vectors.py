"""Qdrant's snapshots over its REST API: https://qdrant.tech/documentation/concepts/snapshots/.

A snapshot holds the shards of one node, so each node of a cluster is asked for its own, and gets one back. httpx rather
than qdrant-client, which reads a snapshot into memory and cannot stream one from a file.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from openclaw_runtime.errors import BackupError

CHUNK = 1 << 20
# A snapshot of a big collection takes a while before the first byte comes.
TIMEOUT = httpx.Timeout(30, read=3600, write=3600)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A snapshot that lies on a node."""

    node: int
    collection: str
    name: str
    size: int


class VectorServer:
    """All nodes of one Qdrant. Every method raises `BackupError`."""

    def __init__(self, client: httpx.Client, nodes: list[str]) -> None:
        self._client = client
        self._nodes = [node.rstrip("/") for node in nodes]

    @property
    def nodes(self) -> int:
        """How many nodes there are."""
        return len(self._nodes)

    def check_nodes(self) -> None:
        """Raises `BackupError` where Qdrant has more nodes than are known here: what is on them would be missing."""
        try:
            status = self._ask("GET", 0, "/cluster")
        except _NotFoundError:
            return
        peers = len(status.get("peers") or ()) if status.get("status") == "enabled" else 1
        if peers > len(self._nodes):
            raise BackupError(
                f"Qdrant has {peers} nodes and {len(self._nodes)} address(es) are known here: a snapshot holds only "
                "what one node has, so use a Qdrant of one node, a managed one, or its own backups"
            )

    def collections(self) -> list[str]:
        """The names of all collections."""
        found = self._ask("GET", 0, "/collections")
        return sorted(item["name"] for item in found["collections"])

    def count(self, collection: str) -> int:
        """How many points a collection has."""
        found = self._ask("POST", 0, f"/collections/{_quoted(collection)}/points/count", json={"exact": True})
        return int(found["count"])

    @contextmanager
    def snapshot(self, node: int, collection: str) -> Iterator[Snapshot]:
        """A fresh snapshot of a collection on one node, which is removed from there at the end."""
        path = f"/collections/{_quoted(collection)}/snapshots"
        made = self._ask("POST", node, path, params={"wait": "true"})
        try:
            yield Snapshot(node, collection, made["name"], int(made.get("size") or 0))
        finally:
            self.forget(node, collection, made["name"])

    def forget(self, node: int, collection: str, name: str) -> bool:
        """Removes a snapshot from a node. Returns whether it was there."""
        try:
            path = f"/collections/{_quoted(collection)}/snapshots/{_quoted(name)}"
            self._ask("DELETE", node, path, params={"wait": "true"})
        except _NotFoundError:
            return False
        return True

    def download(self, snapshot: Snapshot) -> Iterator[bytes]:
        """The content of a snapshot, in pieces."""
        path = f"/collections/{_quoted(snapshot.collection)}/snapshots/{_quoted(snapshot.name)}"
        try:
            with self._client.stream("GET", f"{self._nodes[snapshot.node]}{path}") as answer:
                if answer.status_code != 200:
                    answer.read()
                    raise _error(answer)
                yield from answer.iter_bytes(CHUNK)
        except httpx.HTTPError as error:
            raise _unreachable(self._nodes[snapshot.node], error) from None

    def drop(self, collection: str) -> None:
        """Deletes a collection, if it is there: one of another shape would refuse the snapshot."""
        with suppress(_NotFoundError):
            self._ask("DELETE", 0, f"/collections/{_quoted(collection)}", params={"timeout": "60"})

    def restore(self, node: int, collection: str, file: Path, sha256: str) -> None:
        """Puts a snapshot onto one node; what it holds wins over what is there."""
        path = f"/collections/{_quoted(collection)}/snapshots/upload"
        params = {"priority": "snapshot", "wait": "true", "checksum": sha256}
        with file.open("rb") as content:
            files = {"snapshot": (file.name, content, "application/octet-stream")}
            self._ask("POST", node, path, params=params, files=files)

    def _ask(self, method: str, node: int, path: str, **arguments: Any) -> Any:
        try:
            answer = self._client.request(method, f"{self._nodes[node]}{path}", **arguments)
        except httpx.HTTPError as error:
            raise _unreachable(self._nodes[node], error) from None
        if answer.status_code != 200:
            raise _error(answer)
        return answer.json()["result"]


class _NotFoundError(BackupError):
    """Qdrant does not know the path."""


def _quoted(name: str) -> str:
    return quote(name, safe="")


def _unreachable(node: str, error: httpx.HTTPError) -> BackupError:
    return BackupError(f"Qdrant at {node} did not answer: {str(error) or type(error).__name__}")


def _error(answer: httpx.Response) -> BackupError:
    try:
        message = answer.json()["status"]["error"]
    except (ValueError, KeyError, TypeError):
        message = answer.text[:200]
    kind = _NotFoundError if answer.status_code == 404 else BackupError
    return kind(f"Qdrant answered {answer.status_code} to {answer.request.method} {answer.url.path}: {message}")

"""The shapes of memory, and the contracts of its parts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

if TYPE_CHECKING:
    from openclaw_runtime.memory.uses import Judged

Scope = Literal["private", "team"]
"""private: only the agent that wrote it. team: also agents that search the team's memory, like a coordinator."""


SUMMARY: Final = "summary"
"""The kind of a record that stands for others; its metadata names them under `sources`."""


@dataclass(frozen=True, slots=True)
class NewRecord:
    """Something to remember. `kind` is free (exchange, note, commit, …); `importance` is 0 to 1, its author's word."""

    text: str
    kind: str = "note"
    scope: Scope = "private"
    session: str = ""
    importance: float = 0.5
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class MemoryRecord:
    """A record as stored. `created_at` is Unix seconds; `id` is a UUID."""

    id: str
    namespace: str
    agent: str
    text: str
    kind: str
    scope: Scope
    session: str
    importance: float
    metadata: Mapping[str, Any]
    created_at: float


def is_summary(record: MemoryRecord) -> bool:
    """Returns whether a record stands for others. One that a skill wrote never does; its metadata names the skill."""
    return record.kind == SUMMARY and "skill" not in record.metadata


@dataclass(frozen=True, slots=True)
class Related:
    """What related records have in common."""

    kind: str
    scope: Scope


@dataclass(frozen=True, slots=True)
class Found:
    """A record that matched a search; a higher score is a better match."""

    record: MemoryRecord
    score: float


@dataclass(frozen=True, slots=True)
class SessionMessage:
    """One message of a conversation."""

    role: Literal["user", "assistant"]
    content: str
    created_at: float
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Spent:
    """What an agent's requests to one model cost on one day (UTC, like 2026-11-27), in millionths of a US dollar."""

    day: str
    provider: str
    model: str
    requests: int
    input_tokens: int
    output_tokens: int
    micro_usd: int


@dataclass(frozen=True, slots=True)
class KeptAttachment:
    """What is told of a file that is kept for the user, a skill's or their own.

    `id` names it, `size` is bytes, `sha256` hex.
    """

    id: str
    name: str
    media_type: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Filters:
    """Which records are asked for: of one of `kinds`, made from `since` until `until`, at least so important.

    `metadata` are values as text; a record's number or truth value is the text that JSON has for it.
    """

    kinds: tuple[str, ...] = ()
    since: float | None = None
    until: float | None = None
    importance: float = 0.0
    metadata: Mapping[str, str] = field(default_factory=dict)

    def match(self, record: MemoryRecord) -> bool:
        """Returns whether a record is one of those."""
        return (
            (not self.kinds or record.kind in self.kinds)
            and (self.since is None or record.created_at >= self.since)
            and (self.until is None or record.created_at <= self.until)
            and record.importance >= self.importance
            and all(record.metadata.get(key) in values(text) for key, text in self.metadata.items())
        )


def values(text: str) -> list[str | int | bool]:
    """Returns the values of metadata that a text stands for."""
    found: list[str | int | bool] = [text]
    if text in ("true", "false"):
        found.append(text == "true")
    elif text.removeprefix("-").isascii() and text.removeprefix("-").isdigit() and len(text) < 19:
        found.append(int(text))
    return found


class MemoryStore(Protocol):
    """One agent's view of memory. Every method but `close` raises `MemoryStoreError` when a store cannot be used.

    `team` widens a search from the agent's own records to those of its namespace with scope team.
    """

    async def start(self) -> None:
        """Opens the stores and creates what is missing in them."""

    async def close(self) -> None:
        """Closes the stores."""

    async def ping(self) -> None:
        """Returns when every store works."""

    async def add(self, record: NewRecord) -> MemoryRecord:
        """Stores a record; it is found by the next search."""
        ...

    async def search(
        self, query: str, limit: int = 5, *, team: bool = False, use: bool = True, only: Filters | None = None
    ) -> list[Found]:
        """Returns up to `limit` records, best first. Unless `use` is false they count as used."""
        ...

    async def recent(self, limit: int = 10, *, team: bool = False, only: Filters | None = None) -> list[MemoryRecord]:
        """Returns the newest records, newest first; `only` narrows them.

        With filters on metadata, of the newest thousand that the other filters leave.
        """
        ...

    async def judge(self, record_id: str, *, useful: bool) -> "Judged | None":
        """Notes what a user thinks of a record, the agent's own or its team's. Returns None if there is none."""
        ...

    async def session(self, session: str, limit: int = 100) -> list[SessionMessage]:
        """Returns the last `limit` messages of a conversation, oldest first."""
        ...

    async def append_session(self, session: str, messages: Sequence[SessionMessage]) -> None:
        """Adds messages to the end of a conversation."""


@dataclass(frozen=True, slots=True)
class View:
    """Which records a search may see."""

    namespace: str
    agent: str
    team: bool
    only: Filters = Filters()


class Embedder(Protocol):
    """Turns text into vectors of `dimensions` numbers."""

    @property
    def dimensions(self) -> int:
        """How many numbers a vector has."""
        ...

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """Returns one vector per text, of length 1. Raises `MemoryStoreError`."""
        ...


class VectorIndex(Protocol):
    """Nearest-neighbour search over records. Methods raise `MemoryStoreError`."""

    async def start(self, dimensions: int) -> None:
        """Opens the index, creating it if it is not there."""

    async def close(self) -> None:
        """Closes the index."""

    async def ping(self) -> None:
        """Returns when the index works."""

    async def upsert(self, record: MemoryRecord, vector: Sequence[float]) -> None:
        """Stores or replaces a record; it is found by the next search."""

    async def delete(self, ids: Sequence[str]) -> None:
        """Removes records by their ids; those that are not there are no error."""

    async def search(self, vector: Sequence[float], view: View, limit: int) -> list[Found]:
        """Returns the nearest records in `view`, best first; the score is the cosine similarity."""
        ...


def to_payload(record: MemoryRecord) -> dict[str, Any]:
    """Returns what is stored beside a vector."""
    return {
        "namespace": record.namespace,
        "agent": record.agent,
        "text": record.text,
        "kind": record.kind,
        "scope": record.scope,
        "session": record.session,
        "importance": record.importance,
        "metadata": dict(record.metadata),
        "created_at": record.created_at,
    }


def from_payload(point_id: object, payload: Mapping[str, Any]) -> MemoryRecord:
    """Reads what `to_payload` wrote."""
    return MemoryRecord(id=str(point_id), **payload)

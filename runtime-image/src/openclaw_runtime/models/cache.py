"""Answers of models that are kept for a while: what they are kept under, how old they may be, and where.

A layer never fails: what it cannot read or write is a miss, told in the log.
"""

import asyncio
import hashlib
import json
import logging
import tempfile
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol

from pydantic_ai.messages import ModelMessage, ModelMessagesTypeAdapter, ModelResponse, TextPart
from pydantic_ai.models import ModelRequestParameters
from pydantic_ai.settings import ModelSettings
from pydantic_ai.usage import RequestUsage

from openclaw_runtime.models.sections import Cache
from openclaw_runtime.sparing import SparingRedis

logger = logging.getLogger(__name__)

Freshness = Literal["fresh", "early", "stale", "dead"]
"""fresh is served; early is served and asked for anew, so that it never ends; stale is served once more, likewise."""

LARGEST = 256 * 1024
"""Longer answers, in bytes, are not kept."""

LARGEST_MEMORY = 32 * 1024 * 1024
"""Bytes of answers that one process keeps in memory, whatever the number of entries."""

_SENT = ("kind", "parts", "instructions")
_OF_THE_RUN = frozenset({"timestamp"})
_TOOL_PARTS = frozenset({"tool-call", "tool-return", "retry-prompt"})


@dataclass(frozen=True)
class Entry:
    """An answer as it is kept; `stored_at` is Unix time."""

    stored_at: float
    answer: bytes

    def encode(self) -> bytes:
        """Returns the entry as bytes: the time on the first line."""
        return f"{self.stored_at!r}\n".encode() + self.answer

    @classmethod
    def decode(cls, data: bytes) -> "Entry":
        """Reads an entry. Raises `ValueError`."""
        stored_at, _, answer = data.partition(b"\n")
        return cls(float(stored_at), answer)

    def response(self) -> ModelResponse:
        """Returns the answer, as one that used no tokens. Raises `ValueError`."""
        (response,) = ModelMessagesTypeAdapter.validate_json(self.answer)
        if not isinstance(response, ModelResponse):
            raise ValueError("the entry holds no answer")  # noqa: TRY004 - it is what bad data means here
        return replace(response, usage=RequestUsage())


def encode_answer(response: ModelResponse) -> bytes:
    """Returns an answer as bytes."""
    return ModelMessagesTypeAdapter.dump_json([response])


def key(
    owner: str, messages: Sequence[ModelMessage], settings: ModelSettings | None, parameters: ModelRequestParameters
) -> str:
    """Returns what an answer is kept under: a hash of `owner` (the agent and its models) and of the whole request.

    That is the system prompt with what was recalled, the history, the tools and the settings. When it was asked, and in
    which run, is left out. What is not known here is part of it, so that in doubt two requests are two.
    """
    told = [
        {
            name: [_without(part, _OF_THE_RUN) for part in value] if name == "parts" else value
            for name, value in message.items()
            if name in _SENT
        }
        for message in ModelMessagesTypeAdapter.dump_python(list(messages), mode="json")
    ]
    whole = json.dumps([owner, told, dict(settings or {}), repr(parameters)], sort_keys=True, default=repr)
    return hashlib.sha256(whole.encode()).hexdigest()


def uses_tools(messages: Sequence[ModelMessage]) -> bool:
    """Returns whether a request is about calls of tools: their results are of the moment."""
    return any(part.part_kind in _TOOL_PARTS for message in messages for part in message.parts)


def worth_keeping(response: ModelResponse) -> bool:
    """Returns whether an answer may be given again.

    One that calls a tool acts on the world, one that was cut short is none, and one of a fallback would stand in for
    the model long after that is back.
    """
    return (
        response.state == "complete"
        and response.finish_reason == "stop"
        and not response.failed_attempts
        and bool(response.parts)
        and all(isinstance(part, TextPart) for part in response.parts)
    )


def freshness(age: float, cache: Cache) -> Freshness:
    """Returns what may be done with an answer of an age in seconds."""
    if age < cache.ttl * cache.refresh_ahead:
        return "fresh"
    if age < cache.ttl:
        return "early"
    return "stale" if age < cache.ttl + cache.stale else "dead"


class Layer(Protocol):
    """A place where answers are kept."""

    name: str

    async def get(self, key: str) -> bytes | None:
        """Returns what is kept under a key."""
        ...

    async def put(self, key: str, value: bytes, seconds: float) -> None:
        """Keeps a value for some seconds at most."""


class MemoryLayer:
    """The first layer: the entries used last, in this process, of `most` bytes together."""

    name = "memory"

    def __init__(self, entries: int, most: int = LARGEST_MEMORY) -> None:
        self._entries = entries
        self._most = most
        self._bytes = 0
        self._kept: OrderedDict[str, bytes] = OrderedDict()

    async def get(self, key: str) -> bytes | None:
        """See `Layer`. It does not wait for anything."""
        value = self._kept.get(key)
        if value is not None:
            self._kept.move_to_end(key)
        return value

    async def put(self, key: str, value: bytes, seconds: float) -> None:  # noqa: ARG002 - age is judged by the reader
        """See `Layer`."""
        self.keep(key, value)

    def keep(self, key: str, value: bytes) -> None:
        """Keeps a value, at once."""
        self._bytes += len(value) - len(self._kept.pop(key, b""))
        self._kept[key] = value
        while len(self._kept) > self._entries or self._bytes > self._most:
            self._bytes -= len(self._kept.popitem(last=False)[1])


class RedisLayer:
    """The second layer: shared by the replicas of an agent."""

    name = "redis"

    def __init__(self, redis: SparingRedis, *, prefix: str) -> None:
        self._redis = redis
        self._prefix = prefix

    async def get(self, key: str) -> bytes | None:
        """See `Layer`."""
        value = await self._redis.tried(lambda: self._redis.client.get(self._prefix + key))
        return value if isinstance(value, bytes) else None

    async def put(self, key: str, value: bytes, seconds: float) -> None:
        """See `Layer`."""
        most = max(1, int(seconds * 1000))
        await self._redis.tried(lambda: self._redis.client.set(self._prefix + key, value, px=most))

    async def close(self) -> None:
        """Closes the connections."""
        await self._redis.close()


class DiskLayer:
    """The third layer: one file per answer, readable by this user alone, the oldest removed above a size in bytes.

    Files are counted once in a tenth of `limit`, and that much is left free, so that they never take more.
    """

    name = "disk"

    def __init__(self, folder: Path, limit: int) -> None:
        self._folder = folder
        self._step = limit // 10
        self._kept = limit - self._step
        self._uncounted = limit

    async def get(self, key: str) -> bytes | None:
        """See `Layer`."""
        return await asyncio.to_thread(self._read, key)

    async def put(self, key: str, value: bytes, seconds: float) -> None:  # noqa: ARG002 - age is judged by the reader
        """See `Layer`."""
        await asyncio.to_thread(self._write, key, value)

    def _read(self, key: str) -> bytes | None:
        try:
            return (self._folder / key).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            logger.warning("the model cache on disk cannot be read: %s", error)
            return None

    def _write(self, key: str, value: bytes) -> None:
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with tempfile.NamedTemporaryFile(dir=self._folder, prefix=".", delete=False) as file:
                try:
                    file.write(value)
                    file.flush()
                    Path(file.name).replace(self._folder / key)
                except OSError:
                    # A full disk would be given another file by every answer.
                    Path(file.name).unlink(missing_ok=True)
                    raise
            self._uncounted += len(value)
            if self._uncounted >= self._step:
                self._uncounted = 0
                self._prune()
        except OSError as error:
            logger.warning("the model cache on disk cannot be written: %s", error)

    def _prune(self) -> None:
        found = []
        for file in self._folder.iterdir():
            with suppress(FileNotFoundError):  # just renamed or removed by another answer
                found.append((file.stat(), file))
        files = sorted(found, key=lambda each: each[0].st_mtime)
        excess = sum(stat.st_size for stat, _ in files) - self._kept
        for stat, file in files:
            if excess <= 0:
                return
            file.unlink(missing_ok=True)
            excess -= stat.st_size


def _without(part: dict[str, Any], names: frozenset[str]) -> dict[str, Any]:
    return {name: value for name, value in part.items() if name not in names}

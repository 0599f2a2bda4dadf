"""What a skill's code may import: the shape of its context, and the exception for an expected failure.

    from openclaw_skill import Context, SkillError

    async def greet(ctx: Context, input: dict) -> dict:
        if not input.get("name"):
            raise SkillError("name is empty; say whom to greet")
        ctx.logger.info("greeting %s", input["name"])
        return {"text": await ctx.llm.generate(f"Greet {input['name']}.")}

An action may also be a plain `def`: it then runs in a thread, its context is a `SyncContext`, and the same methods
block until their answer is there.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Protocol

__all__ = ["LLM", "Call", "Context", "ContextError", "Memory", "SkillError", "SyncContext", "SyncLLM", "SyncMemory"]


class SkillError(Exception):
    """An expected failure: its message is shown to the user as it is."""


class ContextError(Exception):
    """The agent refused or could not do what the skill asked of its context. `code` is the JSON-RPC code."""

    def __init__(self, message: str, code: int = -32603) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Call:
    """Which call this is."""

    id: str
    agent: str
    session: str
    skill: str
    action: str


class LLM(Protocol):
    """The agent's model."""

    async def generate(self, prompt: str, **options: Any) -> str:
        """Returns the model's answer. Options: system (str), temperature (float), maxTokens (int), fallback (str).

        `fallback` is the answer when the model gives none.
        """
        ...


class Memory(Protocol):
    """The agent's memory."""

    async def add(self, record: dict[str, Any]) -> str:
        """Stores a record (a JSON object, `type` is its kind) and returns its id."""
        ...

    async def search(self, query: str, limit: int = 5) -> list[dict[str, Any]]:
        """Returns up to `limit` records, best first."""
        ...


class Context(Protocol):
    """What an `async def` action is given."""

    @property
    def llm(self) -> LLM: ...
    @property
    def memory(self) -> Memory: ...
    @property
    def logger(self) -> logging.Logger: ...
    @property
    def workspace(self) -> Path | None: ...
    @property
    def scratch(self) -> Path: ...
    @property
    def config(self) -> Mapping[str, Any]: ...
    @property
    def secrets(self) -> Mapping[str, str]: ...
    @property
    def allowed_domains(self) -> tuple[str, ...]: ...
    @property
    def call(self) -> Call: ...

    async def ask(self, question: str) -> str:
        """Asks the user and returns the answer."""
        ...

    async def attach(
        self, name: str, data: bytes | None = None, *, path: str | PathLike[str] | None = None, media_type: str = ""
    ) -> None:
        """Gives a file with the result: `data`, or what is at `path`.

        `name` is a file's name without a path; `media_type` goes by it where it is left out. At most 16 for a call,
        8 MiB each, 16 MiB in all. Raises `ContextError` (code -32011) for one that is over these limits.
        """

    async def progress(self, fraction: float, message: str = "") -> None:
        """Reports how far the work is, 0.0 to 1.0."""


class SyncLLM(Protocol):
    """The agent's model, for a plain `def` action."""

    def generate(self, prompt: str, **options: Any) -> str:
        """Like `LLM.generate`."""
        ...


class SyncMemory(Protocol):
    """The agent's memory, for a plain `def` action."""

    def add(self, record: dict[str, Any]) -> str:
        """Like `Memory.add`."""
        ...

    def search(self, query: str, limit: int = 5) -> list[dict[str, Any]]:
        """Like `Memory.search`."""
        ...


class SyncContext(Protocol):
    """What a plain `def` action is given."""

    @property
    def llm(self) -> SyncLLM: ...
    @property
    def memory(self) -> SyncMemory: ...
    @property
    def logger(self) -> logging.Logger: ...
    @property
    def workspace(self) -> Path | None: ...
    @property
    def scratch(self) -> Path: ...
    @property
    def config(self) -> Mapping[str, Any]: ...
    @property
    def secrets(self) -> Mapping[str, str]: ...
    @property
    def allowed_domains(self) -> tuple[str, ...]: ...
    @property
    def call(self) -> Call: ...

    def ask(self, question: str) -> str:
        """Like `Context.ask`."""
        ...

    def attach(
        self, name: str, data: bytes | None = None, *, path: str | PathLike[str] | None = None, media_type: str = ""
    ) -> None:
        """Like `Context.attach`."""

    def progress(self, fraction: float, message: str = "") -> None:
        """Like `Context.progress`."""

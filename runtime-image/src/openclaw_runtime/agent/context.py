"""What a running skill reaches back for, bound to one call of one turn."""

import json
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from openclaw_runtime.agent.events import Activity, Turn
from openclaw_runtime.agent.prompt import memory_view
from openclaw_runtime.agent.questions import Slot
from openclaw_runtime.errors import NoAnswerError
from openclaw_runtime.memory.types import SUMMARY, MemoryStore, NewRecord

logger = logging.getLogger("openclaw_runtime.skill")

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_TEXT_KEYS = ("text", "summary", "message", "content")
_KIND_KEYS = ("kind", "type")
_LONGEST_RECORD = 64_000
_MOST_RECORDS = 50
_MOST_QUESTIONS = 20

Generate = Callable[[str, Mapping[str, Any]], Awaitable[str]]
"""Asks the model: a prompt and the options system, temperature, maxTokens."""

AskUser = Callable[[Turn, str], Awaitable[str]]
"""Puts a question to the user of a turn and returns the answer. Raises `OpenClawError`."""


def to_record(record: Mapping[str, Any], *, skill: str, action: str, session: str) -> NewRecord:
    """Returns a skill's record as memory keeps it. Its scope is team: what a skill did matters to the whole team.

    The text is the record's text, summary, message or content, else all of it as JSON; kind (or type) and importance
    (0 to 1) are taken over; the rest is metadata. Raises `ValueError` when the record is empty or too large, or of
    a kind that skills do not write.
    """
    text = next((str(record[key]) for key in _TEXT_KEYS if record.get(key)), "")
    text = text or json.dumps(record, default=str, ensure_ascii=False)
    if not record or len(text) > _LONGEST_RECORD:
        raise ValueError(f"a record must hold 1 to {_LONGEST_RECORD} characters")
    used = {*_TEXT_KEYS, *_KIND_KEYS, "importance"}
    importance = record.get("importance", 0.7)
    if not isinstance(importance, int | float) or not 0 <= importance <= 1:
        raise ValueError(f"importance is {importance!r}; it must be a number from 0 to 1")
    kind = next((str(record[key])[:64] for key in _KIND_KEYS if record.get(key)), "note")
    if kind == SUMMARY:
        raise ValueError(f"kind is {kind!r}, which is for what the agent itself summarises; give another, like note")
    return NewRecord(
        text=text,
        kind=kind,
        scope="team",
        session=session,
        importance=float(importance),
        metadata={key: value for key, value in record.items() if key not in used} | {"skill": skill, "action": action},
    )


@dataclass
class SkillContext:
    """The `CallContext` of one skill call. `slot` is its place among the calls at once."""

    turn: Turn
    skill: str
    action: str
    memory: MemoryStore
    generate: Generate
    ask_user: AskUser
    slot: Slot
    written: int = 0
    asked: int = 0

    async def log(self, level: str, message: str, fields: Mapping[str, Any]) -> None:
        """See `CallContext`."""
        extra = {"skill": self.skill, "action": self.action, "fields": dict(fields)}
        logger.log(_LEVELS.get(level, logging.INFO), "%s", message, extra=extra)

    async def progress(self, fraction: float, message: str) -> None:
        """See `CallContext`."""
        self.turn.emit(Activity(f"{self.skill} {self.action} {fraction:.0%} {message}"))

    async def memory_add(self, record: dict[str, Any]) -> str:
        """See `CallContext`. Raises `ValueError` for a record that cannot be kept, or one too many."""
        self.written += 1
        if self.written > _MOST_RECORDS:
            raise ValueError(f"a call may add at most {_MOST_RECORDS} records")
        session = self.turn.request.session
        new = to_record(record, skill=self.skill, action=self.action, session=session)
        return (await self.memory.add(new)).id

    async def memory_search(self, query: str, limit: int) -> Sequence[Mapping[str, Any]]:
        """See `CallContext`. A skill sees the records of its own agent."""
        found = await self.memory.search(query, max(1, min(limit, 50)))
        return [memory_view(item.record) | {"id": item.record.id, "score": item.score} for item in found]

    async def llm_generate(self, prompt: str, options: dict[str, Any]) -> str:
        """See `CallContext`. Raises `ModelError`."""
        return await self.generate(prompt, options)

    async def ask(self, question: str) -> str:
        """See `CallContext`. Raises `NoAnswerError` when there is nobody to ask, or no answer in time."""
        self.asked += 1
        if self.asked > _MOST_QUESTIONS:
            raise NoAnswerError(f"a call may ask at most {_MOST_QUESTIONS} questions")
        async with self.slot.given_up():
            return await self.ask_user(self.turn, question)

"""The context of a call that no turn made: it may log, and has nothing else."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from openclaw_runtime.skills.errors import SkillsError

_log = logging.getLogger(__name__)


class Unattended:
    """Implements `CallContext`."""

    async def log(self, level: str, message: str, fields: Mapping[str, Any]) -> None:
        """Passes a line on to the gateway's own log."""
        _log.info("%s: %s", level, message, extra={"fields": dict(fields)})

    async def progress(self, fraction: float, message: str) -> None:
        """Nobody waits for it."""

    async def memory_add(self, record: dict[str, Any]) -> str:
        """Raises `SkillsError`."""
        _refuse(record)

    async def memory_search(self, query: str, limit: int) -> Sequence[Mapping[str, Any]]:
        """Raises `SkillsError`."""
        _refuse(query, limit)

    async def llm_generate(self, prompt: str, options: dict[str, Any]) -> str:
        """Raises `SkillsError`."""
        _refuse(prompt, options)

    async def ask(self, question: str) -> str:
        """Raises `SkillsError`."""
        _refuse(question)


def _refuse(*_asked: object) -> NoReturn:
    raise SkillsError("nobody has called this skill: there is no session, memory or model here")

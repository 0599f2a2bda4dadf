"""Calls made from a terminal: a context that speaks with whoever sits there, and sandboxes on this machine."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import typer

from openclaw_runtime.sandbox.local_executor import SubprocessExecutor
from openclaw_runtime.skills.audit import Audit
from openclaw_runtime.skills.errors import SkillsError
from openclaw_runtime.skills.mcp.executor import McpExecutor
from openclaw_runtime.skills.registry import SkillRegistry
from openclaw_runtime.skills.service import SkillService


class NobodyError(SkillsError):
    """The skill asks something and nobody is there to answer. `str()` says what to do."""


class ConsoleContext:
    """A call's context at a terminal: logs go to stderr, questions to whoever sits there, memory lasts for the run."""

    def __init__(self, answers: Sequence[str]) -> None:
        self._answers = list(answers)
        self.records: list[dict[str, Any]] = []

    async def log(self, level: str, message: str, fields: Mapping[str, Any]) -> None:
        """Prints a log line."""
        typer.echo(f"{level}: {message}{f' {dict(fields)}' if fields else ''}", err=True)

    async def progress(self, fraction: float, message: str) -> None:
        """Prints progress."""
        typer.echo(f"{fraction:4.0%} {message}", err=True)

    async def memory_add(self, record: dict[str, Any]) -> str:
        """Keeps a record."""
        self.records.append(record)
        typer.echo(f"memory: {json.dumps(record, ensure_ascii=False)}", err=True)
        return str(len(self.records))

    async def memory_search(self, query: str, limit: int) -> list[dict[str, Any]]:
        """Returns the records that hold the query."""
        return [record for record in self.records if query.lower() in json.dumps(record).lower()][:limit]

    async def llm_generate(self, prompt: str, options: dict[str, Any]) -> str:
        """Asks the terminal in place of a model."""
        del options
        typer.echo(f"--- the model is asked ---\n{prompt}\n---", err=True)
        return await self._answer("answer as the model")

    async def ask(self, question: str) -> str:
        """Asks the terminal."""
        typer.echo(question, err=True)
        return await self._answer("answer")

    async def _answer(self, prompt: str) -> str:
        if self._answers:
            return self._answers.pop(0)
        if not sys.stdin.isatty():
            raise NobodyError("the skill asks something and no terminal is there; give --answer for each question")
        return await asyncio.to_thread(typer.prompt, prompt, err=True)


@asynccontextmanager
async def local_skills(workspace: Path | None = None) -> AsyncIterator[SkillService]:
    """Skills run in sandboxes of this machine, each started when it is needed, for as long as the block lasts."""
    executor = McpExecutor(SubprocessExecutor(workspace=workspace, warm=0, limit=2))
    service = SkillService("cli", SkillRegistry("local"), executor, Audit([]))
    await executor.start()
    try:
        yield service
    finally:
        await executor.close()

"""A skill's context without a sandbox: what `ctx` offers, answered from memory, and a loader for a skill's folder."""

from __future__ import annotations

import importlib
import logging
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

from openclaw_runtime.sandbox.runner.context import read_file


@dataclass
class FakeModel:
    """Gives the prepared `replies` in order and keeps the prompts it was given."""

    replies: list[str] = field(default_factory=list)
    prompts: list[str] = field(default_factory=list)

    async def generate(self, prompt: str, **_options: Any) -> str:
        self.prompts.append(prompt)
        if not self.replies:
            raise AssertionError(f"the skill asked the model once more than the test prepared for: {prompt[:200]}")
        return self.replies.pop(0)


@dataclass
class FakeMemory:
    """Records in a list; a search returns those whose JSON holds every word of the query."""

    records: list[dict[str, Any]] = field(default_factory=list)

    async def add(self, record: dict[str, Any]) -> str:
        self.records.append(record)
        return f"record-{len(self.records)}"

    async def search(self, query: str, limit: int = 5) -> list[dict[str, Any]]:
        words = query.lower().split()
        return [record for record in self.records if all(word in str(record).lower() for word in words)][:limit]


@dataclass
class FakeContext:
    """The `ctx` of one call: set its fields before the call, look at them after it."""

    workspace: Path | None
    scratch: Path
    config: dict[str, Any] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict)
    answers: list[str] = field(default_factory=list)
    allowed_domains: tuple[str, ...] = ()
    llm: FakeModel = field(default_factory=FakeModel)
    memory: FakeMemory = field(default_factory=FakeMemory)
    questions: list[str] = field(default_factory=list)
    reports: list[tuple[float, str]] = field(default_factory=list)
    attachments: dict[str, bytes] = field(default_factory=dict)
    logger: logging.Logger = field(default_factory=lambda: logging.getLogger("skill"))
    call: SimpleNamespace = field(
        default_factory=lambda: SimpleNamespace(id="call-1", agent="tester", session="s-1", skill="", action="")
    )

    async def ask(self, question: str) -> str:
        self.questions.append(question)
        return self.answers.pop(0)

    async def attach(
        self, name: str, data: bytes | None = None, *, path: str | Path | None = None, media_type: str = ""
    ) -> None:
        del media_type
        self.attachments[name] = read_file(path) if path is not None else data or b""

    async def progress(self, fraction: float, message: str = "") -> None:
        self.reports.append((fraction, message))


def load_skill(folder: Path) -> dict[str, ModuleType]:
    """Imports the modules of `folder`/scripts as the sandbox does, siblings by plain name, and returns them by name.

    They are taken out of `sys.modules` again, so that two skills may each have a module of the same name.
    """
    scripts = folder / "scripts"
    names = sorted(path.stem for path in scripts.glob("*.py"))
    hidden = {name: sys.modules.pop(name) for name in names if name in sys.modules}
    sys.path.insert(0, str(scripts))
    try:
        importlib.invalidate_caches()
        return {name: importlib.import_module(name) for name in names}
    finally:
        sys.path.remove(str(scripts))
        for name in names:
            sys.modules.pop(name, None)
        sys.modules.update(hidden)

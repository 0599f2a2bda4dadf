"""One line per step, with its time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.markup import escape


@dataclass
class Progress:
    """Prints `✓ 1.2s  what was done`; on a terminal the running step shows a spinner."""

    console: Console = field(default_factory=lambda: Console(stderr=True, highlight=False))

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        started = time.monotonic()
        try:
            if self.console.is_terminal:
                with self.console.status(f"       {escape(title)} …"):
                    yield
            else:
                yield
        except BaseException:
            self._line("[red]✗[/]", started, title)
            raise
        self._line("[green]✓[/]", started, title)

    def note(self, text: str) -> None:
        self.console.print(f"         {escape(text)}", style="dim", soft_wrap=True)

    def _line(self, mark: str, started: float, title: str) -> None:
        self.console.print(f"{mark} {time.monotonic() - started:6.1f}s {escape(title)}", soft_wrap=True)

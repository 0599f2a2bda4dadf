"""What the demo shows: one line per step with its time, the conversation as it happens, and a summary."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.box import ROUNDED, SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table

log = logging.getLogger("demo")


@dataclass
class Report:
    """Prints to the console and remembers how long each step took."""

    console: Console = field(default_factory=lambda: Console(highlight=False))
    times: list[tuple[str, float]] = field(default_factory=list)

    def phase(self, title: str) -> None:
        self.console.print(f"\n[bold cyan]{escape(title)}[/]")

    @contextmanager
    def step(self, title: str, *, remember: str | None = None) -> Iterator[None]:
        """One line when it is done; a spinner on a terminal while it runs. `remember` is its name in the summary."""
        log.info("begin %s", title)
        started = time.monotonic()
        try:
            if self.console.is_terminal:
                with self.console.status(f"        {escape(title)} …"):
                    yield
            else:
                yield
        except BaseException as error:
            log.exception("failed %s", title)
            if not isinstance(error, GeneratorExit):
                self._line("[red]✗[/]", time.monotonic() - started, title)
            raise
        seconds = time.monotonic() - started
        log.info("done in %.2f s: %s", seconds, title)
        self._line("[green]✓[/]", seconds, title)
        self.times.append((remember or title, seconds))

    def mark(self, seconds: float, title: str) -> None:
        """A step that ran beside others."""
        log.info("%.2f s: %s", seconds, title)
        self._line("[green]✓[/]", seconds, title)

    def _line(self, mark: str, seconds: float, title: str) -> None:
        self.console.print(f"{mark} {seconds:5.1f} s {escape(title)}", soft_wrap=True)

    def note(self, text: str) -> None:
        log.info("%s", text)
        self.console.print(f"          {escape(text)}", style="dim", soft_wrap=True)

    def block(self, title: str, text: str) -> None:
        """Output of a program."""
        log.info("%s\n%s", title, text)
        self.console.print(Panel(escape(text.rstrip()), title=escape(title), title_align="left", box=ROUNDED))

    def conversation(self, who: str, question: str, agent: str, answer: Iterator[str]) -> str:
        """A question and its answer, printed as it comes; returns the answer."""
        self.console.print(f"\n[bold]{escape(who)}[/]  {escape(question)}", soft_wrap=True)
        self.console.print(f"[bold green]{escape(agent)}[/]  ", end="")
        started, first, said = time.monotonic(), 0.0, []
        for piece in answer:
            first = first or time.monotonic() - started
            said.append(piece)
            self.console.print(piece, end="", markup=False, soft_wrap=True)
        seconds = time.monotonic() - started
        self.console.print(f"\n[dim]          first words after {first:.2f} s, all after {seconds:.2f} s[/]")
        self.times.append((f"“{question}”", seconds))
        text = "".join(said)
        log.info("%s: %s\n%s: %s (%.2f s, first after %.2f s)", who, question, agent, text, seconds, first)
        return text

    def summary(self, rows: list[tuple[str, str]]) -> None:
        """Times of all steps, then what to do next."""
        table = Table(box=SIMPLE_HEAD, title="Where the time went", title_justify="left")
        table.add_column("step")
        table.add_column("seconds", justify="right")
        for title, seconds in self.times:
            table.add_row(escape(title), f"{seconds:.1f}")
        table.add_row("[bold]together[/]", f"[bold]{sum(seconds for _, seconds in self.times):.1f}[/]")
        self.console.print()
        self.console.print(table)
        for name, text in rows:
            self.console.print(f"[bold]{escape(name):<12}[/] {escape(text)}", soft_wrap=True)

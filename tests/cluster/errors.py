"""The errors of the test cluster, one small tree: every message names what failed and how to fix it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


class ClusterError(Exception):
    """The command could not do its work. The message is the one line the user reads."""

    exit_code = 1


@dataclass(frozen=True)
class Problem:
    """One thing that is missing on the host, and what to do about it."""

    what: str
    fix: str

    def __str__(self) -> str:
        return f"{self.what}; fix: {self.fix}"


class PreflightError(ClusterError):
    """The host cannot carry the cluster. Nothing was changed."""

    exit_code = 2

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        super().__init__("\n".join(str(problem) for problem in problems))


class CommandError(ClusterError):
    """A program that was run to its end failed."""

    def __init__(self, command: list[str], code: int, output: str) -> None:
        self.command = command
        self.code = code
        self.output = output
        super().__init__(f"`{' '.join(command)}` ended with {code}:\n{output.rstrip()}")


class ComponentError(ClusterError):
    """A long-running component ended or never became ready; carries the last lines of its log."""

    def __init__(self, component: str, reason: str, log: Path) -> None:
        self.component = component
        self.log = log
        super().__init__(f"{component} {reason}; last lines of {log}:\n{last_lines(log)}")


def last_lines(path: Path, count: int = 15) -> str:
    """The end of a log file, without reading all of it."""
    if not path.exists():
        return "  (no log was written)"
    with path.open("rb") as file:
        file.seek(0, 2)
        file.seek(max(0, file.tell() - 32 * 1024))
        lines = file.read().decode(errors="replace").splitlines()
    return "\n".join(f"  {line}" for line in lines[-count:])

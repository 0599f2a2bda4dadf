"""What a check found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warning", "failure"]
SIGNS: dict[Level, str] = {"ok": "✓", "warning": "!", "failure": "✗"}


@dataclass(frozen=True)
class Finding:
    """One line of the report; `fix` says what to do about a warning or a failure."""

    check: str
    level: Level
    message: str
    fix: str = ""


def ok(check: str, message: str) -> Finding:
    """All is well."""
    return Finding(check, "ok", message)


def warning(check: str, message: str, fix: str) -> Finding:
    """Something may be missing, or could not be looked at."""
    return Finding(check, "warning", message, fix)


def failure(check: str, message: str, fix: str) -> Finding:
    """Agents cannot run, or not safely."""
    return Finding(check, "failure", message, fix)

"""The errors of the runtime: one tree.

Every error says in one line what is wrong and how to mend it. Sandbox errors have their own tree
(`openclaw_runtime.sandbox.errors`), because the sandbox pod imports nothing of the gateway.
"""

from collections.abc import Sequence
from dataclasses import dataclass


class OpenClawError(Exception):
    """Base of everything the runtime raises on purpose. `str()` is fit for a user."""


@dataclass(frozen=True, slots=True)
class ConfigProblem:
    """One wrong key or value: where it is, what is there, what may be there."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


class ConfigError(OpenClawError):
    """The configuration cannot be used. The command line exits with 2."""

    def __init__(self, source: str, problems: Sequence[ConfigProblem]) -> None:
        self.source = source
        self.problems = tuple(problems)
        super().__init__("\n".join(f"{source}: {problem}" for problem in self.problems))


class ModelError(OpenClawError):
    """The language model did not answer. `status` is the HTTP status a caller of the gateway gets."""

    def __init__(self, message: str, *, status: int = 502, code: str = "model_error") -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class TurnError(OpenClawError):
    """A turn could not be finished: a limit was reached or it took too long."""

    def __init__(self, message: str, *, status: int, code: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class NoAnswerError(OpenClawError):
    """A skill asked its user something and there is no answer: nobody to ask, too late, or the gateway is ending."""


class MemoryStoreError(OpenClawError):
    """The memory store refused or could not be reached."""


class BackupError(OpenClawError):
    """A backup could not be made, found, read or restored."""


class NoSuchBackupError(BackupError):
    """What is to be restored was never saved: to look once more would find it no sooner."""


class BusError(OpenClawError):
    """A message could not be sent or answered."""


class BusTimeoutError(BusError):
    """Nobody answered in time."""


class RemoteAgentError(BusError):
    """The other agent answered with an error."""

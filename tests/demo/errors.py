"""What can go wrong in the demo: each message is what the user reads."""

from __future__ import annotations


class DemoError(Exception):
    """A step could not be done; `detail` goes to the log, the message to the screen."""

    exit_code = 1

    def __init__(self, message: str, detail: str = "") -> None:
        super().__init__(message)
        self.detail = detail


class SetUpError(DemoError):
    """Something about the host or the environment is wrong, and nothing was changed."""

    exit_code = 2

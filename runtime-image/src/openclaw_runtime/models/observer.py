"""Who is told what models do."""

from typing import Protocol


class ModelObserver(Protocol):
    """Counts what happens to requests. `reason` is one of a few words, see `failures.reason`."""

    def model_retried(self, provider: str, model: str, reason: str) -> None:
        """An attempt failed and is made again."""

    def model_failed(self, provider: str, model: str, reason: str) -> None:
        """A model did not answer a request, retries included."""

    def model_stood_in(self, provider: str, model: str) -> None:
        """A model answered in place of one that failed before it."""

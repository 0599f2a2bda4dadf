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

    def model_cache_asked(self, result: str) -> None:
        """The cache was asked for an answer; `result` is the layer that had it, shared or miss."""

    def model_cache_refreshed(self, outcome: str) -> None:
        """An answer that grew old was asked for anew."""

    def model_called(self, provider: str, model: str, seconds: float, failure: str) -> None:
        """A request to a provider ended; `failure` is its reason or empty."""

    def model_used(self, provider: str, model: str, input_tokens: int, output_tokens: int, usd: float | None) -> None:
        """An answer took so many tokens and so much money; None if its price is not known."""


class BackgroundObserver(Protocol):
    """Counts requests in the background. `outcome` is batch, single, fallback or failed."""

    def background_waiting(self, requests: int) -> None:
        """So many requests wait for others to end."""

    def background_done(self, outcome: str) -> None:
        """A request was answered so, or not at all."""

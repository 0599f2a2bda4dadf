"""Retries of model requests."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, TypeVar

from pydantic_ai import RunContext
from pydantic_ai.exceptions import (
    ModelAPIError,
    ModelConnectionError,
    ModelHTTPError,
    ModelQuotaExceededError,
    ModelRateLimitError,
)
from pydantic_ai.messages import ModelMessage, ModelResponse
from pydantic_ai.models import Model, ModelRequestParameters, StreamedResponse
from pydantic_ai.models.wrapper import WrapperModel
from pydantic_ai.settings import ModelSettings

T = TypeVar("T")

RETRIES = 3
_BASE_MS = 1_000
_LONGEST_MS = 10_000
_PASSING = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})


def delay_ms(attempt: int, *, rate_limited: bool, random: float, retry_after: float | None = None) -> float:
    """Returns the milliseconds to wait after failed attempt number `attempt` (from 0).

    After a rate limit min(1000 · 2^attempt + jitter, 10000), with `random` in [0, 1) giving up to 1000 ms of jitter;
    otherwise linear, 1000 · (attempt + 1). What the provider asks for (`retry_after`, seconds) is kept to, up to the
    same 10000.
    """
    wanted = _BASE_MS * 2**attempt + random * _BASE_MS if rate_limited else _BASE_MS * (attempt + 1)
    return min(max(wanted, (retry_after or 0) * 1000), _LONGEST_MS)


def is_passing(error: ModelAPIError) -> bool:
    """Returns whether the same request may succeed later. An error inside a stream is not: text was already sent."""
    if error.in_stream or isinstance(error, ModelQuotaExceededError):
        return False
    if isinstance(error, ModelHTTPError):
        return error.status_code in _PASSING
    return isinstance(error, ModelConnectionError | ModelRateLimitError)


class RetryingModel(WrapperModel):
    """Repeats a request that failed in passing, up to 3 times. `sleep` takes seconds, `random` is in [0, 1)."""

    def __init__(
        self, wrapped: Model, *, sleep: Callable[[float], Awaitable[None]], random: Callable[[], float]
    ) -> None:
        super().__init__(wrapped)
        self._sleep = sleep
        self._random = random

    async def request(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> ModelResponse:
        """Makes a request. Raises what the last attempt raised."""
        return await self._repeated(lambda: self.wrapped.request(messages, model_settings, model_request_parameters))

    @asynccontextmanager
    async def request_stream(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
        run_context: RunContext[Any] | None = None,
    ) -> AsyncGenerator[StreamedResponse]:
        """Opens a stream. Only opening is repeated, never a stream that broke."""
        async with AsyncExitStack() as stack:
            yield await self._repeated(
                lambda: stack.enter_async_context(
                    self.wrapped.request_stream(messages, model_settings, model_request_parameters, run_context)
                )
            )

    async def _repeated(self, attempt_once: Callable[[], Awaitable[T]]) -> T:
        for attempt in range(RETRIES):
            try:
                return await attempt_once()
            except ModelAPIError as error:
                if not is_passing(error):
                    raise
                limited = isinstance(error, ModelRateLimitError)
                wait = delay_ms(attempt, rate_limited=limited, random=self._random(), retry_after=error.retry_after)
            await self._sleep(wait / 1000)
        return await attempt_once()

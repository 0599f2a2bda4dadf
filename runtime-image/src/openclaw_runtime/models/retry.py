"""Retries of model requests."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from opentelemetry.trace import get_current_span
from pydantic_ai import RunContext
from pydantic_ai.exceptions import (
    AgentRunError,
    ModelAPIError,
    ModelConnectionError,
    ModelHTTPError,
    ModelQuotaExceededError,
    ModelRateLimitError,
    ModelTimeoutError,
)
from pydantic_ai.messages import ModelMessage, ModelResponse
from pydantic_ai.models import Model, ModelRequestParameters, StreamedResponse
from pydantic_ai.models.wrapper import WrapperModel
from pydantic_ai.settings import ModelSettings

from openclaw_runtime.models.failures import reason
from openclaw_runtime.models.observer import ModelObserver
from openclaw_runtime.models.sections import Retry

T = TypeVar("T")

_PASSING = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})


def delay_ms(
    policy: Retry, attempt: int, *, rate_limited: bool, random: float, retry_after: float | None = None
) -> float:
    """Returns the milliseconds to wait after failed attempt number `attempt` (from 0).

    After a rate limit min(base · 2^attempt + jitter, longest), with `random` in [0, 1) giving a jitter of up to the
    base; otherwise linear, base · (attempt + 1). What the provider asks for (`retry_after`, seconds) is kept to, up to
    the same longest pause.
    """
    base = policy.base_delay
    wanted = base * 2**attempt + random * base if rate_limited else base * (attempt + 1)
    return min(max(wanted, (retry_after or 0) * 1000), policy.max_delay)


def is_passing(error: ModelAPIError) -> bool:
    """Returns whether the same request may succeed later. An error inside a stream is not: text was already sent."""
    if error.in_stream or isinstance(error, ModelQuotaExceededError):
        return False
    if isinstance(error, ModelHTTPError):
        return error.status_code in _PASSING
    return isinstance(error, ModelConnectionError | ModelRateLimitError)


@dataclass(frozen=True)
class Pauses:
    """How retries wait: `sleep` takes seconds, `random` is in [0, 1)."""

    sleep: Callable[[float], Awaitable[None]]
    random: Callable[[], float]


class RetryingModel(WrapperModel):
    """Repeats a request that failed in passing.

    `place` is this model's among those that are asked one after the other (0 is asked first). Where another follows, a
    model that did not answer in time is not asked again: the turn's time is better spent on the next.
    """

    def __init__(
        self,
        wrapped: Model,
        policy: Retry,
        pauses: Pauses,
        observer: ModelObserver,
        *,
        provider: str,
        place: int = 0,
        last: bool = True,
    ) -> None:
        super().__init__(wrapped)
        self._policy = policy
        self._pauses = pauses
        self._observer = observer
        self._served_by = provider
        self._place = place
        self._last = last

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
        attempt = 0
        while True:
            try:
                answer = await self._in_time(attempt_once)
            except AgentRunError as error:
                if not (isinstance(error, ModelAPIError) and attempt < self._policy.retries and self._again(error)):
                    self._observer.model_failed(self._served_by, self.model_name, reason(error))
                    raise
                limited = isinstance(error, ModelRateLimitError)
                wait = delay_ms(
                    self._policy,
                    attempt,
                    rate_limited=limited,
                    random=self._pauses.random(),
                    retry_after=error.retry_after,
                )
                self._tell_retry(attempt, wait, reason(error))
            else:
                self._tell_answer()
                return answer
            await self._pauses.sleep(wait / 1000)
            attempt += 1

    async def _in_time(self, attempt_once: Callable[[], Awaitable[T]]) -> T:
        seconds = self._policy.timeout / 1000
        try:
            async with asyncio.timeout(seconds) as limit:
                return await attempt_once()
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise ModelTimeoutError(self.model_name, f"no answer within {seconds:g} s") from error

    def _again(self, error: ModelAPIError) -> bool:
        return is_passing(error) and (self._last or not isinstance(error, ModelTimeoutError))

    def _tell_retry(self, attempt: int, wait: float, why: str) -> None:
        self._observer.model_retried(self._served_by, self.model_name, why)
        get_current_span().add_event(
            "openclaw.model.retry",
            {
                "gen_ai.request.model": self.model_name,
                "openclaw.attempt": attempt + 1,
                "openclaw.wait_ms": wait,
                "error.type": why,
            },
        )

    def _tell_answer(self) -> None:
        if self._place == 0:
            return
        self._observer.model_stood_in(self._served_by, self.model_name)
        get_current_span().add_event(
            "openclaw.model.fallback",
            {"gen_ai.request.model": self.model_name, "openclaw.place": self._place},
        )

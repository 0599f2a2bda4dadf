"""What each request to a provider took: time, tokens, money."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from pydantic_ai import RunContext
from pydantic_ai.exceptions import AgentRunError
from pydantic_ai.messages import ModelMessage, ModelResponse
from pydantic_ai.models import Model, ModelRequestParameters, StreamedResponse
from pydantic_ai.models.wrapper import WrapperModel
from pydantic_ai.settings import ModelSettings
from pydantic_ai.usage import RequestUsage

from openclaw_runtime.models.failures import reason
from openclaw_runtime.models.observer import ModelObserver
from openclaw_runtime.models.prices import estimated_tokens, price_usd, texts, tokens_of
from openclaw_runtime.models.sections import Endpoint
from openclaw_runtime.models.spending import Spending

_UNSAID = ModelResponse(parts=[])
CUT_OFF = "cancelled"
"""The failure of a request that whoever made it gave up, or a time limit ended."""


class MeteredModel(WrapperModel):
    """Counts the requests to one provider. `timer` is a monotonic clock in seconds.

    A provider that tells no usage, or a request that was cut off, is counted by an estimate: it was paid for all the
    same.
    """

    def __init__(
        self,
        wrapped: Model,
        endpoint: Endpoint,
        *,
        observer: ModelObserver,
        spending: Spending,
        timer: Callable[[], float],
    ) -> None:
        super().__init__(wrapped)
        self.endpoint = endpoint
        self._observer = observer
        self._spending = spending
        self._timer = timer

    async def request(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> ModelResponse:
        """Makes a request."""
        started = self._timer()
        try:
            response = await self.wrapped.request(messages, model_settings, model_request_parameters)
        except AgentRunError as error:
            self._called(started, reason(error))
            raise
        except asyncio.CancelledError:
            self._called(started, CUT_OFF)
            self._spent(messages, model_request_parameters, _UNSAID, cut_off=True)
            raise
        self._called(started, "")
        self._spent(messages, model_request_parameters, response)
        return response

    @asynccontextmanager
    async def request_stream(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
        run_context: RunContext[Any] | None = None,
    ) -> AsyncGenerator[StreamedResponse]:
        """Makes a request whose answer is streamed."""
        started, failure = self._timer(), ""
        answer: ModelResponse | None = None
        try:
            async with self.wrapped.request_stream(
                messages, model_settings, model_request_parameters, run_context
            ) as stream:
                try:
                    yield stream
                finally:
                    answer = stream.get()
        except AgentRunError as error:
            failure = reason(error)
            raise
        except (asyncio.CancelledError, GeneratorExit):
            failure, answer = CUT_OFF, answer or _UNSAID
            raise
        finally:
            self._called(started, failure)
            if answer is not None:
                self._spent(messages, model_request_parameters, answer, cut_off=failure == CUT_OFF)

    def _called(self, started: float, failure: str) -> None:
        self._observer.model_called(self.endpoint.provider, self.endpoint.model, self._timer() - started, failure)

    def _spent(
        self,
        messages: Sequence[ModelMessage],
        parameters: ModelRequestParameters,
        response: ModelResponse,
        *,
        cut_off: bool = False,
    ) -> None:
        usage = response.usage
        if not usage.output_tokens:
            said = tokens_of("".join(texts([response])))
            if not (said or usage.input_tokens or cut_off):
                return
            usage = RequestUsage(
                input_tokens=usage.input_tokens or estimated_tokens(messages, parameters), output_tokens=said
            )
        cost = price_usd(self.endpoint, usage)
        provider, model = self.endpoint.provider, self.endpoint.model
        self._observer.model_used(provider, model, usage.input_tokens, usage.output_tokens, cost)
        self._spending.record(
            provider, model, input_tokens=usage.input_tokens, output_tokens=usage.output_tokens, usd=cost or 0.0
        )

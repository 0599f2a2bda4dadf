"""A model whose key may change while the gateway runs."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from pydantic_ai import RunContext
from pydantic_ai.messages import ModelMessage, ModelResponse
from pydantic_ai.models import Model, ModelRequestParameters, StreamedResponse
from pydantic_ai.models.wrapper import WrapperModel
from pydantic_ai.settings import ModelSettings

from openclaw_runtime.secrets import Secret


class KeyedModel(WrapperModel):
    """Asks a provider with the key of this moment.

    The clients of OpenAI, Anthropic and Groq make the headers of each request from their attribute `api_key`.
    """

    def __init__(self, wrapped: Model, key: Secret) -> None:
        super().__init__(wrapped)
        self._client: Any = getattr(wrapped, "client")  # noqa: B009 - each of the three has one, their base has not
        self._key = key

    async def request(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> ModelResponse:
        """Makes a request."""
        self._client.api_key = self._key.get_secret_value()
        return await self.wrapped.request(messages, model_settings, model_request_parameters)

    @asynccontextmanager
    async def request_stream(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
        run_context: RunContext[Any] | None = None,
    ) -> AsyncGenerator[StreamedResponse]:
        """Makes a request whose answer is streamed."""
        self._client.api_key = self._key.get_secret_value()
        async with self.wrapped.request_stream(
            messages, model_settings, model_request_parameters, run_context
        ) as stream:
            yield stream

"""Images of users before models that cannot see."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from pydantic_ai import RunContext
from pydantic_ai.messages import BinaryContent, ModelMessage, ModelRequest, ModelResponse, UserContent, UserPromptPart
from pydantic_ai.models import ModelRequestParameters, StreamedResponse
from pydantic_ai.models.wrapper import WrapperModel
from pydantic_ai.settings import ModelSettings


class BlindModel(WrapperModel):
    """A model that is told of its user's images and not shown them. Of those of tools the library tells it."""

    async def request(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> ModelResponse:
        """Makes a request without images."""
        return await self.wrapped.request(_told(messages), model_settings, model_request_parameters)

    @asynccontextmanager
    async def request_stream(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
        run_context: RunContext[Any] | None = None,
    ) -> AsyncGenerator[StreamedResponse]:
        """Makes a request without images whose answer is streamed."""
        async with self.wrapped.request_stream(
            _told(messages), model_settings, model_request_parameters, run_context
        ) as stream:
            yield stream


def shows_images(messages: Sequence[ModelMessage]) -> bool:
    """Returns whether a user's message has an image: the same for all requests of a turn."""
    return any(isinstance(each, BinaryContent) for part in _asked(messages) for each in part.content)


def _asked(messages: Sequence[ModelMessage]) -> list[UserPromptPart]:
    parts = [part for message in messages if isinstance(message, ModelRequest) for part in message.parts]
    return [part for part in parts if isinstance(part, UserPromptPart) and not isinstance(part.content, str)]


def _told(messages: Sequence[ModelMessage]) -> list[ModelMessage]:
    """Returns messages with notes in the place of a user's images."""
    return [_without_images(each) if isinstance(each, ModelRequest) else each for each in messages]


def _without_images(message: ModelRequest) -> ModelRequest:
    if not _asked([message]):
        return message
    parts = [
        replace(part, content=[_note(each) for each in part.content])
        if isinstance(part, UserPromptPart) and not isinstance(part.content, str)
        else part
        for part in message.parts
    ]
    return replace(message, parts=parts)


def _note(content: UserContent) -> UserContent:
    if not isinstance(content, BinaryContent):
        return content
    facts = f"{content.identifier} ({content.media_type}, {len(content.data):,} bytes)"
    return f"File {facts} was not sent: this model cannot read images. Say so where it matters."

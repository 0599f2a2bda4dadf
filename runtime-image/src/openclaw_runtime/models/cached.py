"""A model whose answers are kept."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any

from opentelemetry.trace import get_current_span
from pydantic_ai import RunContext
from pydantic_ai.messages import ModelMessage, ModelResponse
from pydantic_ai.models import CompletedStreamedResponse, Model, ModelRequestParameters, StreamedResponse
from pydantic_ai.models.wrapper import WrapperModel
from pydantic_ai.settings import ModelSettings

from openclaw_runtime.errors import OpenClawError
from openclaw_runtime.models import cache as kept
from openclaw_runtime.models.cache import Entry, Layer, MemoryLayer
from openclaw_runtime.models.failures import ModelFailure
from openclaw_runtime.models.observer import ModelObserver
from openclaw_runtime.models.sections import Cache

logger = logging.getLogger(__name__)

Spawn = Callable[[Coroutine[Any, Any, None]], None]
"""Runs something in the background."""

_REFRESHES = 4


class CachedModel(WrapperModel):
    """Gives an answer again to a request that is equal in everything; equal requests at the same time are one.

    Streamed requests, which turns are, take part only with `settings.turns`. `owner` names the agent and its models,
    `layers` come after the one in memory, `now` is Unix time.
    """

    def __init__(
        self,
        wrapped: Model,
        settings: Cache,
        *,
        owner: str,
        layers: Sequence[Layer],
        observer: ModelObserver,
        now: Callable[[], float],
        spawn: Spawn,
    ) -> None:
        super().__init__(wrapped)
        self._cache = settings
        self._owner = owner
        self._memory = MemoryLayer(settings.entries)
        self._layers = layers
        self._observer = observer
        self._now = now
        self._spawn = spawn
        self._flights: dict[str, asyncio.Future[bytes | None]] = {}
        self._refreshing: set[str] = set()
        self._refreshes = asyncio.Semaphore(_REFRESHES)

    async def request(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> ModelResponse:
        """Returns an answer that is kept, else makes the request."""
        if kept.uses_tools(messages):
            return await self.wrapped.request(messages, model_settings, model_request_parameters)
        key = kept.key(self._owner, messages, model_settings, model_request_parameters)

        async def ask() -> ModelResponse:
            return await self.wrapped.request(messages, model_settings, model_request_parameters)

        found = await self._found(key, ask)
        if found is not None:
            return found
        flight = self._take_off(key)
        try:
            response = await ask()
            self._land(key, flight, response)
        finally:
            self._clear(key, flight)
        return response

    @asynccontextmanager
    async def request_stream(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
        run_context: RunContext[Any] | None = None,
    ) -> AsyncGenerator[StreamedResponse]:
        """Streams an answer that is kept, else makes the request."""
        if not self._cache.turns or kept.uses_tools(messages):
            async with self.wrapped.request_stream(
                messages, model_settings, model_request_parameters, run_context
            ) as stream:
                yield stream
            return
        key = kept.key(self._owner, messages, model_settings, model_request_parameters)

        async def ask() -> ModelResponse:
            return await self.wrapped.request(messages, model_settings, model_request_parameters)

        found = await self._found(key, ask)
        if found is not None:
            yield CompletedStreamedResponse(
                found, model_request_parameters=model_request_parameters, replay_events=True
            )
            return
        flight = self._take_off(key)
        try:
            async with self.wrapped.request_stream(
                messages, model_settings, model_request_parameters, run_context
            ) as stream:
                yield stream
            self._land(key, flight, stream.get())
        finally:
            self._clear(key, flight)

    async def _found(self, key: str, ask: Callable[[], Coroutine[Any, Any, ModelResponse]]) -> ModelResponse | None:
        """Returns an answer that is kept or that somebody else is just being given, or None."""
        # Memory is asked once more at the end: somebody may have been answered while the slower layers were asked.
        for layer in (self._memory, *self._layers, self._memory):
            entry = _decoded(await layer.get(key))
            if entry is None:
                continue
            state = kept.freshness(self._now() - entry.stored_at, self._cache)
            response = _readable(entry)
            if state == "dead" or response is None:
                continue
            self._memory.keep(key, entry.encode())
            if state != "fresh" and key not in self._refreshing:
                self._refreshing.add(key)
                self._spawn(self._refresh(key, ask))
            self._tell(f"{layer.name}_stale" if state == "stale" else layer.name)
            return response
        flight = self._flights.get(key)
        answer = await asyncio.shield(flight) if flight else None
        if answer is not None:
            self._tell("shared")
            return Entry(0.0, answer).response()
        self._tell("miss")
        return None

    def _take_off(self, key: str) -> "asyncio.Future[bytes | None]":
        flight: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()
        self._flights.setdefault(key, flight)
        return flight

    def _land(self, key: str, flight: "asyncio.Future[bytes | None]", response: ModelResponse) -> None:
        answer = self._keep(key, response)
        if not flight.done():
            flight.set_result(answer)

    def _clear(self, key: str, flight: "asyncio.Future[bytes | None]") -> None:
        """A request that failed leaves those that waited for it to ask themselves."""
        if not flight.done():
            flight.set_result(None)
        if self._flights.get(key) is flight:
            del self._flights[key]

    def _keep(self, key: str, response: ModelResponse) -> bytes | None:
        if not kept.worth_keeping(response):
            return None
        answer = kept.encode_answer(response)
        if len(answer) > kept.LARGEST:
            return None
        value = Entry(self._now(), answer).encode()
        self._memory.keep(key, value)
        if self._layers:
            self._spawn(self._write(key, value))
        return answer

    async def _write(self, key: str, value: bytes) -> None:
        for layer in self._layers:
            await layer.put(key, value, self._cache.ttl + self._cache.stale)

    async def _refresh(self, key: str, ask: Callable[[], Coroutine[Any, Any, ModelResponse]]) -> None:
        """Asks anew for an answer that grows old; if that fails, it ages on."""
        try:
            async with self._refreshes:
                response = await ask()
            self._keep(key, response)
            self._observer.model_cache_refreshed("ok")
        except (*ModelFailure, OpenClawError) as error:
            self._observer.model_cache_refreshed("failed")
            logger.warning("an answer that is kept was not refreshed: %s", error)
        finally:
            self._refreshing.discard(key)

    def _tell(self, result: str) -> None:
        self._observer.model_cache_asked(result)
        get_current_span().add_event("openclaw.model.cache", {"openclaw.cache.result": result})


def _decoded(data: bytes | None) -> Entry | None:
    if data is None:
        return None
    try:
        return Entry.decode(data)
    except ValueError:
        logger.warning("an entry of the model cache cannot be read")
        return None


def _readable(entry: Entry) -> ModelResponse | None:
    try:
        return entry.response()
    except ValueError:
        logger.warning("an entry of the model cache cannot be read")
        return None

"""What is done when a model does not answer: retries, fallbacks, and what is told of them."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from pydantic_ai.direct import model_request
from pydantic_ai.exceptions import (
    ContentFilterError,
    FallbackExceptionGroup,
    ModelAPIError,
    ModelHTTPError,
    ModelRateLimitError,
    ModelTimeoutError,
)
from pydantic_ai.messages import ModelMessage, ModelRequest, ModelResponse, TextPart
from pydantic_ai.models import Model, ModelRequestParameters
from pydantic_ai.models.function import AgentInfo, FunctionModel

from openclaw_runtime.config import RuntimeConfig, parse_config
from openclaw_runtime.errors import ConfigError, ModelError
from openclaw_runtime.models.chain import first_to_answer
from openclaw_runtime.models.factory import ModelParts, build_model, check_models
from openclaw_runtime.models.failures import explain
from openclaw_runtime.models.retry import Pauses, RetryingModel
from openclaw_runtime.models.sections import Retry
from openclaw_runtime.telemetry import Metrics

ASKED = [ModelRequest.user_text_prompt("hi")]


class Scripted:
    """A provider that fails as it is told, then answers with its name; None hangs."""

    def __init__(self, name: str, *failures: Exception | None) -> None:
        self.failures = list(failures)
        self.asked = 0
        self.model = FunctionModel(self._answer, stream_function=self._stream, model_name=name)
        self.breaks = False

    async def _fail(self) -> None:
        self.asked += 1
        if self.failures:
            failure = self.failures.pop(0)
            if failure is None:
                await asyncio.Event().wait()
            else:
                raise failure

    async def _answer(self, _messages: list[ModelMessage], _info: AgentInfo) -> ModelResponse:
        await self._fail()
        return ModelResponse(parts=[TextPart(f"I am {self.model.model_name}")])

    async def _stream(self, _messages: list[ModelMessage], _info: AgentInfo) -> AsyncIterator[str]:
        await self._fail()
        yield f"I am {self.model.model_name}"
        if self.breaks:
            raise ModelAPIError(self.model.model_name, "the stream broke", in_stream=True)


class World:
    """Models with retries, a sleep that only notes, and real counters."""

    def __init__(self) -> None:
        self.metrics = Metrics(version="1", agent="a", start_time=0)
        self.waits: list[float] = []

    def chain(self, *providers: Scripted, **policy: Any) -> Model:
        async def sleep(seconds: float) -> None:
            self.waits.append(seconds)

        models = [
            RetryingModel(
                each.model,
                Retry(**policy),
                Pauses(sleep, lambda: 0.5),
                self.metrics,
                provider="p",
                place=place,
                last=place == len(providers) - 1,
            )
            for place, each in enumerate(providers)
        ]
        return first_to_answer(models) if len(models) > 1 else models[0]

    def count(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(f"openclaw_model_{name}_total", {"provider": "p", **labels})


@pytest.fixture
def world() -> World:
    return World()


async def ask(model: Model) -> str:
    return str((await model_request(model, ASKED)).parts[0].content)  # type: ignore[union-attr]


async def stream(model: Model, seen: list[str] | None = None) -> str:
    async with model.request_stream(list(ASKED), None, ModelRequestParameters()) as answer:
        async for _ in answer:
            if seen is not None:
                seen.append("event")
        return str(answer.get().parts[0].content)  # type: ignore[union-attr]


def limited(name: str = "one", after: float | None = None) -> ModelRateLimitError:
    return ModelRateLimitError(name, "slow down", retry_after=after)


@pytest.mark.parametrize("how", [ask, stream])
async def test_a_rate_limit_is_waited_out_with_growing_pauses(how: Callable[[Model], Any], world: World) -> None:
    one = Scripted("one", limited(), limited(after=3.0), limited())
    assert await how(world.chain(one)) == "I am one"
    assert world.waits == [1.5, 3.0, 4.5]
    assert world.count("retries", model="one", reason="rate_limit") == 3
    assert world.count("failures", model="one", reason="rate_limit") is None


async def test_other_failures_are_waited_out_by_equal_steps_until_retries_are_used_up(world: World) -> None:
    one = Scripted("one", *[ModelHTTPError(503, "one") for _ in range(5)])
    with pytest.raises(ModelHTTPError):
        await ask(world.chain(one, base_delay=200, max_delay=500))
    assert world.waits == [0.2, 0.4, 0.5]
    assert one.asked == 4
    assert world.count("failures", model="one", reason="server") == 1


@pytest.mark.parametrize("how", [ask, stream])
async def test_a_model_that_hangs_is_given_up_and_asked_again(how: Callable[[Model], Any], world: World) -> None:
    one = Scripted("one", None)
    assert await how(world.chain(one, timeout=1)) == "I am one"
    assert world.count("retries", model="one", reason="timeout") == 1


async def test_a_model_that_hangs_is_not_asked_again_where_another_follows(world: World) -> None:
    one, two = Scripted("one", None), Scripted("two")
    assert await ask(world.chain(one, two, timeout=1)) == "I am two"
    assert (one.asked, world.waits) == (1, [])


@pytest.mark.parametrize("how", [ask, stream])
@pytest.mark.parametrize("status", [400, 401, 404, 500])
async def test_the_next_model_answers_in_place_of_one_that_failed(
    how: Callable[[Model], Any], status: int, world: World
) -> None:
    one, two = Scripted("one", *[ModelHTTPError(status, "one") for _ in range(4)]), Scripted("two")
    assert await how(world.chain(one, two)) == "I am two"
    assert world.count("fallbacks", model="two") == 1
    assert world.count("fallbacks", model="one") is None


async def test_a_stream_that_has_begun_stays_with_its_model(world: World) -> None:
    one, two = Scripted("one"), Scripted("two")
    one.breaks = True
    seen: list[str] = []
    with pytest.raises(ModelAPIError, match="the stream broke"):
        await stream(world.chain(one, two), seen)
    assert seen
    assert two.asked == 0


async def test_a_refusal_is_an_answer(world: World) -> None:
    one, two = Scripted("one", ContentFilterError("no")), Scripted("two")
    with pytest.raises(ContentFilterError):
        await ask(world.chain(one, two))
    assert two.asked == 0


@pytest.mark.parametrize(
    ("failures", "status", "code"),
    [
        ((ModelHTTPError(401, "one"), ModelTimeoutError("two", "slow")), 502, "every_model_failed"),
        ((limited("one"), limited("two")), 429, "rate_limit_exceeded"),
    ],
)
async def test_when_all_fail_each_is_named(
    failures: tuple[Exception, Exception], status: int, code: str, world: World
) -> None:
    model = world.chain(Scripted("one", failures[0]), Scripted("two", failures[1]), retries=0)
    with pytest.raises(FallbackExceptionGroup) as caught:
        await ask(model)
    error = explain(caught.value, provider="openai")
    assert isinstance(error, ModelError)
    assert (error.status, error.code) == (status, code)
    assert "none of 2 models answered: the provider of one" in str(error)
    assert "the provider of two" in str(error)


async def test_retries_and_fallbacks_are_events_of_the_span(world: World) -> None:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    one, two = Scripted("one", limited(), ModelHTTPError(400, "one")), Scripted("two")
    with provider.get_tracer("t").start_as_current_span("chat"):
        await ask(world.chain(one, two))
    events = [(event.name, dict(event.attributes or {})) for event in exporter.get_finished_spans()[-1].events]
    retry = {
        "gen_ai.request.model": "one",
        "openclaw.attempt": 1,
        "openclaw.wait_ms": 1500.0,
        "error.type": "rate_limit",
    }
    assert events == [
        ("openclaw.model.retry", retry),
        ("openclaw.model.fallback", {"gen_ai.request.model": "two", "openclaw.place": 1}),
    ]


# --- keys ------------------------------------------------------------------------------------------------------------

OWN = {"model_provider": "openai-compatible", "model": "m", "base_url": "http://one:1/v1"}


def built(config: dict[str, Any], environment: dict[str, str]) -> list[Any]:
    """The models of a configuration with fallbacks, without what wraps them."""
    parts = ModelParts(environment, Pauses(asyncio.sleep, lambda: 0.0), World().metrics, Mock(), lambda: 0.0, Mock())
    model: Any = build_model(RuntimeConfig.model_validate(config), parts)
    return [each.wrapped.wrapped for each in model.models]


def keys(fallbacks: list[dict[str, Any]], environment: dict[str, str]) -> list[str]:
    return [each.client.api_key for each in built({"claw": OWN, "models": {"fallbacks": fallbacks}}, environment)]


def test_a_key_goes_to_its_own_server_alone(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("of-the-file\n")
    other = {"provider": "openai-compatible", "model": "m", "base_url": "http://two:1/v1"}
    found = keys([other, {**other, "api_key_file": str(file)}], {"OPENAI_API_KEY": "of-the-first"})
    assert found == ["of-the-first", "none", "of-the-file"]


@pytest.mark.parametrize(
    ("fallback", "message"),
    [
        ({"provider": "groq", "model": "m"}, "models.fallbacks.0.provider: groq needs api_key_file, or GROQ_API_KEY"),
        ({"provider": "local", "model": "m"}, "models.fallbacks.0.base_url: is missing; local needs it"),
        ({"provider": "groq", "model": "m", "api_key_file": "/none"}, "models.fallbacks.0.api_key_file: /none cannot"),
    ],
)
def test_a_fallback_without_its_key_or_address_is_refused(fallback: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_models(RuntimeConfig.model_validate({"claw": OWN, "models": {"fallbacks": [fallback]}}), {})


def test_a_fallback_has_its_own_settings_or_those_of_the_agent() -> None:
    own = {"provider": "openai-compatible", "model": "m", "base_url": "http://two:1/v1"}
    config = {
        "claw": {**OWN, "settings": {"temperature": 0.1, "seed": 3}},
        "models": {"fallbacks": [own, {**own, "settings": {"temperature": 0.9}}]},
    }
    settings = [each.settings for each in built(config, {})]
    assert settings == [{"temperature": 0.1, "seed": 3}, {"temperature": 0.1, "seed": 3}, {"temperature": 0.9}]


# --- documentation ---------------------------------------------------------------------------------------------------


def test_the_documented_file_of_a_laptop_can_be_used() -> None:
    page = (Path(__file__).parents[3] / "docs" / "models.md").read_text(encoding="utf-8")
    (text,) = [block for block in page.split("```yaml\n")[1:] if block.startswith("claw:")]
    config = parse_config(text.partition("```")[0], "docs/models.md")
    check_models(config, {"OPENAI_API_KEY": "k", "ANTHROPIC_API_KEY": "k"})
    assert config.models.budget.per_day == 5

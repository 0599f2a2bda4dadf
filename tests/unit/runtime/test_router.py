"""Which model answers a request, what it costs, and how the budget is kept."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any
from unittest.mock import Mock

import pytest
from pydantic_ai.direct import model_request
from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai.messages import ModelMessage, ModelRequest, ModelResponse, TextPart, ToolReturnPart
from pydantic_ai.models import Model, ModelRequestParameters
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.usage import RequestUsage

from openclaw_runtime.config import RuntimeConfig
from openclaw_runtime.errors import ConfigError, MemoryStoreError, ModelError
from openclaw_runtime.memory.types import Spent
from openclaw_runtime.models.chain import first_to_answer
from openclaw_runtime.models.factory import check_models
from openclaw_runtime.models.metered import MeteredModel
from openclaw_runtime.models.prices import estimated_tokens, price_usd
from openclaw_runtime.models.routed import RoutedModel
from openclaw_runtime.models.router import KNOWN, LOCAL, UNKNOWN, Figures, Needs, Option, figures, judge, rank, score
from openclaw_runtime.models.sections import Budget, Endpoint
from openclaw_runtime.models.spending import Spending
from openclaw_runtime.telemetry import Metrics

NOON = 1_795_780_800.0
DAY = "2026-11-27"
HARD = "Please analyse this design and find the root cause:\n```\n" + "x = 1\n" * 700 + "```"


def asked(text: str) -> list[ModelMessage]:
    return [ModelRequest.user_text_prompt(text)]


# --- pure ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "needs", "cost", "budget", "expected"),
    [
        ("gpt-4", Needs(1, 1), 0.0, None, 0.94),
        ("gpt-4o", Needs(1, 0), 9.0, None, 0.51),
        ("gpt-4o-mini", Needs(0, 1), 0.0, None, 1.6),
        ("claude-3-opus", Needs(0.5, 0.25), 0.02, 0.02, 0.365),
        ("claude-3-haiku", Needs(1, 1), 0.03, 0.01, 0.36),
    ],
)
def test_the_score_is_the_documented_formula(
    model: str, needs: Needs, cost: float, budget: float | None, expected: float
) -> None:
    assert score(Option(KNOWN[model], cost), needs, budget) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("endpoint", "expected"),
    [
        ({"provider": "openai", "model": "gpt-4o-2024-08-06"}, KNOWN["gpt-4o"]),
        ({"provider": "anthropic", "model": "claude-3-opus-20240229"}, KNOWN["claude-3-opus"]),
        ({"provider": "anthropic", "model": "claude-3-haiku-latest"}, KNOWN["claude-3-haiku"]),
        ({"provider": "openai", "model": "gpt-4.1"}, UNKNOWN),
        ({"provider": "local", "model": "gpt-4"}, LOCAL),
        ({"provider": "groq", "model": "x", "performance": 0.2, "speed": 9}, Figures(UNKNOWN.cost, 0.2, 9)),
    ],
)
def test_the_figures_of_a_model(endpoint: dict[str, Any], expected: Figures) -> None:
    assert figures(Endpoint.model_validate(endpoint)) == expected


@pytest.mark.parametrize(
    ("text", "background", "expected"),
    [
        ("hello", False, Needs(0.001, 0.05)),
        ("hello", True, Needs(0.001, 0.0)),
        ("compare these two", False, Needs(0.5 + 0.0025, 0.05)),
        ("do it quickly", False, Needs(0.002, 0.5)),
        ("x" * 40_000, True, Needs(0.5, 0.0)),
        ("diff --git a/x b/x", True, Needs(0.5025, 0.0)),
    ],
)
def test_how_a_request_is_judged(text: str, background: bool, expected: Needs) -> None:
    needs = judge(asked(text), background=background)
    assert (needs.complexity, needs.urgency) == pytest.approx((expected.complexity, expected.urgency))


def test_all_requests_of_a_turn_are_judged_alike() -> None:
    later: list[ModelMessage] = [
        *asked("hello"),
        ModelResponse(parts=[TextPart("one moment")]),
        ModelRequest(parts=[ToolReturnPart("look", "debug " * 9_000, tool_call_id="1")]),
    ]
    assert judge(later, background=False) == judge(asked("hello"), background=False)


def test_of_equals_the_cheaper_is_first_then_the_one_listed_first() -> None:
    same = [Option(LOCAL, cost) for cost in (3.0, 1.0, 1.0)]
    assert rank(same, Needs(0, 0), None) == [1, 2, 0]


@pytest.mark.parametrize(
    ("endpoint", "expected"),
    [
        ({"provider": "openai", "model": "gpt-4"}, 0.03 + 0.06),
        ({"provider": "anthropic", "model": "claude-3-haiku"}, 0.00025 + 0.00125),
        ({"provider": "local", "model": "llama"}, 0.0),
        ({"provider": "openai-compatible", "model": "gpt-4"}, None),
        ({"provider": "openai", "model": "no-such-model"}, None),
        (
            {"provider": "local", "model": "x", "pricing": {"input_per_million": 1, "output_per_million": 2}},
            0.003,
        ),
    ],
)
def test_what_a_request_costs(endpoint: dict[str, Any], expected: float | None) -> None:
    cost = price_usd(Endpoint.model_validate(endpoint), RequestUsage(input_tokens=1000, output_tokens=1000))
    assert cost == (None if expected is None else pytest.approx(expected))


def test_tokens_are_estimated_by_characters() -> None:
    told = ModelRequest.user_text_prompt("x" * 400, instructions="y" * 40)
    assert estimated_tokens([told], ModelRequestParameters()) == 110


def test_a_budget_without_a_price_is_refused() -> None:
    spare = {"provider": "openai-compatible", "model": "m", "base_url": "http://x/v1"}
    given = {"claw": {"model": "gpt-4"}, "models": {"fallbacks": [spare], "budget": {"per_day": 1}}}
    with pytest.raises(ConfigError, match=r"models\.fallbacks\.0\.pricing: the price of m is not known"):
        check_models(RuntimeConfig.model_validate(given), {"OPENAI_API_KEY": "k"})


# --- spending --------------------------------------------------------------------------------------------------------


class Store:
    """Sums in a dictionary; `away` makes it fail."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str, str], Spent] = {}
        self.away = False

    async def spend(self, namespace: str, agent: str, entries: Sequence[Spent]) -> None:
        assert (namespace, agent) == ("n", "a")
        await asyncio.sleep(0)
        if self.away:
            raise MemoryStoreError("the records store failed: away")
        for entry in entries:
            before = self.rows.get((entry.day, entry.provider, entry.model))
            total = entry.micro_usd + (before.micro_usd if before else 0)
            self.rows[entry.day, entry.provider, entry.model] = Spent(
                entry.day, entry.provider, entry.model, 0, 0, 0, total
            )

    async def spending(self, namespace: str, agent: str, day: str) -> list[Spent]:
        assert (namespace, agent) == ("n", "a")
        await asyncio.sleep(0)
        if self.away:
            raise MemoryStoreError("the records store failed: away")
        return [entry for entry in self.rows.values() if entry.day == day]


class Clock:
    now = NOON


def spending(store: Store, clock: Clock) -> Spending:
    return Spending(store, namespace="n", agent="a", now=lambda: clock.now)


def spend(book: Spending, usd: float) -> None:
    book.record("openai", "gpt-4", input_tokens=1, output_tokens=1, usd=usd)


async def test_replicas_count_together_and_anew_each_day() -> None:
    store, clock = Store(), Clock()
    one, two = spending(store, clock), spending(store, clock)
    spend(one, 0.5)
    assert await one.usd() == 0.5
    spend(two, 0.25)
    await two.save()
    await one.save()
    assert await one.usd() == await two.usd() == 0.75
    assert one.today() == DAY
    clock.now += 12 * 3600
    assert await one.usd() == 0


async def test_while_the_store_is_away_a_replica_counts_on_and_writes_later() -> None:
    store, clock = Store(), Clock()
    book = spending(store, clock)
    spend(book, 1.0)
    await book.save()
    assert await book.usd() == 1.0
    spend(book, 0.5)
    await book.save()
    store.away = True
    assert await book.usd() == 1.5, "what was written after it was last read"
    spend(book, 2.0)
    assert await book.usd() == 3.5
    await book.save()
    assert await book.usd() == 3.5
    store.away = False
    await book.close()
    assert sum(entry.micro_usd for entry in store.rows.values()) == 3_500_000
    assert await book.usd() == 3.5


# --- routing ---------------------------------------------------------------------------------------------------------


class Fleet:
    """Models of which each answers with its name, and a budget."""

    def __init__(self) -> None:
        self.store, self.clock = Store(), Clock()
        self.spending = spending(self.store, self.clock)
        self.metrics = Metrics(version="1", agent="a", start_time=0)
        self.failing: set[str] = set()
        self.usage = RequestUsage(input_tokens=100_000, output_tokens=10_000)

    def model(self, name: str) -> MeteredModel:
        provider = "local" if name == "llama" else "anthropic" if name.startswith("claude") else "openai"

        async def answer(_messages: list[ModelMessage], _info: AgentInfo) -> ModelResponse:
            if name in self.failing:
                raise ModelHTTPError(500, name)
            return ModelResponse(parts=[TextPart(name)], usage=self.usage)

        async def stream(_messages: list[ModelMessage], _info: AgentInfo) -> AsyncIterator[str]:
            if name in self.failing:
                raise ModelHTTPError(500, name)
            yield name

        return MeteredModel(
            FunctionModel(answer, stream_function=stream, model_name=name),
            Endpoint(provider=provider, model=name),
            observer=self.metrics,
            spending=self.spending,
            timer=Mock(side_effect=range(100)),
        )

    def routed(self, *names: str, fallbacks: tuple[str, ...] = (), **budget: float) -> Model:
        return RoutedModel(
            [self.model(name) for name in names],
            [self.model(name) for name in fallbacks],
            in_order=first_to_answer,
            budget=Budget(**budget),
            spending=self.spending,
        )


@pytest.fixture
def fleet() -> Fleet:
    return Fleet()


async def ask(model: Model, text: str) -> str:
    """As work in the background."""
    return str((await model_request(model, asked(text))).parts[0].content)  # type: ignore[union-attr]


async def chat(model: Model, text: str) -> str:
    """As a turn that somebody waits for."""
    async with model.request_stream(asked(text), None, ModelRequestParameters()) as stream:
        async for _ in stream:
            pass
        return str(stream.get().parts[0].content)  # type: ignore[union-attr]


ALL = ("gpt-4", "gpt-4o", "gpt-4o-mini", "claude-3-opus", "claude-3-sonnet", "claude-3-haiku", "llama")


@pytest.mark.parametrize(
    ("text", "budget", "expected"),
    [
        ("hello", {}, "claude-3-haiku"),
        (HARD, {}, "claude-3-opus"),
        (HARD, {"per_request": 0.01}, "gpt-4o"),
        (HARD, {"per_request": 0.002}, "gpt-4o-mini"),
        (f"quickly: {HARD}", {}, "claude-3-haiku"),
    ],
)
async def test_the_model_that_fits_answers(text: str, budget: dict[str, Any], expected: str, fleet: Fleet) -> None:
    assert await chat(fleet.routed(*ALL, **budget), text) == expected


async def test_in_the_background_nothing_is_urgent(fleet: Fleet) -> None:
    assert await ask(fleet.routed("claude-3-haiku", "gpt-4o"), "hello there, who are you?") == "gpt-4o"


async def test_the_next_best_answers_when_the_best_fails_and_then_the_fallbacks(fleet: Fleet) -> None:
    model = fleet.routed("gpt-4", "claude-3-opus", fallbacks=("llama",))
    fleet.failing = {"claude-3-opus"}
    assert await chat(model, HARD) == "gpt-4"
    fleet.failing |= {"gpt-4"}
    assert await chat(model, HARD) == "llama"


async def test_when_the_budget_runs_out_a_cheaper_model_answers_then_a_free_one(fleet: Fleet) -> None:
    model = fleet.routed("claude-3-opus", "claude-3-haiku", fallbacks=("llama",), per_day=0.2)
    assert await ask(model, HARD) == "claude-3-opus"
    assert await fleet.spending.usd() == pytest.approx(2.25)
    assert await ask(model, HARD) == "llama"
    fleet.clock.now += 12 * 3600
    spend(fleet.spending, 0.199)
    assert await ask(model, HARD) == "claude-3-haiku"


async def test_without_a_free_model_a_used_up_budget_is_a_clear_error_until_midnight(fleet: Fleet) -> None:
    model = fleet.routed("gpt-4", per_day=1)
    spend(fleet.spending, 1.0)
    with pytest.raises(ModelError, match=r"today's budget of \$1 is used up; it begins anew at midnight UTC") as caught:
        await chat(model, "hello")
    assert (caught.value.status, caught.value.code) == (429, "budget_exceeded")
    fleet.clock.now += 12 * 3600
    assert await chat(model, "hello") == "gpt-4"


async def test_tokens_time_and_money_are_measured_under_the_names_of_opentelemetry(fleet: Fleet) -> None:
    await ask(fleet.model("gpt-4"), "hello")
    labels = {
        "gen_ai_operation_name": "chat",
        "gen_ai_provider_name": "openai",
        "gen_ai_request_model": "gpt-4",
    }
    value = fleet.metrics.registry.get_sample_value
    assert value("gen_ai_client_token_usage_sum", labels | {"gen_ai_token_type": "input"}) == 100_000
    assert value("gen_ai_client_token_usage_sum", labels | {"gen_ai_token_type": "output"}) == 10_000
    assert value("gen_ai_client_operation_duration_seconds_sum", labels | {"error_type": ""}) == 1
    assert value("openclaw_model_cost_usd_total", {"provider": "openai", "model": "gpt-4"}) == pytest.approx(3.6)
    fleet.failing = {"gpt-4"}
    with pytest.raises(ModelHTTPError):
        await ask(fleet.model("gpt-4"), "hello")
    assert value("gen_ai_client_operation_duration_seconds_count", labels | {"error_type": "server"}) == 1


async def test_an_answer_without_usage_is_counted_by_an_estimate(fleet: Fleet) -> None:
    fleet.usage = RequestUsage(input_tokens=7)
    await ask(fleet.model("gpt-4"), "x" * 400)
    (entry,) = await fleet.spending.by_model()
    assert (entry.requests, entry.input_tokens, entry.output_tokens) == (1, 7, 2)
    assert entry.micro_usd == 7 * 30 + 2 * 60


async def test_a_request_whose_answer_is_empty_is_counted(fleet: Fleet) -> None:
    async def nothing(_messages: list[ModelMessage], _info: AgentInfo) -> ModelResponse:
        return ModelResponse(parts=[], usage=RequestUsage(input_tokens=7))

    model = fleet.model("gpt-4")
    model.wrapped = FunctionModel(nothing, model_name="gpt-4")
    await model_request(model, asked("hello"))
    (entry,) = await fleet.spending.by_model()
    assert (entry.requests, entry.input_tokens, entry.output_tokens, entry.micro_usd) == (1, 7, 0, 210)


@pytest.mark.parametrize(
    ("how", "said", "least"),
    [(ask, None, 3000), (chat, None, 3000), (chat, "", 1), (chat, "x" * 40, 1)],
    ids=["background", "before the answer", "before the first word", "in the middle"],
)
async def test_a_request_that_is_cut_off_is_timed_and_paid_for(
    how: Callable[[Model, str], Any], said: str | None, least: int, fleet: Fleet
) -> None:
    hangs = asyncio.Event()

    async def answer(_messages: list[ModelMessage], _info: AgentInfo) -> ModelResponse:
        hangs.set()
        await asyncio.Event().wait()
        raise AssertionError

    async def stream(_messages: list[ModelMessage], _info: AgentInfo) -> AsyncIterator[str]:
        if said is not None:
            yield said
        hangs.set()
        await asyncio.Event().wait()

    model = fleet.model("gpt-4")
    model.wrapped = FunctionModel(answer, stream_function=stream, model_name="gpt-4")
    turn = asyncio.create_task(how(model, "x" * 400))
    await hangs.wait()
    turn.cancel()
    with pytest.raises(asyncio.CancelledError):
        await turn
    (entry,) = await fleet.spending.by_model()
    # What is known of it by then, else 100 tokens of $30 a million.
    assert entry.micro_usd >= least
    labels = {"gen_ai_operation_name": "chat", "gen_ai_provider_name": "openai", "gen_ai_request_model": "gpt-4"}
    value = fleet.metrics.registry.get_sample_value
    assert value("gen_ai_client_operation_duration_seconds_count", labels | {"error_type": "cancelled"}) == 1

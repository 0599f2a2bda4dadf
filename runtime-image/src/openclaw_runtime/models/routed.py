"""A model that chooses for each request which model answers it, and keeps to the budget."""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from opentelemetry.trace import get_current_span
from pydantic_ai import RunContext
from pydantic_ai.messages import ModelMessage, ModelResponse
from pydantic_ai.models import Model, ModelRequestParameters, StreamedResponse
from pydantic_ai.models.wrapper import WrapperModel
from pydantic_ai.settings import ModelSettings
from pydantic_ai.usage import RequestUsage

from openclaw_runtime.errors import ModelError
from openclaw_runtime.models import router
from openclaw_runtime.models.blind import shows_images
from openclaw_runtime.models.chain import first_to_answer
from openclaw_runtime.models.metered import MeteredModel
from openclaw_runtime.models.prices import estimated_tokens, price_usd
from openclaw_runtime.models.sections import Budget, Endpoint
from openclaw_runtime.models.sight import can_see
from openclaw_runtime.models.spending import Spending

InOrder = Callable[[Sequence[MeteredModel]], Model]
"""Makes one model of several that are asked one after the other."""


class RoutedModel(WrapperModel):
    """Asks the best of `choices` first, then the others by their scores, then `fallbacks` in their order.

    Where the user shows images, all that can see come before all that cannot. With a budget for the day, a model whose
    answer is expected to cost more than what is left is not asked.
    """

    def __init__(
        self,
        choices: Sequence[MeteredModel],
        fallbacks: Sequence[MeteredModel],
        *,
        in_order: InOrder,
        budget: Budget,
        spending: Spending,
    ) -> None:
        super().__init__(first_to_answer([*choices, *fallbacks]))
        self._choices = choices
        self._fallbacks = fallbacks
        self._in_order = in_order
        self._budget = budget
        self._spending = spending

    async def request(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> ModelResponse:
        """Makes a request. Raises `ModelError` when the budget allows none."""
        chosen = await self._chosen(messages, model_settings, model_request_parameters, background=True)
        return await chosen.request(messages, model_settings, model_request_parameters)

    @asynccontextmanager
    async def request_stream(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
        run_context: RunContext[Any] | None = None,
    ) -> AsyncGenerator[StreamedResponse]:
        """Makes a request whose answer is streamed. Raises `ModelError` when the budget allows none."""
        chosen = await self._chosen(messages, model_settings, model_request_parameters, background=False)
        async with chosen.request_stream(messages, model_settings, model_request_parameters, run_context) as stream:
            yield stream

    async def _chosen(
        self,
        messages: Sequence[ModelMessage],
        settings: ModelSettings | None,
        parameters: ModelRequestParameters,
        *,
        background: bool,
    ) -> Model:
        per_day = self._budget.per_day
        left = None if per_day is None else max(0.0, per_day - await self._spending.usd())
        aims = [aim for aim in (self._budget.per_request, left) if aim is not None]
        tokens = RequestUsage(
            input_tokens=estimated_tokens(messages, parameters),
            output_tokens=min(router.EXPECTED_OUTPUT_TOKENS, (settings or {}).get("max_tokens") or 10**9),
        )
        needs = router.judge(messages, background=background)
        options = [option(model.endpoint, tokens) for model in self._choices]
        order = router.rank(options, needs, min(aims) if aims else None)
        ranked = [*(self._choices[place] for place in order), *self._fallbacks]
        if shows_images(messages):
            ranked.sort(key=lambda model: not can_see(model.endpoint))
        affordable = [model for model in ranked if left is None or (price_usd(model.endpoint, tokens) or 0.0) <= left]
        if not affordable:
            raise ModelError(
                f"today's budget of ${per_day:g} is used up; it begins anew at midnight UTC, or raise "
                "model.budget.perDay (models.budget.per_day)",
                status=429,
                code="budget_exceeded",
            )
        get_current_span().add_event(
            "openclaw.model.route",
            {
                "gen_ai.request.model": affordable[0].endpoint.model,
                "openclaw.complexity": needs.complexity,
                "openclaw.urgency": needs.urgency,
            },
        )
        return self._in_order(affordable)


def option(endpoint: Endpoint, tokens: RequestUsage) -> router.Option:
    """Returns a model as the router sees it: its price where it is known and not nothing, else its figure."""
    known = router.figures(endpoint)
    price = price_usd(endpoint, tokens)
    return router.Option(known, price or known.cost * (tokens.input_tokens + tokens.output_tokens) / 1_000)

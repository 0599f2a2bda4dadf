"""What a request to a model costs."""

import math
from collections.abc import Iterator, Sequence

import genai_prices
from pydantic_ai.messages import BinaryContent, ModelMessage, ModelRequest, ToolCallPart
from pydantic_ai.models import ModelRequestParameters
from pydantic_ai.usage import RequestUsage

from openclaw_runtime.models.sections import Endpoint

_CHARACTERS_PER_TOKEN = 4
_TOKENS_PER_IMAGE = 1_600
"""About what providers count for a large one, whatever its bytes."""
_MILLION = 1_000_000


def price_usd(endpoint: Endpoint, usage: RequestUsage) -> float | None:
    """Returns what a request cost in US dollars, or None when nobody knows.

    The configuration's `pricing` comes first, then the provider's list prices as genai-prices has them. A local model
    costs nothing unless it is priced.
    """
    if endpoint.pricing:
        price = endpoint.pricing
        total = usage.input_tokens * price.input_per_million + usage.output_tokens * price.output_per_million
        return total / _MILLION
    if endpoint.provider == "local":
        return 0.0
    if endpoint.provider == "openai-compatible":
        return None
    try:
        known = genai_prices.calc_price(usage, endpoint.model, provider_id=endpoint.provider)
    except LookupError:
        return None
    return float(known.total_price)


def is_priced(endpoint: Endpoint) -> bool:
    """Returns whether the price of a model's requests is known."""
    return price_usd(endpoint, RequestUsage(input_tokens=1, output_tokens=1)) is not None


def estimated_tokens(messages: Sequence[ModelMessage], parameters: ModelRequestParameters) -> int:
    """Returns about how many tokens a request has: four characters each, tools, instructions and images included."""
    said = sum(len(text) for text in texts(messages))
    images = sum(isinstance(each, BinaryContent) for each in _contents(messages))
    tools = sum(
        len(tool.name) + len(tool.description or "") + len(str(tool.parameters_json_schema))
        for tool in parameters.function_tools
    )
    return math.ceil((said + tools) / _CHARACTERS_PER_TOKEN) + images * _TOKENS_PER_IMAGE


def tokens_of(text: str) -> int:
    """Returns about how many tokens a text has."""
    return math.ceil(len(text) / _CHARACTERS_PER_TOKEN)


def texts(messages: Sequence[ModelMessage]) -> Iterator[str]:
    """Yields what is said in messages, instructions and the input of tool calls included; images say nothing."""
    return (str(each) for each in _contents(messages) if not isinstance(each, BinaryContent))


def _contents(messages: Sequence[ModelMessage]) -> Iterator[object]:
    for message in messages:
        if isinstance(message, ModelRequest) and message.instructions:
            yield message.instructions
        for part in message.parts:
            content = part.args if isinstance(part, ToolCallPart) else getattr(part, "content", "")
            yield from content if isinstance(content, list) else [content]

"""One request to a model, outside any conversation."""

from pydantic_ai import InstrumentationSettings
from pydantic_ai.direct import model_request
from pydantic_ai.messages import ModelRequest, TextPart, UserPromptPart
from pydantic_ai.models import Model
from pydantic_ai.settings import ModelSettings

from openclaw_runtime.models.failures import ModelFailure, explain


async def ask_once(
    model: Model,
    text: str,
    *,
    instructions: str | None,
    settings: ModelSettings,
    provider: str,
    instrument: InstrumentationSettings | None = None,
) -> str:
    """Returns the model's answer. Raises `OpenClawError`, which names `provider` where the model failed."""
    asked = ModelRequest(parts=[UserPromptPart(text)], instructions=instructions)
    try:
        answer = await model_request(model, [asked], model_settings=settings, instrument=instrument)
    except ModelFailure as error:
        raise explain(error, provider=provider) from error
    return "".join(part.content for part in answer.parts if isinstance(part, TextPart))

"""One request to a model, outside any conversation."""

from pydantic_ai import InstrumentationSettings
from pydantic_ai.direct import model_request
from pydantic_ai.messages import ModelRequest, TextPart, UserPromptPart
from pydantic_ai.models import Model
from pydantic_ai.settings import ModelSettings

from openclaw_runtime.errors import ModelError
from openclaw_runtime.models.failures import ModelFailure, explain


async def ask_once(
    model: Model,
    text: str,
    *,
    instructions: str | None,
    settings: ModelSettings,
    provider: str,
    instrument: InstrumentationSettings | None = None,
    whole: bool = False,
) -> str:
    """Returns the model's answer. Raises `OpenClawError`, which names `provider` where the model failed.

    With `whole` an answer that was cut is a failure, too.
    """
    asked = ModelRequest(parts=[UserPromptPart(text)], instructions=instructions)
    try:
        answer = await model_request(model, [asked], model_settings=settings, instrument=instrument)
    except ModelFailure as error:
        raise explain(error, provider=provider) from error
    if whole and answer.finish_reason not in (None, "stop"):
        raise ModelError(
            f"the answer of {provider}'s model was cut ({answer.finish_reason}); name a model that thinks less, or "
            "allow it more tokens",
            code="incomplete_answer",
        )
    return "".join(part.content for part in answer.parts if isinstance(part, TextPart))

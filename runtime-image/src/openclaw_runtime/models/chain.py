"""Models that are asked one after the other until one answers."""

from collections.abc import Sequence

from pydantic_ai.exceptions import ContentFilterError, ModelAPIError, UnexpectedModelBehavior
from pydantic_ai.models import Model
from pydantic_ai.models.fallback import FallbackModel


def first_to_answer(models: Sequence[Model]) -> Model:
    """Returns a model that asks each in turn; a stream that has begun stays with the model that began it.

    Raises a `FallbackExceptionGroup` when all have failed.
    """
    first, *others = models
    return FallbackModel(first, *others, fallback_on=_another_may)


def _another_may(error: Exception) -> bool:
    """Whether another model may answer what this one did not: a refusal is an answer."""
    return isinstance(error, ModelAPIError | UnexpectedModelBehavior) and not isinstance(error, ContentFilterError)

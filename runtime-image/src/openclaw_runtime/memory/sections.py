"""The sections of the configuration that say what becomes of records."""

from pydantic import Field, model_validator

from openclaw_runtime.sections import Section


class Summarization(Section):
    """Each `every_records` related records (of one kind and scope) are summarised in at most `max_tokens`.

    `model` is one of the agent's models, by its name; the cheapest of them where it is unset.
    """

    enabled: bool = True
    every_records: int = Field(default=50, ge=2, le=1_000)
    max_tokens: int = Field(default=500, ge=50, le=10_000)
    model: str | None = Field(default=None, min_length=1)


class Importance(Section):
    """What makes a record important: how much each signal counts, in proportion.

    `rate` is how far one user's feedback moves the weights; 0 keeps them as they are here.
    """

    access_count: float = Field(default=0.3, ge=0, le=1)
    recency: float = Field(default=0.25, ge=0, le=1)
    relevance: float = Field(default=0.25, ge=0, le=1)
    user_feedback: float = Field(default=0.2, ge=0, le=1)
    rate: float = Field(default=0.1, ge=0, le=1)

    @model_validator(mode="after")
    def _any(self) -> "Importance":
        if not (self.access_count + self.recency + self.relevance + self.user_feedback):
            raise ValueError("every weight is 0; give at least one of them more")
        return self

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


class Tier(Section):
    """What a tier holds of one agent: so many records, none older than `max_age` seconds."""

    records: int = Field(ge=1, le=10_000_000)
    max_age: float = Field(ge=1)


class HotTier(Tier):
    """What is kept in memory, and searched there while others wait."""

    records: int = Field(ge=1, le=10_000)


class Tiers(Section):
    """Where records are as they get older, and when they are forgotten; see docs/memory.md.

    hot: copies in memory, for so long after a record was written or recalled. warm: in SQL. cold: compressed there, and
    found by vectors.
    """

    hot: HotTier = HotTier(records=1_000, max_age=3_600)
    warm: Tier = Tier(records=10_000, max_age=86_400)
    cold: Tier = Tier(records=100_000, max_age=604_800)

    @model_validator(mode="after")
    def _ordered(self) -> "Tiers":
        for inner, outer in (("hot", "warm"), ("warm", "cold")):
            small, large = getattr(self, inner), getattr(self, outer)
            if small.records > large.records or small.max_age > large.max_age:
                raise ValueError(f"{inner} holds more or older records than {outer}; lower {inner} or raise {outer}")
        return self

"""The sections of the configuration that say what becomes of records."""

from typing import Literal

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


class Hnsw(Section):
    """The graph of nearest neighbours: `m` edges a vector, made with `ef_construct` candidates, searched with `ef`."""

    m: int = Field(default=16, ge=4, le=128)
    ef_construct: int = Field(default=200, ge=4, le=2_000)
    ef: int = Field(default=100, ge=1, le=10_000)


Compression = Literal["x4", "x8", "x16", "x32", "x64"]


class Quantization(Section):
    """Small copies of the vectors, which are searched first: `scalar` is a byte per dimension, `product` compresses.

    So many times the matches that are asked for are compared in full, as `oversampling` says. The default suits x64,
    which is also the `compression` of `product` where it is unset.
    """

    type: Literal["none", "scalar", "product"] = "none"
    compression: Compression | None = None
    oversampling: float = Field(default=16, ge=1, le=100)

    @model_validator(mode="after")
    def _compresses(self) -> "Quantization":
        if self.compression and self.type != "product":
            raise ValueError(f"compression is {self.compression}, which is for type product; remove it or set the type")
        return self

    @property
    def ratio(self) -> Compression:
        """The compression of `product`."""
        return self.compression or "x64"

"""The models of an Agent: which one it thinks with, and what happens when that one does not answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from openclaw_operator.api.base import HTTP_URL, LIST_ATOMIC, Model, SecretSource, cel, schema_extra

Provider = Literal["openai", "anthropic", "groq", "local", "openai-compatible"]

_NEEDS_SERVER = "!(self.provider in ['local', 'openai-compatible']) || has(self.baseURL)"
_NEEDS_KEY = "self.provider in ['local', 'openai-compatible'] || has(self.credentials)"
_PRICED = (
    "(self.provider != 'openai-compatible' || has(self.pricing))",
    *(
        f"(!has(self.{group}) || self.{group}.all(m, m.provider != 'openai-compatible' || has(m.pricing)))"
        for group in ("candidates", "fallbacks")
    ),
)


class ModelSettings(Model):
    """Sampling settings sent with each request."""

    temperature: float | None = Field(None, ge=0, le=2, description="Randomness, 0 to 2.")
    max_tokens: int | None = Field(None, ge=1, description="Most tokens in one answer.")
    top_p: float | None = Field(None, gt=0, le=1, description="Nucleus sampling threshold, above 0 up to 1.")
    seed: int | None = Field(None, description="Seed for providers that support repeatable sampling.")


class Pricing(Model):
    """What a model costs, in US dollars."""

    input_per_million: float = Field(ge=0, description="US dollars per million tokens of input.")
    output_per_million: float = Field(ge=0, description="US dollars per million tokens of output.")


class Endpoint(Model):
    """A language model and where it is."""

    provider: Provider = Field("openai", description="Which API the model is reached by.")
    name: str = Field(min_length=1, max_length=253, description="Model name as the provider spells it.")
    base_url: str | None = Field(
        None,
        alias="baseURL",
        pattern=HTTP_URL,
        max_length=2048,
        description="Address of the API; needed for local and openai-compatible, overrides the default elsewhere.",
    )
    credentials: SecretSource | None = Field(None, description="The API key.")
    settings: ModelSettings | None = Field(None, description="Sampling settings; the provider's defaults where unset.")
    pricing: Pricing | None = Field(
        None, description="Its price; list prices of openai, anthropic and groq are known, local costs nothing."
    )
    vision: bool | None = Field(
        None, description="Whether it can be shown images that skills give; where unset, by its name."
    )


class Rated(Endpoint):
    """A language model with the figures that the router goes by; those of common models are known."""

    performance: float | None = Field(None, ge=0, le=1, description="How well it does hard tasks, 0 to 1.")
    speed: float | None = Field(None, ge=0, le=100, description="How fast it answers, relative to gpt-4.")


class OtherModel(Endpoint):
    """A further model; it has its own credentials."""

    model_config = schema_extra(
        cel(
            _NEEDS_SERVER,
            "this provider needs a server: set baseURL beside provider local or openai-compatible",
            ".baseURL",
        ),
        cel(_NEEDS_KEY, "each model has its own API key: set credentials.secretKeyRef beside provider", ".credentials"),
    )
    settings: ModelSettings | None = Field(None, description="Sampling settings; model.settings when unset.")


class Candidate(Rated, OtherModel):
    """A model that the router may choose."""


class Budget(Model):
    """What the agent's models may cost, in US dollars."""

    model_config = schema_extra(cel("has(self.perDay) || has(self.perRequest)", "set perDay, perRequest or both"))
    per_day: float | None = Field(
        None,
        gt=0,
        description="The most on one day (UTC), all replicas together. When it is used up, models that cost nothing "
        "still answer; without one, requests are refused until midnight.",
    )
    per_request: float | None = Field(
        None, gt=0, description="What one request should cost at most: the router avoids dearer candidates."
    )


class Cache(Model):
    """Answers that are kept and given again to requests that are equal in everything."""

    ttl_seconds: int = Field(3600, ge=1, le=604800, description="How long an answer is given again.")
    stale_seconds: int = Field(
        300,
        ge=0,
        le=86400,
        description="How long after that it may still be given once more, while it is asked for anew.",
    )
    refresh_ahead: float = Field(
        0.8, gt=0, le=1, description="Part of ttlSeconds after which an answer in use is asked for anew; 1: never."
    )
    turns: bool = Field(
        False,
        description="Keep answers to users too, where no tool was needed; else only those to skills and other work in "
        "the background.",
    )
    entries: int = Field(
        1000, ge=1, le=100000, description="Answers kept in the memory of a replica, of 32 MiB together at most."
    )
    disk_megabytes: int = Field(64, ge=0, le=512, description="Answers kept on the disk of a replica; 0: none.")


class Retry(Model):
    """How often a model is asked again after a failure that may pass, for example a rate limit."""

    model_config = schema_extra(
        cel(
            # The default of the whole is checked before its fields have theirs.
            "!has(self.baseDelayMilliseconds) || self.baseDelayMilliseconds <= self.maxDelayMilliseconds",
            "the first pause must not be above the longest: lower baseDelayMilliseconds or raise maxDelayMilliseconds",
            ".baseDelayMilliseconds",
        )
    )
    retries: int = Field(3, ge=0, le=10, description="Attempts after the first one.")
    base_delay_milliseconds: int = Field(
        1000,
        ge=1,
        le=60000,
        description="Pause after the first failure. It doubles after each rate limit, with jitter; after other "
        "failures it grows by itself. Longer where the provider asks for it.",
    )
    max_delay_milliseconds: int = Field(10000, ge=1, le=300000, description="Longest pause.")
    timeout_seconds: int = Field(
        120,
        ge=1,
        le=3600,
        description="Longest an attempt may take until the answer begins, or until it is there if it is not streamed. "
        "Where another model follows, one that was too slow is not asked again.",
    )


class ModelSpec(Rated):
    """The language model the agent thinks with."""

    model_config = schema_extra(
        cel(
            _NEEDS_SERVER,
            "provider local and openai-compatible need a server: set model.baseURL, for example http://llm:8000/v1",
            ".baseURL",
        ),
        cel(
            _NEEDS_KEY,
            "this provider needs an API key: set model.credentials.secretKeyRef to {name, key} of a Secret",
            ".credentials",
        ),
        cel(
            "!has(self.budget) || !has(self.budget.perDay) || (" + " && ".join(_PRICED) + ")",
            "a budget needs prices: set pricing on each model of provider openai-compatible",
            ".budget",
        ),
        cel(
            "!has(self.budget) || !has(self.budget.perRequest) || (has(self.candidates) && self.candidates.size() > 0)",
            "perRequest is what the router goes by: set model.candidates, or perDay in its place",
            ".budget",
        ),
    )
    retry: Retry = Field(default_factory=Retry, description="What is done when a request fails in passing.")
    fallbacks: list[OtherModel] = Field(
        default_factory=list,
        max_length=8,
        description="Models that are asked in this order when the one before does not answer. An answer that has "
        "begun to be sent stays with its model.",
        json_schema_extra=LIST_ATOMIC,
    )

    candidates: list[Candidate] = Field(
        default_factory=list,
        max_length=16,
        description="Models the router may choose in place of this one, for each request by its complexity and "
        "urgency, and by what it costs. Those not chosen are asked next when the chosen one fails.",
        json_schema_extra=LIST_ATOMIC,
    )
    budget: Budget | None = Field(None, description="What the models may cost.")
    cache: Cache | None = Field(None, description="Keep answers for a while; without it each request is made.")

    def others(self) -> list[tuple[str, OtherModel]]:
        """Every further model with its place in the Agent."""
        groups: tuple[tuple[str, Sequence[OtherModel]], ...] = (
            ("candidates", self.candidates),
            ("fallbacks", self.fallbacks),
        )
        return [(f"spec.model.{name}[{index}]", item) for name, items in groups for index, item in enumerate(items)]

"""The sections of the configuration that say which models an agent speaks with, and how."""

from typing import Literal

from pydantic import Field, model_validator

from openclaw_runtime.sections import Section, UserPath

Provider = Literal["openai", "anthropic", "groq", "local", "openai-compatible"]


class ModelSettings(Section):
    """Sampling defaults; a request may override them."""

    temperature: float | None = Field(default=None, ge=0, le=2)
    max_tokens: int | None = Field(default=None, ge=1)
    top_p: float | None = Field(default=None, gt=0, le=1)
    seed: int | None = None


class Pricing(Section):
    """What a model costs, in US dollars per million tokens."""

    input_per_million: float = Field(ge=0)
    output_per_million: float = Field(ge=0)


class Endpoint(Section):
    """One model and where it is.

    `api_key_file` holds its key; without one the provider's key comes from the environment. `settings` are those of
    `claw` where they are unset. `pricing`, `performance`, `speed` and `vision` (it can be shown images) are known for
    common models.
    """

    provider: Provider
    model: str = Field(min_length=1)
    base_url: str | None = None
    api_key_file: UserPath | None = None
    settings: ModelSettings | None = None
    pricing: Pricing | None = None
    performance: float | None = Field(default=None, ge=0, le=1)
    speed: float | None = Field(default=None, ge=0, le=100)
    vision: bool | None = None


class Budget(Section):
    """Limits in US dollars. `per_day` is kept by all replicas together; `per_request` is what the router aims at."""

    per_day: float | None = Field(default=None, gt=0)
    per_request: float | None = Field(default=None, gt=0)


class Retry(Section):
    """How often a model is asked again after a failure that may pass; times in milliseconds.

    `timeout` is how long one attempt may take: until the answer begins where it is streamed, else until it is there.
    """

    retries: int = Field(default=3, ge=0, le=10)
    base_delay: int = Field(default=1_000, ge=1)
    max_delay: int = Field(default=10_000, ge=1)
    timeout: int = Field(default=120_000, ge=1)

    @model_validator(mode="after")
    def _ordered(self) -> "Retry":
        if self.base_delay > self.max_delay:
            raise ValueError(f"base_delay is {self.base_delay}, above max_delay ({self.max_delay}); raise max_delay")
        return self


class Cache(Section):
    """Answers that are given again to equal requests; times in seconds.

    From `refresh_ahead` · `ttl` on an answer in use is asked for anew, and for `stale` seconds after its `ttl` it may
    be given once more while that is done. `turns` adds answers to the user that needed no tool; without it only work in
    the background is kept. `entries` are kept in memory, `disk_megabytes` on disk.
    """

    enabled: bool = False
    ttl: int = Field(default=3_600, ge=1)
    stale: int = Field(default=300, ge=0)
    refresh_ahead: float = Field(default=0.8, gt=0, le=1)
    turns: bool = False
    entries: int = Field(default=1_000, ge=1)
    disk_megabytes: int = Field(default=64, ge=0)


class Models(Section):
    """Which model answers, and what happens when it does not.

    The router chooses for each request among `candidates` and the model of `claw`; `fallbacks` are asked after that, in
    their order.
    """

    retry: Retry = Retry()
    fallbacks: list[Endpoint] = Field(default_factory=list)
    candidates: list[Endpoint] = Field(default_factory=list)
    budget: Budget = Budget()
    cache: Cache = Cache()

"""The models of an Agent: which one it thinks with, and what happens when that one does not answer."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from openclaw_operator.api.base import HTTP_URL, LIST_ATOMIC, Model, SecretSource, cel, schema_extra

Provider = Literal["openai", "anthropic", "groq", "local", "openai-compatible"]

_NEEDS_SERVER = "!(self.provider in ['local', 'openai-compatible']) || has(self.baseURL)"
_NEEDS_KEY = "self.provider in ['local', 'openai-compatible'] || has(self.credentials)"


class ModelSettings(Model):
    """Sampling settings sent with each request."""

    temperature: float | None = Field(None, ge=0, le=2, description="Randomness, 0 to 2.")
    max_tokens: int | None = Field(None, ge=1, description="Most tokens in one answer.")
    top_p: float | None = Field(None, gt=0, le=1, description="Nucleus sampling threshold, above 0 up to 1.")
    seed: int | None = Field(None, description="Seed for providers that support repeatable sampling.")


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


class ModelSpec(Endpoint):
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
    )
    retry: Retry = Field(default_factory=Retry, description="What is done when a request fails in passing.")
    fallbacks: list[OtherModel] = Field(
        default_factory=list,
        max_length=8,
        description="Models that are asked in this order when the one before does not answer. An answer that has "
        "begun to be sent stays with its model.",
        json_schema_extra=LIST_ATOMIC,
    )

    def others(self) -> list[tuple[str, OtherModel]]:
        """Every further model with its place in the Agent."""
        return [(f"spec.model.fallbacks[{index}]", item) for index, item in enumerate(self.fallbacks)]

"""Makes the models an agent's configuration names."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import SecretStr

from openclaw_runtime.config import RuntimeConfig
from openclaw_runtime.errors import ConfigError, ConfigProblem
from openclaw_runtime.models.sections import Endpoint, ModelSettings, Provider
from openclaw_runtime.models.sight import can_see
from openclaw_runtime.secrets import Secret, SecretFile

if TYPE_CHECKING:
    from pydantic_ai.models import Model
    from pydantic_ai.settings import ModelSettings as Settings

    from openclaw_runtime.models.cache import Layer
    from openclaw_runtime.models.cached import Spawn
    from openclaw_runtime.models.observer import ModelObserver
    from openclaw_runtime.models.retry import Pauses
    from openclaw_runtime.models.spending import Spending

_KEYS: Mapping[Provider, str] = {
    "openai": "OPENAI_API_KEY",
    "anthropic": "ANTHROPIC_API_KEY",
    "groq": "GROQ_API_KEY",
}
_OWN = "claw"
"""Where the configuration has the agent's own model."""
_NO_KEY = "none"
"""What servers that need no key are given: the client insists on one."""


@dataclass(frozen=True)
class ModelParts:
    """What models take from outside. `timer` is a monotonic clock in seconds, `pauses` says how retries wait."""

    environment: Mapping[str, str]
    pauses: "Pauses"
    observer: "ModelObserver"
    spending: "Spending"
    timer: Callable[[], float]
    cache: "CacheParts"


@dataclass(frozen=True)
class CacheParts:
    """What a cache takes from outside: `folder` for files, `shared` for replicas; `now` is Unix time."""

    folder: Path
    now: Callable[[], float]
    spawn: "Spawn"
    shared: "Layer | None" = None


def build_model(config: RuntimeConfig, parts: ModelParts) -> "Model":
    """Returns the agent's model: cached, routed, with retries and fallbacks.

    The configuration is one that `check_models` lets through. Raises `ConfigError` where a key cannot be read any more.
    """
    model = _answering_model(config, parts)
    return _cached(model, config, parts) if config.models.cache.enabled else model


def build_summary_model(config: RuntimeConfig, parts: ModelParts) -> "Model":
    """Returns the model that summarises memory, with retries and within the budget. Raises `ConfigError`."""
    return _answering_model(config, parts, ([_summary_endpoint(config)], [], []))


def _summary_endpoint(config: RuntimeConfig) -> tuple[str, Endpoint]:
    """Returns the model that the configuration names for summaries, else the cheapest that is known to be."""
    from pydantic_ai.usage import RequestUsage

    from openclaw_runtime.models.prices import price_usd

    known, wanted = list(chain.from_iterable(_endpoints(config))), config.memory.summarization.model
    if wanted is not None:
        return next(item for item in known if item[1].model == wanted)
    usage = RequestUsage(input_tokens=10_000, output_tokens=config.memory.summarization.max_tokens)
    return min(known, key=lambda item: math.inf if (price := price_usd(item[1], usage)) is None else price)


def _cached(model: "Model", config: RuntimeConfig, parts: ModelParts) -> "Model":
    from openclaw_runtime.models.cache import DiskLayer, Layer
    from openclaw_runtime.models.cached import CachedModel

    cache, around = config.models.cache, parts.cache
    layers: list[Layer] = [around.shared] if around.shared else []
    if cache.disk_megabytes:
        layers.append(DiskLayer(around.folder, cache.disk_megabytes * 1024 * 1024))
    models = [endpoint.model_dump_json() for _, endpoint in chain.from_iterable(_endpoints(config))]
    owner = "\n".join([config.claw.namespace, config.claw.name, *models])
    return CachedModel(
        model, cache, owner=owner, layers=layers, observer=parts.observer, now=around.now, spawn=around.spawn
    )


def _answering_model(
    config: RuntimeConfig, parts: ModelParts, groups: tuple[list[tuple[str, Endpoint]], ...] | None = None
) -> "Model":
    from openclaw_runtime.models.blind import BlindModel
    from openclaw_runtime.models.chain import first_to_answer
    from openclaw_runtime.models.keyed import KeyedModel
    from openclaw_runtime.models.metered import MeteredModel
    from openclaw_runtime.models.retry import RetryingModel
    from openclaw_runtime.models.routed import RoutedModel

    def metered(path: str, endpoint: Endpoint) -> MeteredModel:
        key = _key(path, endpoint, parts.environment)
        model: Model = _provider_model(endpoint, key.get_secret_value(), parts.environment, config)
        if endpoint.api_key_file:
            model = KeyedModel(model, key)
        model = model if can_see(endpoint) else BlindModel(model)
        return MeteredModel(model, endpoint, observer=parts.observer, spending=parts.spending, timer=parts.timer)

    def retrying(model: MeteredModel, place: int = 0, *, last: bool = True) -> "Model":
        provider = model.endpoint.provider
        return RetryingModel(
            model, config.models.retry, parts.pauses, parts.observer, provider=provider, place=place, last=last
        )

    def in_order(models: Sequence[MeteredModel]) -> "Model":
        final = len(models) - 1
        return first_to_answer([retrying(model, place, last=place == final) for place, model in enumerate(models)])

    own, candidates, fallbacks = ([metered(*item) for item in group] for group in groups or _endpoints(config))
    if not candidates and config.models.budget.per_day is None:
        return in_order([*own, *fallbacks]) if fallbacks else retrying(own[0])
    return RoutedModel(
        [*own, *candidates],
        fallbacks,
        in_order=in_order,
        budget=config.models.budget,
        spending=parts.spending,
    )


def check_models(config: RuntimeConfig, environment: Mapping[str, str]) -> None:
    """Raises `ConfigError` if a key, its file or an address is missing, or a price that the budget needs."""
    problems = []
    for path, endpoint in chain.from_iterable(_endpoints(config)):
        provider, key = endpoint.provider, _KEYS.get(endpoint.provider)
        provider_field = "model_provider" if path == _OWN else "provider"
        address = _address(endpoint, environment)
        if (
            key
            and endpoint.api_key_file is None
            and key not in environment
            and not (path == _OWN and provider == "openai" and address)
        ):
            needed = f"{provider} needs api_key_file, or {key} in the environment or .env"
            problems.append(ConfigProblem(f"{path}.{provider_field}", needed))
        if provider in ("local", "openai-compatible") and not address:
            variable = "LOCAL_LLM_URL" if provider == "local" else "OPENAI_BASE_URL"
            problems.append(ConfigProblem(f"{path}.base_url", f"is missing; {provider} needs it, or {variable}"))
        if endpoint.api_key_file:
            _key(path, endpoint, environment)
    if config.models.budget.per_day is not None:
        problems.extend(_unpriced(config))
    wanted = config.memory.summarization.model
    known = [endpoint.model for _, endpoint in chain.from_iterable(_endpoints(config))]
    if wanted is not None and wanted not in known:
        choice = f"{wanted} is none of the agent's models; name one of {', '.join(known)}, or leave it out"
        problems.append(ConfigProblem("memory.summarization.model", choice))
    if problems:
        raise ConfigError("model", problems)


def _unpriced(config: RuntimeConfig) -> Iterator[ConfigProblem]:
    from openclaw_runtime.models.prices import is_priced

    for path, endpoint in chain.from_iterable(_endpoints(config)):
        if not is_priced(endpoint):
            unknown = f"the price of {endpoint.model} is not known and models.budget counts it; set {path}.pricing"
            yield ConfigProblem(f"{path}.pricing", unknown)


def _endpoints(config: RuntimeConfig) -> tuple[list[tuple[str, Endpoint]], ...]:
    """Returns the agent's own model, the candidates and the fallbacks, each with its place in the configuration."""
    models = config.models
    return (
        [(_OWN, config.claw.endpoint)],
        [(f"models.candidates.{index}", endpoint) for index, endpoint in enumerate(models.candidates)],
        [(f"models.fallbacks.{index}", endpoint) for index, endpoint in enumerate(models.fallbacks)],
    )


def _address(endpoint: Endpoint, environment: Mapping[str, str]) -> str | None:
    if endpoint.base_url:
        return endpoint.base_url
    if endpoint.provider == "local":
        return environment.get("LOCAL_LLM_URL")
    if endpoint.provider in ("openai", "openai-compatible"):
        return environment.get("OPENAI_BASE_URL")
    return None


def _key(path: str, endpoint: Endpoint, environment: Mapping[str, str]) -> Secret:
    """Returns the key. OPENAI_API_KEY is for OpenAI and for the agent's own server: no other server is sent it."""
    if endpoint.api_key_file:
        return SecretFile(endpoint.api_key_file, f"{path}.api_key_file")
    if endpoint.provider == "openai-compatible":
        return SecretStr(environment.get("OPENAI_API_KEY", _NO_KEY) if path == _OWN else _NO_KEY)
    return SecretStr(environment.get(_KEYS.get(endpoint.provider, ""), _NO_KEY))


def _settings(chosen: ModelSettings) -> "Settings":
    """Returns sampling settings as the library has them."""
    from pydantic_ai.settings import ModelSettings as Settings

    settings = Settings()
    if chosen.temperature is not None:
        settings["temperature"] = chosen.temperature
    if chosen.max_tokens is not None:
        settings["max_tokens"] = chosen.max_tokens
    if chosen.top_p is not None:
        settings["top_p"] = chosen.top_p
    if chosen.seed is not None:
        settings["seed"] = chosen.seed
    return settings


def _provider_model(endpoint: Endpoint, key: str, environment: Mapping[str, str], config: RuntimeConfig) -> "Model":
    """Imports only the client that is used: each costs tens of megabytes."""
    from pydantic_ai.profiles import ModelProfile

    address = _address(endpoint, environment)
    name = endpoint.model
    settings = _settings(config.claw.settings if endpoint.settings is None else endpoint.settings)
    # The library puts a note in the place of what tools return and a model cannot be shown.
    profile = ModelProfile(supports_image_input=can_see(endpoint))
    # The clients' own retries are off: one place decides when to repeat.
    if endpoint.provider == "anthropic":
        from anthropic import AsyncAnthropic
        from pydantic_ai.models.anthropic import AnthropicModel
        from pydantic_ai.providers.anthropic import AnthropicProvider

        anthropic = AsyncAnthropic(api_key=key, base_url=address, max_retries=0)
        return AnthropicModel(
            name, provider=AnthropicProvider(anthropic_client=anthropic), profile=profile, settings=settings
        )
    if endpoint.provider == "groq":
        from groq import AsyncGroq
        from pydantic_ai.models.groq import GroqModel
        from pydantic_ai.providers.groq import GroqProvider

        groq = AsyncGroq(api_key=key, base_url=address, max_retries=0)
        return GroqModel(name, provider=GroqProvider(groq_client=groq), profile=profile, settings=settings)
    from openai import AsyncOpenAI
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider
    from pydantic_ai.providers.openai_compatible import OpenAICompatibleProvider

    client = AsyncOpenAI(api_key=key, base_url=address, max_retries=0)
    provider = (
        OpenAIProvider(openai_client=client)
        if endpoint.provider == "openai"
        else OpenAICompatibleProvider(endpoint.provider, openai_client=client)
    )
    return OpenAIChatModel(name, provider=provider, profile=profile, settings=settings)

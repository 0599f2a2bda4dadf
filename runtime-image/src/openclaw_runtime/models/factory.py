"""Makes the models an agent's configuration names."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from openclaw_runtime.config import RuntimeConfig, read_secret
from openclaw_runtime.errors import ConfigError, ConfigProblem
from openclaw_runtime.models.sections import Endpoint, ModelSettings, Provider

if TYPE_CHECKING:
    from pydantic_ai.models import Model
    from pydantic_ai.settings import ModelSettings as Settings

    from openclaw_runtime.models.observer import ModelObserver
    from openclaw_runtime.models.retry import Pauses

_KEYS: Mapping[Provider, str] = {
    "openai": "OPENAI_API_KEY",
    "anthropic": "ANTHROPIC_API_KEY",
    "groq": "GROQ_API_KEY",
}
_OWN = "claw"
"""Where the configuration has the agent's own model."""
_NO_KEY = "none"
"""What servers that need no key are given: the client insists on one."""


def build_model(
    config: RuntimeConfig, environment: Mapping[str, str], pauses: "Pauses", observer: "ModelObserver"
) -> "Model":
    """Returns the agent's model, with retries and fallbacks. Raises `ConfigError` if a key or an address is missing."""
    from openclaw_runtime.models.chain import chain
    from openclaw_runtime.models.retry import RetryingModel

    check_models(config, environment)
    used = list(_endpoints(config))
    return chain(
        [
            RetryingModel(
                _provider_model(endpoint, _key(path, endpoint, environment), environment, config),
                config.models.retry,
                pauses,
                observer,
                provider=endpoint.provider,
                place=place,
                last=place == len(used) - 1,
            )
            for place, (path, endpoint) in enumerate(used)
        ]
    )


def check_models(config: RuntimeConfig, environment: Mapping[str, str]) -> None:
    """Raises `ConfigError` if a key, its file or an address that a provider needs is missing."""
    problems = []
    for path, endpoint in _endpoints(config):
        provider, key = endpoint.provider, _KEYS.get(endpoint.provider)
        provider_field, own_server = ("model_provider", "") if path == _OWN else ("provider", "api_key_file, or ")
        address = _address(endpoint, environment)
        if (
            key
            and endpoint.api_key_file is None
            and key not in environment
            and not (path == _OWN and provider == "openai" and address)
        ):
            needed = f"{provider} needs {own_server}{key} in the environment or .env"
            problems.append(ConfigProblem(f"{path}.{provider_field}", needed))
        if provider in ("local", "openai-compatible") and not address:
            variable = "LOCAL_LLM_URL" if provider == "local" else "OPENAI_BASE_URL"
            problems.append(ConfigProblem(f"{path}.base_url", f"is missing; {provider} needs it, or {variable}"))
        if endpoint.api_key_file:
            _key(path, endpoint, environment)
    if problems:
        raise ConfigError("model", problems)


def _endpoints(config: RuntimeConfig) -> Iterator[tuple[str, Endpoint]]:
    """Yields each model with its place in the configuration; the agent's own is the first."""
    yield _OWN, config.claw.endpoint
    for index, endpoint in enumerate(config.models.fallbacks):
        yield f"models.fallbacks.{index}", endpoint


def _address(endpoint: Endpoint, environment: Mapping[str, str]) -> str | None:
    if endpoint.base_url:
        return endpoint.base_url
    if endpoint.provider == "local":
        return environment.get("LOCAL_LLM_URL")
    if endpoint.provider in ("openai", "openai-compatible"):
        return environment.get("OPENAI_BASE_URL")
    return None


def _key(path: str, endpoint: Endpoint, environment: Mapping[str, str]) -> str:
    """Returns the key. OPENAI_API_KEY is for OpenAI and for the agent's own server: no other server is sent it."""
    if endpoint.api_key_file:
        return read_secret(endpoint.api_key_file, f"{path}.api_key_file").get_secret_value()
    if endpoint.provider == "openai-compatible":
        return environment.get("OPENAI_API_KEY", _NO_KEY) if path == _OWN else _NO_KEY
    return environment.get(_KEYS.get(endpoint.provider, ""), _NO_KEY)


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
    address = _address(endpoint, environment)
    name = endpoint.model
    settings = _settings(config.claw.settings if endpoint.settings is None else endpoint.settings)
    # The clients' own retries are off: one place decides when to repeat.
    if endpoint.provider == "anthropic":
        from anthropic import AsyncAnthropic
        from pydantic_ai.models.anthropic import AnthropicModel
        from pydantic_ai.providers.anthropic import AnthropicProvider

        anthropic = AsyncAnthropic(api_key=key, base_url=address, max_retries=0)
        return AnthropicModel(name, provider=AnthropicProvider(anthropic_client=anthropic), settings=settings)
    if endpoint.provider == "groq":
        from groq import AsyncGroq
        from pydantic_ai.models.groq import GroqModel
        from pydantic_ai.providers.groq import GroqProvider

        groq = AsyncGroq(api_key=key, base_url=address, max_retries=0)
        return GroqModel(name, provider=GroqProvider(groq_client=groq), settings=settings)
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
    return OpenAIChatModel(name, provider=provider, settings=settings)

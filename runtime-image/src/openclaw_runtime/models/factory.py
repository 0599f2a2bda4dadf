"""Makes the model an agent's configuration names."""

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING

from openclaw_runtime.config import Claw
from openclaw_runtime.errors import ConfigError, ConfigProblem

if TYPE_CHECKING:
    from pydantic_ai.models import Model
    from pydantic_ai.settings import ModelSettings

_KEYS = {"openai": "OPENAI_API_KEY", "anthropic": "ANTHROPIC_API_KEY", "groq": "GROQ_API_KEY"}
_NO_KEY = "none"
"""What servers that need no key are given: the client insists on one."""


def build_model(
    claw: Claw,
    environment: Mapping[str, str],
    *,
    sleep: Callable[[float], Awaitable[None]],
    random: Callable[[], float],
) -> "Model":
    """Returns the agent's model, with retries. Raises `ConfigError` if a key or an address is missing."""
    from openclaw_runtime.models.retry import RetryingModel

    return RetryingModel(_provider_model(claw, environment), sleep=sleep, random=random)


def default_settings(claw: Claw) -> "ModelSettings":
    """Returns the sampling defaults of the configuration."""
    from pydantic_ai.settings import ModelSettings

    chosen = claw.settings
    settings = ModelSettings()
    if chosen.temperature is not None:
        settings["temperature"] = chosen.temperature
    if chosen.max_tokens is not None:
        settings["max_tokens"] = chosen.max_tokens
    if chosen.top_p is not None:
        settings["top_p"] = chosen.top_p
    if chosen.seed is not None:
        settings["seed"] = chosen.seed
    return settings


def check_model(claw: Claw, environment: Mapping[str, str]) -> None:
    """Raises `ConfigError` if a key or an address that the provider needs is missing."""
    problem: ConfigProblem | None = None
    key = _KEYS.get(claw.model_provider)
    if key and key not in environment and not (claw.model_provider == "openai" and _address(claw, environment)):
        problem = ConfigProblem("claw.model_provider", f"{claw.model_provider} needs {key} in the environment or .env")
    if claw.model_provider in ("local", "openai-compatible") and not _address(claw, environment):
        hint = "LOCAL_LLM_URL" if claw.model_provider == "local" else "OPENAI_BASE_URL"
        problem = ConfigProblem("claw.base_url", f"is missing; {claw.model_provider} needs it, or {hint}")
    if problem:
        raise ConfigError("model", [problem])


def _address(claw: Claw, environment: Mapping[str, str]) -> str | None:
    if claw.base_url:
        return claw.base_url
    if claw.model_provider == "local":
        return environment.get("LOCAL_LLM_URL")
    if claw.model_provider in ("openai", "openai-compatible"):
        return environment.get("OPENAI_BASE_URL")
    return None


def _provider_model(claw: Claw, environment: Mapping[str, str]) -> "Model":
    """Imports only the client that is used: each costs tens of megabytes."""
    check_model(claw, environment)
    address = _address(claw, environment)
    # The clients' own retries are off: one place decides when to repeat.
    if claw.model_provider == "anthropic":
        from anthropic import AsyncAnthropic
        from pydantic_ai.models.anthropic import AnthropicModel
        from pydantic_ai.providers.anthropic import AnthropicProvider

        anthropic = AsyncAnthropic(api_key=environment["ANTHROPIC_API_KEY"], base_url=address, max_retries=0)
        return AnthropicModel(claw.model, provider=AnthropicProvider(anthropic_client=anthropic))
    if claw.model_provider == "groq":
        from groq import AsyncGroq
        from pydantic_ai.models.groq import GroqModel
        from pydantic_ai.providers.groq import GroqProvider

        groq = AsyncGroq(api_key=environment["GROQ_API_KEY"], base_url=address, max_retries=0)
        return GroqModel(claw.model, provider=GroqProvider(groq_client=groq))
    from openai import AsyncOpenAI
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider
    from pydantic_ai.providers.openai_compatible import OpenAICompatibleProvider

    key = _NO_KEY if claw.model_provider == "local" else environment.get("OPENAI_API_KEY", _NO_KEY)
    client = AsyncOpenAI(api_key=key, base_url=address, max_retries=0)
    if claw.model_provider == "openai":
        return OpenAIChatModel(claw.model, provider=OpenAIProvider(openai_client=client))
    return OpenAIChatModel(claw.model, provider=OpenAICompatibleProvider(claw.model_provider, openai_client=client))

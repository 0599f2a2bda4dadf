"""The models of an agent in its runtime configuration, and the files with their keys."""

from __future__ import annotations

from typing import Any

from openclaw_operator.api.base import KeyRef
from openclaw_operator.api.model import Cache, Endpoint, ModelSpec, OtherModel, Rated

MODEL_SECRETS_DIR = "/etc/openclaw/models"


def render(model: ModelSpec) -> dict[str, Any]:
    """The section `models`."""
    retry, budget, cache = model.retry, model.budget, model.cache
    return {
        "retry": {
            "retries": retry.retries,
            "base_delay": retry.base_delay_milliseconds,
            "max_delay": retry.max_delay_milliseconds,
            "timeout": retry.timeout_seconds * 1000,
        },
        "fallbacks": [_endpoint(item) for item in model.fallbacks],
        "candidates": [{**_endpoint(item), **figures(item)} for item in model.candidates],
        "budget": {"per_day": budget.per_day, "per_request": budget.per_request} if budget else {},
        "cache": _cache(cache) if cache else {},
    }


def _cache(cache: Cache) -> dict[str, Any]:
    return {
        "enabled": True,
        "ttl": cache.ttl_seconds,
        "stale": cache.stale_seconds,
        "refresh_ahead": cache.refresh_ahead,
        "turns": cache.turns,
        "entries": cache.entries,
        "disk_megabytes": cache.disk_megabytes,
    }


def figures(model: Rated) -> dict[str, Any]:
    """What is known of common models, where the Agent says it."""
    return {
        "pricing": _pricing(model),
        "performance": model.performance,
        "speed": model.speed,
        "vision": model.vision,
    }


def files(model: ModelSpec) -> dict[str, KeyRef]:
    """File name under /etc/openclaw/models → the Secret key it comes from. Gateways follow these files."""
    named = [model.credentials, *(item.credentials for _, item in model.others())]
    refs = [source.secret_key_ref for source in named if source]
    return {_file(ref): ref for ref in refs}


def key_file(model: Endpoint) -> str | None:
    """Where gateways find the key of a model."""
    return f"{MODEL_SECRETS_DIR}/{_file(model.credentials.secret_key_ref)}" if model.credentials else None


def addresses(model: ModelSpec) -> tuple[str | None, ...]:
    """Where the models are; None is the provider's own address."""
    return (model.base_url, *(item.base_url for _, item in model.others()))


def _file(ref: KeyRef) -> str:
    """Named after the Secret, so that the pod stays the same when models change places."""
    return f"{ref.name}/{ref.key}"


def _endpoint(item: OtherModel) -> dict[str, Any]:
    settings = item.settings
    return {
        "provider": item.provider,
        "model": item.name,
        "base_url": item.base_url,
        "api_key_file": key_file(item),
        "settings": settings.model_dump(exclude_none=True) if settings else None,
        "pricing": _pricing(item),
        "vision": item.vision,
    }


def _pricing(model: Endpoint) -> dict[str, float] | None:
    return model.pricing.model_dump() if model.pricing else None

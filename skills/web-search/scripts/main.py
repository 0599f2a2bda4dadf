"""web-search: one search over two services; when one fails, the next is asked."""

from __future__ import annotations

import re
from typing import Any

from providers import PROVIDERS, Query, SerpApi, Tavily
from transport import TransportError, send

from openclaw_skill import SkillError

_DAYS = {"day": 1, "week": 7, "month": 30, "year": 365}


def search(ctx: Any, args: dict[str, Any]) -> dict[str, Any]:
    """Searches the web and returns results of one shape, whichever service gave them."""
    query = Query(
        text=args["query"].strip(),
        limit=args.get("maxResults", 5),
        news=args.get("topic", "general") == "news",
        days=_DAYS.get(args.get("timeRange", "any")),
        domains=tuple(args.get("domains", ())),
    )
    if not query.text:
        raise SkillError("query: it is empty; say what to search for")
    failed: list[dict[str, str]] = []
    for provider, key in _usable(ctx):
        base_url = _base_url(ctx, provider)
        try:
            answer, results = _ask(provider, base_url, key, query, ctx.config.get("timeoutSeconds", 15))
        except TransportError as error:
            reason = provider.refusal(error.answer) or ""
            words = f"{error}: {reason}" if reason else str(error)
            failed.append({"provider": provider.name, "error": words.replace(key, "[key]")})
            ctx.logger.warning("%s failed: %s", provider.name, failed[-1]["error"])
            continue
        return {
            "provider": provider.name,
            "query": query.text,
            "answer": answer,
            "results": results[: query.limit],
            "failed": failed,
        }
    reasons = "; ".join(f"{item['provider']}: {item['error']}" for item in failed)
    raise SkillError(f"search: every provider failed ({reasons}); try again later or check the keys")


def _usable(ctx: Any) -> list[tuple[Tavily | SerpApi, str]]:
    """The providers in order of preference that there is a key for, or SkillError."""
    names = ctx.config.get("providers", list(PROVIDERS))
    for name in names:
        if name not in PROVIDERS:
            raise SkillError(f"config.providers: {name!r} is unknown; use {' or '.join(PROVIDERS)}")
    chosen = [(PROVIDERS[name], ctx.secrets.get(PROVIDERS[name].secret, "").strip()) for name in names]
    usable = [(provider, key) for provider, key in chosen if key]
    if not usable:
        wanted = " or ".join(PROVIDERS[name].secret for name in names)
        raise SkillError(f"secrets: no search key is set; add {wanted} to the Skill's secrets")
    return usable


def _base_url(ctx: Any, provider: Tavily | SerpApi) -> str:
    url = str(ctx.config.get(f"{provider.name}Url", provider.base_url)).rstrip("/")
    if not re.match(r"https?://[^/\s]+", url):
        raise SkillError(f"config.{provider.name}Url: {url!r} is not an http(s) URL; correct or remove it")
    return url


def _ask(
    provider: Tavily | SerpApi, base_url: str, key: str, query: Query, timeout: float
) -> tuple[str | None, list[dict[str, Any]]]:
    answer = send(provider.request(base_url, key, query), timeout)
    if provider.refusal(answer):
        raise TransportError("refused", answer)
    try:
        text, results = provider.results(answer)
    except (KeyError, TypeError, AttributeError):
        raise TransportError("the answer has no list of results") from None
    return text, [_clean(item) for item in results if item["url"]]


def _clean(item: dict[str, Any]) -> dict[str, Any]:
    score = item["score"]
    return {
        "title": " ".join(str(item["title"] or item["url"]).split()),
        "url": str(item["url"]),
        "snippet": " ".join(str(item["snippet"] or "").split()),
        "score": float(score) if isinstance(score, int | float) else None,
        "published": str(item["published"]) if item["published"] else None,
    }

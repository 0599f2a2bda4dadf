"""Two search services behind one shape. Each provider: (query) -> request, (answer) -> results.

Tavily: https://docs.tavily.com/documentation/api-reference/endpoint/search
SerpApi: https://serpapi.com/search-api and https://serpapi.com/organic-results
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar
from urllib.parse import urlencode

from transport import Request


@dataclass(frozen=True)
class Query:
    """What is searched for. `days` limits the age: 1, 7, 30, 365 or None."""

    text: str
    limit: int
    news: bool
    days: int | None
    domains: tuple[str, ...]


class Tavily:
    """Search made for models: content excerpts, scores and a short answer."""

    name = "tavily"
    secret = "TAVILY_API_KEY"  # noqa: S105 (the secret's name)
    base_url = "https://api.tavily.com"
    _ranges: ClassVar = {1: "day", 7: "week", 30: "month", 365: "year"}

    def request(self, base_url: str, key: str, query: Query) -> Request:
        """Returns the HTTP request for a query."""
        body: dict[str, Any] = {
            "query": query.text,
            "max_results": query.limit,
            "topic": "news" if query.news else "general",
            "search_depth": "basic",
            "include_answer": True,
        }
        if query.days is not None:
            body["time_range"] = self._ranges[query.days]
        if query.domains:
            body["include_domains"] = list(query.domains)
        return Request(f"{base_url}/search", {"Authorization": f"Bearer {key}"}, body)

    def results(self, answer: dict[str, Any]) -> tuple[str | None, list[dict[str, Any]]]:
        """Returns the short answer and the results of a response."""
        found = [
            {
                "title": item.get("title"),
                "url": item.get("url"),
                "snippet": item.get("content"),
                "score": item.get("score"),
                "published": item.get("published_date"),
            }
            for item in answer["results"]
        ]
        return answer.get("answer"), found

    def refusal(self, answer: dict[str, Any]) -> str | None:
        """Returns the service's own words for an error."""
        detail = answer.get("detail")
        detail = detail.get("error") if isinstance(detail, dict) else detail
        return str(detail or answer.get("error") or "") or None


class SerpApi:
    """Google's results as JSON."""

    name = "serpapi"
    secret = "SERPAPI_KEY"  # noqa: S105 (the secret's name)
    base_url = "https://serpapi.com"
    _ranges: ClassVar = {1: "qdr:d", 7: "qdr:w", 30: "qdr:m", 365: "qdr:y"}
    _nothing = "hasn't returned any results"

    def request(self, base_url: str, key: str, query: Query) -> Request:
        """Returns the HTTP request for a query."""
        sites = " OR ".join(f"site:{domain}" for domain in query.domains)
        text = f"{query.text} ({sites})" if len(query.domains) > 1 else f"{query.text} {sites}".strip()
        parameters = {"engine": "google", "q": text, "num": str(query.limit), "output": "json", "api_key": key}
        if query.news:
            parameters["tbm"] = "nws"
        if query.days is not None:
            parameters["tbs"] = self._ranges[query.days]
        return Request(f"{base_url}/search.json?{urlencode(parameters)}", {}, None)

    def results(self, answer: dict[str, Any]) -> tuple[str | None, list[dict[str, Any]]]:
        """Returns the short answer and the results of a response."""
        if "error" in answer and self._nothing in str(answer["error"]):
            return None, []
        items = answer["news_results"] if "news_results" in answer else answer["organic_results"]
        found = [
            {
                "title": item.get("title"),
                "url": item.get("link"),
                "snippet": item.get("snippet"),
                "score": None,
                "published": item.get("date"),
            }
            for item in items
        ]
        box = answer.get("answer_box") or {}
        return box.get("answer") or box.get("snippet"), found

    def refusal(self, answer: dict[str, Any]) -> str | None:
        """Returns the service's own words for an error."""
        error = str(answer.get("error") or "")
        return None if self._nothing in error else error or None


PROVIDERS: dict[str, Tavily | SerpApi] = {provider.name: provider for provider in (Tavily(), SerpApi())}

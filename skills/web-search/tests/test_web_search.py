import json

import pytest

from openclaw_skill import SkillError
from tests.fakes.http_server import Reply, serve

TAVILY = {
    "query": "q",
    "answer": "Forty-two.",
    "results": [
        {"title": "A  page", "url": "https://a.example/", "content": "Some\ntext", "score": 0.9},
        {"title": "B", "url": "https://b.example/", "content": "More", "score": 0.5, "published_date": "2026-01-02"},
        {"title": "no address", "url": None, "content": ""},
    ],
    "response_time": 0.5,
}
SERPAPI = {
    "search_metadata": {"status": "Success"},
    "answer_box": {"type": "organic_result", "snippet": "Short."},
    "organic_results": [
        {"position": 1, "title": "G", "link": "https://g.example/", "snippet": "Found", "date": "Jan 2, 2026"},
        {"position": 2, "title": "H", "link": "https://h.example/"},
    ],
}


@pytest.fixture
def service(ctx):
    """Both services on one server: POST /search is Tavily's, GET /search.json is SerpApi's."""
    replies = {"/search": (200, TAVILY), "/search.json": (200, SERPAPI)}

    def answer(seen):
        allowed = seen.headers.get("authorization") == "Bearer tv-key" or seen.query.get("api_key") == "serp-key"
        if not allowed:
            return Reply(401, b'{"error": "Invalid API key"}')
        if isinstance(replies[seen.path], Reply):
            return replies[seen.path]
        status, body = replies[seen.path]
        return Reply(status, body if isinstance(body, bytes) else json.dumps(body).encode())

    with serve(answer) as server:
        server.replies = replies
        ctx.config = {"tavilyUrl": server.url + "/", "serpapiUrl": server.url}
        ctx.secrets = {"TAVILY_API_KEY": "tv-key", "SERPAPI_KEY": "serp-key"}
        yield server


async def test_tavily(call, service):
    got = await call(
        "search", query=" meaning of life ", maxResults=3, topic="news", timeRange="week", domains=["a.example"]
    )
    assert (got["provider"], got["query"], got["answer"], got["failed"]) == (
        "tavily",
        "meaning of life",
        "Forty-two.",
        [],
    )
    assert got["results"] == [
        {"title": "A page", "url": "https://a.example/", "snippet": "Some text", "score": 0.9, "published": None},
        {"title": "B", "url": "https://b.example/", "snippet": "More", "score": 0.5, "published": "2026-01-02"},
    ]
    (seen,) = service.seen
    assert (seen.method, seen.path) == ("POST", "/search")
    assert json.loads(seen.body) == {
        "query": "meaning of life",
        "max_results": 3,
        "topic": "news",
        "search_depth": "basic",
        "include_answer": True,
        "time_range": "week",
        "include_domains": ["a.example"],
    }


async def test_serpapi(call, service, ctx):
    ctx.config["providers"] = ["serpapi"]
    got = await call("search", query="x", maxResults=1, timeRange="day", domains=["a.org", "b.org"])
    assert (got["provider"], got["answer"]) == ("serpapi", "Short.")
    assert got["results"] == [
        {"title": "G", "url": "https://g.example/", "snippet": "Found", "score": None, "published": "Jan 2, 2026"}
    ]
    query = service.seen[0].query
    assert (query["engine"], query["q"], query["num"], query["tbs"]) == (
        "google",
        "x (site:a.org OR site:b.org)",
        "1",
        "qdr:d",
    )
    service.replies["/search.json"] = (
        200,
        {"news_results": [{"title": "N", "link": "https://n.example/", "date": "1h"}]},
    )
    news = await call("search", query="x", topic="news")
    assert news["results"][0]["url"] == "https://n.example/"
    assert service.seen[-1].query["tbm"] == "nws"


async def test_no_results_is_not_a_failure(call, service, ctx):
    ctx.config["providers"] = ["serpapi"]
    service.replies["/search.json"] = (200, {"error": "Google hasn't returned any results for this query."})
    assert (await call("search", query="zxqv"))["results"] == []


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ((429, {"detail": {"error": "too many requests"}}), "HTTP 429: too many requests"),
        ((500, b"<html>"), "HTTP 500"),
        (Reply(500, b"zz", {"Transfer-Encoding": "chunked"}), "HTTP 500"),
        ((200, b"<html>"), "not JSON"),
        ((200, {"other": 1}), "no list of results"),
        ((200, {"results": None}), "no list of results"),
        ((200, []), "not a JSON object"),
    ],
)
async def test_the_second_service_answers_when_the_first_fails(call, service, reply, reason):
    service.replies["/search"] = reply
    got = await call("search", query="x")
    assert got["provider"] == "serpapi"
    assert [item["provider"] for item in got["failed"]] == ["tavily"]
    assert reason in got["failed"][0]["error"]


async def test_when_all_fail_the_reasons_are_told_and_no_key(call, service, ctx):
    service.replies["/search"] = (403, {"detail": {"error": "key tv-key is blocked"}})
    ctx.secrets["SERPAPI_KEY"] = "wrong"
    with pytest.raises(SkillError) as error:
        await call("search", query="x")
    message = str(error.value)
    assert "tavily: HTTP 403: key [key] is blocked" in message
    assert "serpapi: HTTP 401: Invalid API key" in message
    assert "tv-key" not in message


async def test_an_unreachable_service_is_passed_over(call, service, ctx):
    ctx.config["tavilyUrl"] = "http://127.0.0.1:1"
    got = await call("search", query="x")
    assert "not reachable" in got["failed"][0]["error"]


async def test_a_service_without_a_key_is_not_asked(call, service, ctx):
    ctx.secrets = {"SERPAPI_KEY": "serp-key", "TAVILY_API_KEY": " "}
    assert (await call("search", query="x"))["failed"] == []
    assert [seen.path for seen in service.seen] == ["/search.json"]


async def test_missing_keys_and_wrong_settings(call, ctx):
    with pytest.raises(SkillError, match="add TAVILY_API_KEY or SERPAPI_KEY"):
        await call("search", query="x")
    ctx.config = {"providers": ["bing"]}
    with pytest.raises(SkillError, match=r"config\.providers: 'bing' is unknown"):
        await call("search", query="x")
    ctx.config, ctx.secrets = {"tavilyUrl": "ftp://x"}, {"TAVILY_API_KEY": "k"}
    with pytest.raises(SkillError, match=r"config\.tavilyUrl"):
        await call("search", query="x")
    with pytest.raises(SkillError, match="query"):
        await call("search", query="  ")

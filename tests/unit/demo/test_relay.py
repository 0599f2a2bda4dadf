"""The relay passes requests and streamed answers on, and says so when the model's API does not answer."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import httpx
import pytest

from tests.demo.relay import create_app, passed_on
from tests.demo.steps import model_from
from tests.fakes.llm.server import create_app as stand_in

QUESTION = {"model": "stand-in", "messages": [{"role": "user", "content": "hello"}]}


def through(transport: httpx.AsyncBaseTransport) -> httpx.AsyncClient:
    app = create_app("http://model.test/v1/", transport)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://relay.test")


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with through(httpx.ASGITransport(stand_in())) as each:
        yield each


async def test_an_answer_is_the_models_own(client: httpx.AsyncClient) -> None:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(stand_in()), base_url="http://model.test") as direct:
        expected = (await direct.post("/v1/chat/completions", json=QUESTION)).json()
    answer = (await client.post("/chat/completions", json=QUESTION)).json()
    assert answer["choices"] == expected["choices"]


async def test_a_stream_ends_as_the_models_does(client: httpx.AsyncClient) -> None:
    async with client.stream("POST", "/chat/completions", json={**QUESTION, "stream": True}) as answer:
        lines = [line async for line in answer.aiter_lines() if line]
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert json.loads(lines[0].removeprefix("data: "))["object"] == "chat.completion.chunk"
    assert lines[-1] == "data: [DONE]"


async def test_path_query_key_and_error_status_are_passed_on() -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(429, json={"error": {"message": "slow down"}}, headers={"Retry-After": "7"})

    async with through(httpx.MockTransport(answer)) as client:
        reply = await client.get("/models?limit=2", headers={"Authorization": "Bearer key"})
    assert (reply.status_code, reply.headers["retry-after"]) == (429, "7")
    assert str(seen[0].url) == "http://model.test/v1/models?limit=2"
    assert seen[0].headers["authorization"] == "Bearer key"
    assert seen[0].headers["host"] == "model.test"


async def test_no_answer_is_told_in_the_shape_clients_read() -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("connection refused", request=request)

    async with through(httpx.MockTransport(refuse)) as client:
        reply = await client.post("/chat/completions", json=QUESTION)
    assert reply.status_code == 502
    assert "http://model.test/v1/ does not answer" in reply.json()["error"]["message"]


def test_headers_of_a_connection_stay_on_it() -> None:
    headers = {"Connection": "close", "Host": "relay", "Transfer-Encoding": "chunked", "X-Request-Id": "1"}
    assert passed_on(headers) == {"X-Request-Id": "1"}


@pytest.mark.parametrize(
    ("environment", "base_url", "stand_in_used"),
    [
        ({}, "http://llm:8000/v1", True),
        ({"OPENAI_API_KEY": "key"}, "https://api.openai.com/v1", False),
        ({"OPENAI_BASE_URL": "http://127.0.0.1:8000/v1"}, "http://127.0.0.1:8000/v1", False),
        ({"OPENAI_API_KEY": "key", "OPENAI_BASE_URL": "https://llm.test/v1"}, "https://llm.test/v1", False),
    ],
)
def test_the_model_is_the_users_where_one_is_named(
    environment: dict[str, str], base_url: str, stand_in_used: bool
) -> None:
    model = model_from(environment)
    assert (model.base_url, model.stand_in) == (base_url, stand_in_used)

"""The stand-in's HTTP side: the part of OpenAI's chat completions API that agents use, streaming included.

https://platform.openai.com/docs/api-reference/chat
"""

import hashlib
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from tests.fakes.llm.rules import Reply, Text, answer, text_of

MODEL = "stand-in"
CREATED = 1_767_225_600
"""A fixed date: the stand-in's answers depend on nothing but the request."""


def create_app() -> Starlette:
    """Returns the server's ASGI application."""
    return Starlette(
        routes=[
            Route("/v1/models", list_models),
            Route("/v1/chat/completions", chat_completions, methods=["POST"]),
            Route("/health", health),
        ]
    )


async def health(request: Request) -> Response:
    """Says that it runs."""
    return JSONResponse({"status": "ok"})


async def list_models(request: Request) -> Response:
    """Lists the one model, whose owner says what it is."""
    model = {"id": MODEL, "object": "model", "created": CREATED, "owned_by": "stand-in: rules, not a language model"}
    return JSONResponse({"object": "list", "data": [model]})


async def chat_completions(request: Request) -> Response:
    """Answers a conversation."""
    body = await request.body()
    try:
        asked = json.loads(body)
        messages = asked["messages"]
        tools = {tool["function"]["name"]: tool["function"].get("parameters", {}) for tool in asked.get("tools") or []}
    except (ValueError, KeyError, TypeError):
        error = {
            "message": "the body must be JSON with messages",
            "type": "invalid_request_error",
            "param": None,
            "code": None,
        }
        return JSONResponse({"error": error}, status_code=400)
    reply = answer(messages, tools)
    base = {
        "id": f"chatcmpl-{hashlib.sha256(body).hexdigest()[:24]}",
        "created": CREATED,
        "model": asked.get("model", MODEL),
    }
    usage = count(messages, reply)
    if asked.get("stream"):
        with_usage = bool((asked.get("stream_options") or {}).get("include_usage"))
        return StreamingResponse(stream(base, reply, usage if with_usage else None), media_type="text/event-stream")
    return JSONResponse(completion(base, reply, usage))


def count(messages: list[Mapping[str, Any]], reply: Reply) -> dict[str, int]:
    """Returns the usage; a token is a word."""
    prompt = sum(len(text_of(message).split()) for message in messages)
    said = len(reply.text.split()) if isinstance(reply, Text) else 1 + len(json.dumps(reply.arguments).split())
    return {"prompt_tokens": prompt, "completion_tokens": said, "total_tokens": prompt + said}


def tool_call(base: Mapping[str, Any], name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a tool call; its id follows from the request's."""
    return {
        "id": f"call_{str(base['id'])[-24:]}",
        "type": "function",
        "function": {"name": name, "arguments": json.dumps(arguments)},
    }


def completion(base: Mapping[str, Any], reply: Reply, usage: Mapping[str, int]) -> dict[str, Any]:
    """Returns the answer in one piece."""
    message: dict[str, Any] = {"role": "assistant", "content": None, "refusal": None}
    if isinstance(reply, Text):
        message["content"] = reply.text
    else:
        message["tool_calls"] = [tool_call(base, reply.name, reply.arguments)]
    finish = "stop" if isinstance(reply, Text) else "tool_calls"
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}
    return {**base, "object": "chat.completion", "choices": [choice], "usage": usage}


async def stream(base: Mapping[str, Any], reply: Reply, usage: Mapping[str, int] | None) -> AsyncIterator[str]:
    """Yields the answer as server-sent events, a word at a time."""

    def event(delta: Mapping[str, Any], finish: str | None = None) -> str:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return f"data: {json.dumps({**base, 'object': 'chat.completion.chunk', 'choices': [choice]})}\n\n"

    if isinstance(reply, Text):
        yield event({"role": "assistant", "content": ""})
        for number, word in enumerate(reply.text.split(" ")):
            yield event({"content": f" {word}" if number else word})
        yield event({}, "stop")
    else:
        yield event({"role": "assistant", "tool_calls": [{"index": 0, **tool_call(base, reply.name, reply.arguments)}]})
        yield event({}, "tool_calls")
    if usage is not None:
        yield f"data: {json.dumps({**base, 'object': 'chat.completion.chunk', 'choices': [], 'usage': usage})}\n\n"
    yield "data: [DONE]\n\n"

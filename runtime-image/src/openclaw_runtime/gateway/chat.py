"""The OpenAI-compatible routes."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from openclaw_runtime.agent.events import Activity, TextDelta, TurnDone, TurnEvent, TurnRequest
from openclaw_runtime.errors import OpenClawError
from openclaw_runtime.gateway import openai
from openclaw_runtime.gateway.images import LARGEST_CHARACTERS
from openclaw_runtime.gateway.openai import RequestError, as_request_error
from openclaw_runtime.gateway.state import GatewayState
from openclaw_runtime.lively import lively

SESSION_HEADER = "X-OpenClaw-Session"
_LARGEST_TEXT = 4 * 1024 * 1024
_LARGEST_BODY = _LARGEST_TEXT + LARGEST_CHARACTERS
_LARGE_BODY = 256 * 1024
"""Bytes. The images of a larger one are read in a thread: other turns would notice."""
_KEEP_ALIVE_SECONDS = 10.0


def routes(state: GatewayState) -> list[Route]:
    """Returns the routes under /v1."""

    async def models(_request: Request) -> Response:
        body = openai.model_list(_names(state), created=int(state.start_time), owner="openclaw")
        return Response(body, media_type="application/json")

    async def chat_completions(request: Request) -> Response:
        turn, answer, stream = await _asked(state, request)
        headers = {SESSION_HEADER: turn.session.encode().decode("latin-1")}
        return await (_streamed if stream else _whole)(state.turn(turn), answer, headers)

    return [
        Route("/v1/models", models, methods=["GET"]),
        Route("/v1/chat/completions", chat_completions, methods=["POST"]),
    ]


async def _asked(state: GatewayState, request: Request) -> tuple[TurnRequest, openai.Answer, bool]:
    """Returns what a request asks for, how it is answered, and whether in a stream.

    The body ends with this: a turn may take minutes, and images make bodies large.
    """
    body = await _body(request)
    asked = openai.parse_request(body)
    if asked.model and asked.model not in _names(state):
        known = ", ".join(_names(state))
        raise RequestError(
            f"model: there is no {asked.model!r} here; choose one of {known}",
            status=404,
            param="model",
            code="model_not_found",
        )
    beside = len(body) - openai.characters_of_images(asked)
    if beside > _LARGEST_TEXT:
        raise RequestError(f"the body has {beside} bytes beside images; at most {_LARGEST_TEXT} are", status=413)
    read = partial(
        openai.to_turn,
        asked,
        session_header=_from_header(request.headers.get(SESSION_HEADER)),
        fresh_session=state.new_id(),
        now=state.now(),
    )
    turn = await asyncio.to_thread(read) if len(body) > _LARGE_BODY else read()
    answer = openai.Answer(
        id=f"chatcmpl-{state.new_id()}",
        model=asked.model or state.agent,
        created=int(state.now()),
        with_usage=bool(asked.stream_options and asked.stream_options.include_usage),
    )
    return turn, answer, asked.stream


def _names(state: GatewayState) -> list[str]:
    """The agent's name, and the model's own name for clients with a fixed one."""
    return list(dict.fromkeys([state.agent, state.loop.config.claw.model]))


def _from_header(value: str | None) -> str | None:
    """Returns a header's text. The framework reads and writes headers as Latin-1; a session's name travels as UTF-8."""
    try:
        return value.encode("latin-1").decode() if value else value
    except UnicodeDecodeError:
        return value


async def _body(request: Request) -> bytes:
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > _LARGEST_BODY:
                raise RequestError(
                    f"the body is larger than {_LARGEST_BODY} bytes; leave out images of earlier messages",
                    status=413,
                )
    except ClientDisconnect:
        raise RequestError("the client left") from None
    return bytes(body)


async def _whole(events: AsyncGenerator[TurnEvent, None], answer: openai.Answer, headers: dict[str, str]) -> Response:
    async with aclosing(events):
        try:
            async for event in events:
                if isinstance(event, TurnDone):
                    body = answer.completion(event)
                    return Response(body, headers=headers, media_type="application/json")
        except OpenClawError as error:
            raise as_request_error(error) from error
    raise AssertionError("a turn ends with TurnDone")


async def _streamed(
    events: AsyncGenerator[TurnEvent, None], answer: openai.Answer, headers: dict[str, str]
) -> Response:
    """Starts the turn before the response, so that a turn that fails at once gets the status of its error."""
    try:
        first = await anext(events)
    except OpenClawError as error:
        raise as_request_error(error) from error
    return StreamingResponse(
        _server_sent(first, events, answer),
        headers=headers | {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
        media_type="text/event-stream",
    )


async def _server_sent(
    first: TurnEvent, events: AsyncGenerator[TurnEvent, None], answer: openai.Answer
) -> AsyncGenerator[bytes, None]:
    yield answer.first()
    async with aclosing(events):
        try:
            yield _encoded(first, answer)
            if isinstance(first, TurnDone):
                return
            async with aclosing(lively(events, _KEEP_ALIVE_SECONDS)) as told:
                async for event in told:
                    yield openai.comment("working") if event is None else _encoded(event, answer)
        except OpenClawError as error:
            failed = as_request_error(error)
            yield openai.error_event(failed.status, str(failed), failed.code)


def _encoded(event: TurnEvent, answer: openai.Answer) -> bytes:
    match event:
        case TextDelta(text):
            return answer.delta(text)
        case Activity(text):
            return openai.comment(text)
        case TurnDone():
            return answer.last(event)

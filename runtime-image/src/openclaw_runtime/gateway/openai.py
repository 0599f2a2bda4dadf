"""OpenAI's chat completions format: requests in, completions, chunks and errors out. Pure.

https://platform.openai.com/docs/api-reference/chat
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import count
from typing import Any

import msgspec

from openclaw_runtime.agent.attachments import mentioned
from openclaw_runtime.agent.events import TurnDone, TurnRequest, Usage
from openclaw_runtime.errors import MemoryStoreError, ModelError, OpenClawError, TurnError
from openclaw_runtime.gateway.images import image_of, share
from openclaw_runtime.memory.types import SessionMessage
from openclaw_runtime.sandbox.attachments import Attachment

_ROLES = ("system", "developer", "user", "assistant", "tool")
_LONGEST_SESSION = 200
ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "invalid_request_error",
    405: "invalid_request_error",
    409: "invalid_request_error",
    413: "invalid_request_error",
    415: "invalid_request_error",
    422: "invalid_request_error",
    429: "rate_limit_error",
}


class RequestError(OpenClawError):
    """A request that cannot be served. `param` names the field."""

    def __init__(self, message: str, *, status: int = 400, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.param = param
        self.code = code


def as_request_error(error: OpenClawError) -> RequestError:
    """Returns an error as the one who asked sees it."""
    if isinstance(error, RequestError):
        return error
    if isinstance(error, ModelError | TurnError):
        return RequestError(str(error), status=error.status, code=error.code)
    if isinstance(error, MemoryStoreError):
        return RequestError("the agent's memory cannot be reached; try again", status=503, code="memory_unavailable")
    return RequestError(str(error), status=500, code="internal_error")


class ImageURL(msgspec.Struct):
    """An image of a message."""

    url: str


class ContentPart(msgspec.Struct):
    """One part of a message's content."""

    type: str
    text: str | None = None
    image_url: ImageURL | None = None


class ChatMessage(msgspec.Struct):
    """One message of a request."""

    role: str
    content: str | list[ContentPart] | None = None


class StreamOptions(msgspec.Struct):
    """Options of a stream."""

    include_usage: bool = False


class ChatRequest(msgspec.Struct):
    """The part of a request that has a meaning for an agent; other fields are accepted and have none."""

    messages: list[ChatMessage]
    model: str = ""
    stream: bool = False
    stream_options: StreamOptions | None = None
    user: str | None = None
    n: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    tools: list[Any] | None = None
    functions: list[Any] | None = None
    response_format: dict[str, Any] | None = None


_decoder = msgspec.json.Decoder(ChatRequest)
_encode = msgspec.json.Encoder().encode


def parse_request(body: bytes) -> ChatRequest:
    """Reads a request. Raises `RequestError` that names the field."""
    try:
        request = _decoder.decode(body)
    except msgspec.ValidationError as error:
        text, _, place = str(error).partition(" - at `$")
        field = place.strip("`.") or None
        raise RequestError(f"{field or 'body'}: {text}", param=field) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RequestError(f"the body is not valid JSON: {error}") from None
    _check(request)
    return request


def _check(request: ChatRequest) -> None:
    if not request.messages or request.messages[-1].role != "user":
        raise RequestError("messages: the last message must have the role user", param="messages")
    for number, message in enumerate(request.messages):
        if message.role not in _ROLES:
            raise RequestError(
                f"messages[{number}].role: {message.role!r} is not allowed; allowed: {', '.join(_ROLES)}",
                param=f"messages[{number}].role",
            )
    if request.n not in (None, 1):
        raise RequestError("n: an agent gives one answer; leave n out or set it to 1", param="n")
    if request.tools or request.functions:
        raise RequestError(
            "tools: an agent uses the skills it has; leave tools out", param="tools", code="unsupported_parameter"
        )
    if (request.response_format or {}).get("type", "text") != "text":
        raise RequestError(
            "response_format: only text is supported", param="response_format", code="unsupported_parameter"
        )
    _in_range("temperature", request.temperature, 0, 2)
    _in_range("top_p", request.top_p, 0, 1)
    _in_range("presence_penalty", request.presence_penalty, -2, 2)
    _in_range("frequency_penalty", request.frequency_penalty, -2, 2)
    for name in ("max_tokens", "max_completion_tokens"):
        value = getattr(request, name)
        if value is not None and value < 1:
            raise RequestError(f"{name}: {value} is not allowed; it must be 1 or more", param=name)


def _in_range(name: str, value: float | None, low: float, high: float) -> None:
    if value is not None and not low <= value <= high:
        raise RequestError(f"{name}: {value:g} is not allowed; it must be {low:g} to {high:g}", param=name)


def characters_of_images(request: ChatRequest) -> int:
    """Returns how many characters of a request are images."""
    parts = [part for message in request.messages if isinstance(message.content, list) for part in message.content]
    return sum(len(part.image_url.url) for part in parts if part.image_url)


@dataclass(frozen=True, slots=True)
class _Said:
    """A message: what it says, and the images that came with it."""

    role: str
    text: str
    images: Sequence[Attachment] = ()

    def __bool__(self) -> bool:
        return bool(self.text or self.images)


def _said(messages: Sequence[ChatMessage]) -> list[_Said]:
    """Returns what messages say and show. Raises `RequestError` for content that is neither text nor an image."""
    numbers = count(1)
    said = []
    for place, message in enumerate(messages):
        if not isinstance(message.content, list):
            said.append(_Said(message.role, message.content or ""))
            continue
        parts = [
            _part(part, f"messages[{place}].content[{number}]", message.role, numbers)
            for number, part in enumerate(message.content)
        ]
        text = "\n".join(part for part in parts if isinstance(part, str))
        said.append(_Said(message.role, text, [part for part in parts if isinstance(part, Attachment)]))
    return said


def _part(part: ContentPart, field: str, role: str, numbers: Iterator[int]) -> str | Attachment:
    if part.type == "text" and part.text is not None:
        return part.text
    if part.type != "image_url":
        raise RequestError(
            f"{field}.type: parts of type {part.type!r} are not supported; send text and image_url",
            param=f"{field}.type",
        )
    if role != "user":
        raise RequestError(f"{field}: an image of the role {role}; only messages of the user may have any", param=field)
    if part.image_url is None:
        raise RequestError(f"{field}.image_url: is missing; send {{'url': 'data:…'}}", param=f"{field}.image_url")
    try:
        return image_of(part.image_url.url, next(numbers))
    except ValueError as error:
        raise RequestError(f"{field}.image_url.url: {error}", param=f"{field}.image_url.url") from None


def to_turn(request: ChatRequest, *, session_header: str | None, fresh_session: str, now: float) -> TurnRequest:
    """Returns the turn that a request asks for.

    The session is the header's, else the user field, else `fresh_session`. A client that sends the conversation so far
    (an assistant message is among the messages) keeps it itself: then it is used as sent; else the agent's own record
    of the session is. Raises `RequestError`.
    """
    session = session_header or request.user or fresh_session
    if len(session) > _LONGEST_SESSION or not session.isprintable():
        raise RequestError(f"the session must have 1 to {_LONGEST_SESSION} printable characters", param="user")
    *before, last = _said(request.messages)
    if not last.text.strip() and not last.images:
        raise RequestError("messages: the last message is empty", param="messages")
    talk = [each for each in before if each.role in ("user", "assistant") and each]
    held_by_client = any(each.role == "assistant" for each in talk)
    # Several user messages in a row and no answer between them: one question in several pieces.
    question = [last] if held_by_client else [*talk, last]
    images = [image for each in question for image in each.images]
    past = talk if held_by_client else []
    try:
        earlier = share(images, {place: each.images for place, each in enumerate(past) if each.images})
    except ValueError as error:
        raise RequestError(f"messages: {error}", param="messages") from None
    return TurnRequest(
        session=session,
        text="\n\n".join(each.text for each in question if each.text),
        history=[_past(each, earlier.get(place, ()), now) for place, each in enumerate(past)] or None,
        client_instructions=[each.text for each in before if each.role in ("system", "developer")],
        settings=_settings(request),
        commands=True,
        images=images,
        earlier=earlier,
    )


def _past(said: _Said, shown: Sequence[Attachment], now: float) -> SessionMessage:
    """Returns an earlier message; the images that are not shown again are named in it."""
    left_out = [each for each in said.images if each not in shown]
    return SessionMessage("user" if said.role == "user" else "assistant", mentioned(said.text, left_out), now)


def _settings(request: ChatRequest) -> dict[str, Any]:
    stop = [request.stop] if isinstance(request.stop, str) else request.stop
    settings = {
        "temperature": request.temperature,
        "top_p": request.top_p,
        "max_tokens": request.max_completion_tokens or request.max_tokens,
        "presence_penalty": request.presence_penalty,
        "frequency_penalty": request.frequency_penalty,
        "seed": request.seed,
        "stop_sequences": stop,
    }
    return {name: value for name, value in settings.items() if value is not None}


def error_body(status: int, message: str, *, param: str | None = None, code: str | None = None) -> bytes:
    """Returns an error as OpenAI shapes it."""
    kind = ERROR_TYPES.get(status, "api_error" if status >= 500 else "invalid_request_error")
    return _encode({"error": {"message": message, "type": kind, "param": param, "code": code}})


@dataclass(frozen=True, slots=True)
class Answer:
    """One completion under way. `created` is Unix seconds."""

    id: str
    model: str
    created: int
    with_usage: bool = False

    def completion(self, done: TurnDone) -> bytes:
        """Returns the whole answer in one piece."""
        message = {"role": "assistant", "content": done.text, "refusal": None} | _attached(done)
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": done.finish_reason}
        return _encode(self._base("chat.completion") | {"choices": [choice], "usage": usage_body(done.usage)})

    def first(self) -> bytes:
        """Returns the event that opens a stream."""
        return self._chunk({"role": "assistant", "content": "", "refusal": None}, None)

    def delta(self, text: str) -> bytes:
        """Returns the event with the next piece of text."""
        return self._chunk({"content": text}, None)

    def last(self, done: TurnDone) -> bytes:
        """Returns the events that end a stream."""
        events = [self._chunk(_attached(done), done.finish_reason)]
        if self.with_usage:
            usage = usage_body(done.usage)
            events.append(_event(self._base("chat.completion.chunk") | {"choices": [], "usage": usage}))
        return b"".join([*events, b"data: [DONE]\n\n"])

    def _base(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}

    def _chunk(self, delta: dict[str, Any], finish_reason: str | None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        body = self._base("chat.completion.chunk") | {"choices": [choice]}
        return _event(body | {"usage": None} if self.with_usage else body)


def _attached(done: TurnDone) -> dict[str, Any]:
    """Returns what OpenAI's format has no word for: the files that came with the answer, and where each is."""
    attachments = [asdict(each) | {"url": f"/api/v1/attachments/{each.id}"} for each in done.attachments]
    return {"attachments": attachments} if attachments else {}


def error_event(status: int, message: str, code: str | None) -> bytes:
    """Returns the event that ends a stream with an error."""
    return b"data: " + error_body(status, message, code=code) + b"\n\n"


def comment(text: str) -> bytes:
    """Returns a comment, which clients ignore: it keeps the connection open and tells a person what happens.

    https://html.spec.whatwg.org/multipage/server-sent-events.html#authoring-notes
    """
    return f": {' '.join(text.split())}\n\n".encode()


def usage_body(usage: Usage) -> dict[str, int]:
    """Returns the usage in OpenAI's names."""
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }


def model_list(names: Sequence[str], *, created: int, owner: str) -> bytes:
    """Returns the list of models."""
    data = [{"id": name, "object": "model", "created": created, "owned_by": owner} for name in names]
    return _encode({"object": "list", "data": data})


def _event(body: dict[str, Any]) -> bytes:
    return b"data: " + _encode(body) + b"\n\n"

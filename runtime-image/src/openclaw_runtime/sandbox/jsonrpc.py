"""JSON-RPC 2.0 messages: how one is written as text and read from text that may be anybody's.

https://www.jsonrpc.org/specification. Only the standard library is imported here, because the pod imports it too. What
the messages of a call say is in `protocol`.
"""

import base64
import hashlib
import json
import math
import re
from dataclasses import dataclass, field
from typing import Any, NoReturn

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_MAX_SHOWN = 60

Json = dict[str, Any]


class ProtocolError(Exception):
    """A message is not what the protocol allows. `str()` names the field and what is expected."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request that expects a response with the same id."""

    id: int | str
    method: str
    params: Json


@dataclass(frozen=True, slots=True)
class Notification:
    """A message without an answer."""

    method: str
    params: Json


@dataclass(frozen=True, slots=True)
class Success:
    """The response to a request that worked."""

    id: int | str
    result: Any


@dataclass(frozen=True, slots=True)
class Failure:
    """The response to a request that failed; `id` is None where the request could not be read."""

    id: int | str | None
    code: int
    message: str
    data: Json = field(default_factory=dict)


Message = Request | Notification | Success | Failure


def dumps(value: object) -> str:
    """Writes JSON without spaces, in ASCII so that every string survives any encoding.

    Raises ValueError or TypeError for what is not JSON (NaN, sets, objects).
    """
    try:
        return json.dumps(value, allow_nan=False, separators=(",", ":"))
    except RecursionError:
        raise ValueError("nested too deeply") from None


def canonical_sha256(value: object) -> str:
    """Returns the hex sha256 over the canonical JSON of a value: sorted keys, no spaces, ASCII with \\u escapes.

    Raises ValueError or TypeError for what is not JSON.
    """
    try:
        text = json.dumps(value, allow_nan=False, separators=(",", ":"), sort_keys=True)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return hashlib.sha256(text.encode()).hexdigest()


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def loads(text: str | bytes) -> object:
    """Reads JSON strictly. Raises `ProtocolError` for anything else, however deep or odd it is."""
    try:
        return json.loads(text.decode() if isinstance(text, bytes) else text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"frame: not valid JSON ({type(error).__name__})") from None


def encode(message: Message) -> str:
    """Writes a message as the text of one frame. Raises ValueError or TypeError where its content is not JSON."""
    body: Json = {"jsonrpc": "2.0"}
    match message:
        case Request(id, method, params):
            body |= {"id": id, "method": method, "params": params}
        case Notification(method, params):
            body |= {"method": method, "params": params}
        case Success(id, result):
            body |= {"id": id, "result": result}
        case Failure(id, code, text, data):
            error: Json = {"code": int(code), "message": text}
            if data:
                error["data"] = data
            body |= {"id": id, "error": error}
    return dumps(body)


def decode(text: str | bytes) -> Message:
    """Reads one frame. Raises `ProtocolError` for anything that is not exactly one JSON-RPC 2.0 message."""
    body = loads(text)
    if not isinstance(body, dict):
        raise ProtocolError("frame: expected a JSON object")
    if body.get("jsonrpc") != "2.0":
        raise ProtocolError('jsonrpc: expected "2.0"')
    if "method" in body:
        return _decode_call(body)
    identity = body.get("id")
    if identity is not None:
        identity = _identity(identity)
    if ("result" in body) == ("error" in body):
        raise ProtocolError("frame: expected a method, a result or an error")
    if "result" in body:
        if identity is None:
            raise ProtocolError("id: missing in a response")
        return Success(identity, body["result"])
    error = Fields(body["error"], "error")
    return Failure(identity, error.integer("code"), error.text("message"), error.mapping("data", optional=True))


def decode_frame(frame: str | bytes) -> Message:
    """Reads one frame of a WebSocket, which has to be a text frame. Raises `ProtocolError`."""
    if isinstance(frame, bytes):
        raise ProtocolError("frame: a binary frame where text belongs")
    return decode(frame)


def _decode_call(body: Json) -> Message:
    method = body["method"]
    if not isinstance(method, str):
        raise ProtocolError("method: expected a string")
    params = body.get("params", {})
    if not isinstance(params, dict):
        raise ProtocolError("params: expected an object")
    if "id" not in body:
        return Notification(method, params)
    return Request(_identity(body["id"]), method, params)


def _identity(value: object) -> int | str:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ProtocolError("id: expected a string or an integer")
    return value


class Fields:
    """Reads typed fields of a JSON object; every mistake is a `ProtocolError` that names the field."""

    def __init__(self, value: object, name: str) -> None:
        if not isinstance(value, dict):
            raise ProtocolError(f"{name}: expected an object")
        self._value: Json = value
        self._name = name

    def _take(self, key: str) -> object:
        if key not in self._value:
            raise ProtocolError(f"{self._name}.{key}: missing")
        return self._value[key]

    def _refuse(self, key: str, value: object, expected: str) -> NoReturn:
        shown = repr(value)
        shown = shown if len(shown) <= _MAX_SHOWN else shown[:_MAX_SHOWN] + "…"
        raise ProtocolError(f"{self._name}.{key}: {shown} is not {expected}")

    def text(self, key: str, *, limit: int = 65_536, optional: bool = False) -> str:
        """Returns a string of at most `limit` characters; "" if it is optional and missing."""
        if optional and key not in self._value:
            return ""
        value = self._take(key)
        if not isinstance(value, str):
            self._refuse(key, value, "a string")
        if len(value) > limit:
            raise ProtocolError(f"{self._name}.{key}: longer than {limit} characters")
        return value

    def digest(self, key: str) -> str:
        """Returns `sha256:<64 hex>`."""
        value = self.text(key, limit=71)
        if not _DIGEST.fullmatch(value):
            self._refuse(key, value, "sha256:<64 hex digits>")
        return value

    def base64(self, key: str, size: int) -> bytes:
        """Returns `size` bytes that were written as base64."""
        text = self.text(key, limit=4 * (size // 3 + 1))
        try:
            value = base64.b64decode(text, validate=True)
        except ValueError:
            raise ProtocolError(f"{self._name}.{key}: not base64") from None
        if len(value) != size:
            raise ProtocolError(f"{self._name}.{key}: expected {size} bytes, got {len(value)}")
        return value

    def integer(self, key: str, *, least: int | None = None, most: int | None = None) -> int:
        """Returns an integer within bounds."""
        value = self._take(key)
        if isinstance(value, bool) or not isinstance(value, int):
            self._refuse(key, value, "an integer")
        if (least is not None and value < least) or (most is not None and value > most):
            self._refuse(key, value, f"between {least} and {most}")
        return value

    def number(self, key: str, *, least: float, most: float) -> float:
        """Returns a finite number within bounds."""
        value = self._take(key)
        if isinstance(value, bool) or not isinstance(value, int | float):
            self._refuse(key, value, "a number")
        # An integer of any size is JSON; compare before float() so that a huge one is refused, not an OverflowError.
        if not (least <= value <= most) or not math.isfinite(value):
            self._refuse(key, value, f"between {least:g} and {most:g}")
        return float(value)

    def mapping(self, key: str, *, optional: bool = False) -> Json:
        """Returns an object; {} if it is optional and missing."""
        if optional and key not in self._value:
            return {}
        value = self._take(key)
        if not isinstance(value, dict):
            self._refuse(key, value, "an object")
        return value

    def strings(self, key: str, *, limit: int = 1024, optional: bool = False) -> tuple[str, ...]:
        """Returns a list of strings; () if it is optional and missing."""
        if optional and key not in self._value:
            return ()
        value = self._take(key)
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            self._refuse(key, value, "a list of strings")
        if len(value) > limit:
            raise ProtocolError(f"{self._name}.{key}: more than {limit} items")
        return tuple(value)

    def nested(self, key: str) -> "Fields":
        """Returns the reader of an object inside."""
        return Fields(self._take(key), f"{self._name}.{key}")

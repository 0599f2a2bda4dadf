"""One JSON request over urllib, which honours HTTPS_PROXY."""

from __future__ import annotations

import http.client
import json
import urllib.request
from dataclasses import dataclass
from typing import Any
from urllib.error import HTTPError, URLError

MAX_ANSWER = 4 * 1024 * 1024


class TransportError(Exception):
    """No usable answer came. `str()` is one line without secrets; `answer` is the error's JSON where there was one."""

    def __init__(self, message: str, answer: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.answer = answer or {}


@dataclass(frozen=True)
class Request:
    """A GET, or a POST where there is a body. The URL may hold a key: it is never put into a message."""

    url: str
    headers: dict[str, str]
    body: dict[str, Any] | None


def send(request: Request, timeout: float) -> dict[str, Any]:
    """Returns the JSON object a service answered. Raises TransportError."""
    data = None if request.body is None else json.dumps(request.body).encode("utf-8")
    headers = {"User-Agent": "OpenClaw-Skill", "Accept": "application/json", **request.headers}
    if data is not None:
        headers["Content-Type"] = "application/json"
    message = urllib.request.Request(request.url, data=data, headers=headers)  # noqa: S310 (fixed or configured https)
    try:
        with urllib.request.urlopen(message, timeout=timeout) as response:  # noqa: S310
            return _object(response.read(MAX_ANSWER))
    except HTTPError as error:
        try:
            answer = _object(error.read(MAX_ANSWER))
        except (TransportError, OSError, http.client.HTTPException):
            # The body may be something else, or break off: the status is told all the same.
            answer = {}
        raise TransportError(f"HTTP {error.code}", answer) from None
    except URLError as error:
        raise TransportError(f"not reachable ({error.reason})") from None
    except TimeoutError:
        raise TransportError(f"no answer within {timeout:g} s") from None
    except (OSError, http.client.HTTPException) as error:
        raise TransportError(f"the connection broke ({type(error).__name__})") from None


def _object(data: bytes) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except ValueError:
        raise TransportError("the answer is not JSON") from None
    if not isinstance(value, dict):
        raise TransportError("the answer is not a JSON object")
    return value

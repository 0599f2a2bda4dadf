"""One HTTP request over urllib, with redirects checked, size capped and proxies of the environment honoured."""

from __future__ import annotations

import http.client
import urllib.request
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Any
from urllib.error import URLError
from urllib.parse import urlsplit

from openclaw_skill import SkillError

USER_AGENT = "OpenClaw-Skill"
MAX_REDIRECTS = 5
_PRIVATE_HEADERS = ("authorization", "cookie", "proxy-authorization", "x-api-key")
_CHUNK = 65536


@dataclass(frozen=True)
class Answer:
    """What a server answered in the end. `body` is decompressed and holds at most the cap."""

    url: str
    status: int
    headers: dict[str, str]
    body: bytes
    truncated: bool
    redirects: list[str]


class _Redirects(urllib.request.HTTPRedirectHandler):
    max_redirections = MAX_REDIRECTS

    def __init__(self, check: Callable[[str], str]) -> None:
        self._check = check
        self.followed: list[str] = []

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        if req.get_method() == "POST" and code in {307, 308}:
            return None  # not ours to send a body twice; the caller sees the redirect
        if urlsplit(req.full_url).scheme == "https" and urlsplit(newurl).scheme != "https":
            raise SkillError(f"url: {req.full_url} redirects to {newurl}, which is not encrypted; it was not followed")
        try:
            target = self._check(newurl)
        except SkillError as error:
            raise SkillError(f"{error} (redirect from {req.full_url})") from None
        new = super().redirect_request(req, fp, code, msg, headers, target)
        if new is not None:
            self.followed.append(target)
            if urlsplit(req.full_url).netloc != urlsplit(target).netloc:
                new.headers = {k: v for k, v in new.headers.items() if k.lower() not in _PRIVATE_HEADERS}
        return new


class _AnyStatus(urllib.request.HTTPDefaultErrorHandler):
    def http_error_default(self, req: Any, fp: Any, code: int, msg: str, hdrs: Any) -> Any:  # noqa: ARG002
        return fp


def fetch(
    method: str,
    url: str,
    *,
    headers: dict[str, str],
    body: bytes | None,
    check: Callable[[str], str],
    timeout: float,
    max_bytes: int,
) -> Answer:
    """Sends a request and returns the answer whatever its status. Raises SkillError if there is none."""
    redirects = _Redirects(check)
    opener = urllib.request.OpenerDirector()  # build_opener would add file:, ftp: and data: addresses
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        redirects,
        _AnyStatus(),
        urllib.request.HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    opener.addheaders = []
    request = urllib.request.Request(check(url), data=body, method=method)  # noqa: S310 (check allows http and https)
    for name, value in {"User-Agent": USER_AGENT, "Accept-Encoding": "gzip, deflate", **headers}.items():
        request.add_header(name, value)
    try:
        with opener.open(request, timeout=timeout) as response:
            data, truncated = _read(response, max_bytes)
            return Answer(response.url, response.status, _headers(response), data, truncated, redirects.followed)
    except URLError as error:
        raise SkillError(f"url: {url} could not be fetched: {error.reason}") from None
    except TimeoutError:
        raise SkillError(f"url: {url} did not answer within {timeout:g} s; try again or raise timeoutSeconds") from None
    except (OSError, http.client.HTTPException, ValueError, zlib.error) as error:
        raise SkillError(f"url: {url} could not be fetched: {error or type(error).__name__}") from None


def _headers(response: Any) -> dict[str, str]:
    merged: dict[str, str] = {}
    for name, value in response.headers.items():
        key = name.lower()
        if key != "set-cookie":
            merged[key] = f"{merged[key]}, {value}" if key in merged else value
    return merged


def _read(response: Any, limit: int) -> tuple[bytes, bool]:
    """Returns up to `limit` bytes of the decompressed body, and whether there was more."""
    coding = response.headers.get("Content-Encoding", "").strip().lower()
    if coding not in {"gzip", "x-gzip", "deflate"}:
        data = response.read(limit + 1)
        return data[:limit], len(data) > limit
    inflate = zlib.decompressobj(zlib.MAX_WBITS | 32)
    body = bytearray()
    while not inflate.eof and len(body) <= limit and (chunk := response.read(_CHUNK)):
        body += inflate.decompress(chunk, limit + 1 - len(body))
        while inflate.unconsumed_tail and len(body) <= limit:
            body += inflate.decompress(inflate.unconsumed_tail, limit + 1 - len(body))
    return bytes(body[:limit]), len(body) > limit

"""http-fetch: web pages and HTTP interfaces."""

from __future__ import annotations

import base64
import json
import re
from functools import partial
from typing import Any

import client
import htmltext
import policy

from openclaw_skill import SkillError

_FORBIDDEN_HEADERS = frozenset({"host", "content-length", "transfer-encoding", "connection", "proxy-authorization"})
_TEXT_TYPES = re.compile(r"^(text/|application/(xml|javascript|yaml|x-yaml|toml|x-ndjson|x-sh)|[^;]*\+xml)")


def get(ctx: Any, args: dict[str, Any]) -> dict[str, Any]:
    """Fetches an address and turns what comes into text, JSON or bytes."""
    return _fetch(ctx, "GET", args, None)


def head(ctx: Any, args: dict[str, Any]) -> dict[str, Any]:
    """Asks for the headers of an address only."""
    return _fetch(ctx, "HEAD", args, None)


def post(ctx: Any, args: dict[str, Any]) -> dict[str, Any]:
    """Sends JSON, a form or text to an address."""
    if sum(name in args for name in ("json", "body")) != 1:
        raise SkillError("body: give exactly one of json and body")
    headers = dict(args.get("headers", {}))
    if "json" in args:
        body = json.dumps(args["json"], separators=(",", ":")).encode("utf-8")
        headers.setdefault("Content-Type", "application/json")
    else:
        body = args["body"].encode("utf-8")
        headers.setdefault("Content-Type", args.get("contentType", "text/plain; charset=utf-8"))
    return _fetch(ctx, "POST", {**args, "headers": headers}, body)


def _fetch(ctx: Any, method: str, args: dict[str, Any], body: bytes | None) -> dict[str, Any]:
    headers = args.get("headers", {})
    for name, value in headers.items():
        if name.lower() in _FORBIDDEN_HEADERS or not name.isascii() or not value.isprintable():
            raise SkillError(f"headers: {name!r} cannot be set; leave it out")
    answer = client.fetch(
        method,
        args["url"],
        headers=headers,
        body=body,
        check=partial(policy.check, domains=policy.domains_of(ctx)),
        timeout=args.get("timeoutSeconds", 20),
        max_bytes=args.get("maxBytes", 256 * 1024),
    )
    ctx.logger.info("%s %s: %d, %d bytes", method, answer.url, answer.status, len(answer.body))
    kind = answer.headers.get("content-type", "")
    result = {
        "url": answer.url,
        "status": answer.status,
        "ok": 200 <= answer.status < 300,
        "contentType": kind,
        "headers": answer.headers,
        "redirects": answer.redirects,
        "truncated": answer.truncated,
        "sizeBytes": len(answer.body),
    }
    return {**result, **({} if method == "HEAD" else _content(answer, kind, args.get("format", "auto")))}


def _content(answer: client.Answer, kind: str, wanted: str) -> dict[str, Any]:
    media = kind.partition(";")[0].strip().lower()
    if wanted == "base64":
        return {"format": "base64", "body": base64.b64encode(answer.body).decode("ascii")}
    is_json = media == "application/json" or media.endswith("+json")
    if wanted == "json" or (wanted == "auto" and is_json and not answer.truncated):
        try:
            return {"format": "json", "json": json.loads(answer.body)}
        except ValueError as error:
            if wanted == "json":
                cut = "it was cut at maxBytes; raise it" if answer.truncated else f"{error}; use format raw to see it"
                raise SkillError(f"format: the answer of {answer.url} is not JSON: {cut}") from None
    if wanted == "auto" and not (is_json or _TEXT_TYPES.match(media) or not media):
        return {"format": "base64", "body": base64.b64encode(answer.body).decode("ascii")}
    text = answer.body.decode(_charset(kind, answer.body), "replace")
    if wanted == "text" or (wanted == "auto" and media in {"text/html", "application/xhtml+xml"}):
        title, plain = htmltext.to_text(text, answer.url)
        return {"format": "text", "title": title, "body": plain}
    return {"format": "raw", "body": text}


def _charset(kind: str, body: bytes) -> str:
    """The encoding by header, by the page's own word, or UTF-8; unknown names count as UTF-8."""
    named = re.search(r"charset=[\"']?([\w.:-]+)", kind, re.IGNORECASE)
    inside = re.search(rb"<meta[^>]+charset=[\"']?([\w.:-]+)", body[:2048], re.IGNORECASE)
    name = named[1] if named else inside[1].decode("ascii") if inside else "utf-8"
    try:
        "".encode(name)
    except (LookupError, UnicodeError):
        return "utf-8"
    return name

"""Posting to a webhook. Its address is a secret: whoever has it can post, so no message names it."""

from __future__ import annotations

import http.client
import json
import urllib.request
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit

from openclaw_skill import SkillError

# What the services take (their own documentation); a longer text is refused rather than cut.
MOST_CHARACTERS = {"slack": 40000, "teams": 20000, "discord": 2000, "webhook": 40000}
_DETAIL = 200


def address_of(secret: str, name: str) -> str:
    """Returns the address of a target. Raises SkillError that names what is missing."""
    try:
        known = json.loads(secret or "{}")
    except ValueError:
        known = None
    if not isinstance(known, dict):
        raise SkillError("secrets.WEBHOOKS: it is not a JSON object of target names and addresses")
    address = known.get(name)
    if not isinstance(address, str) or not address:
        raise SkillError(f"secrets.WEBHOOKS: it has no address for {name}; add it to the Secret")
    parts = urlsplit(address)
    if parts.scheme != "https" and parts.hostname not in {"127.0.0.1", "localhost"}:
        raise SkillError(f"secrets.WEBHOOKS: the address of {name} does not begin with https://")
    return address


def body_of(kind: str, text: str, title: str) -> dict[str, Any]:
    """Returns what a service of that type is sent. Raises SkillError for a text it would not take."""
    most, bold = MOST_CHARACTERS[kind], "**" if kind == "discord" else "*"
    whole = f"{bold}{title}{bold}\n{text}" if title else text
    if kind == "slack":
        # Its marks begin with these: a text could call everybody, or show one address and lead to another.
        whole = whole.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    if len(whole) > most:
        raise SkillError(f"text: {len(whole)} characters, {kind} takes at most {most}; send a summary or several parts")
    match kind:
        case "slack":
            return {"text": whole}
        case "discord":
            # Without this a text could call everybody.
            return {"content": whole, "allowed_mentions": {"parse": []}}
        case "teams":
            blocks = [{"type": "TextBlock", "text": text, "wrap": True}]
            if title:
                blocks.insert(0, {"type": "TextBlock", "text": title, "wrap": True, "weight": "Bolder"})
            card = {"type": "AdaptiveCard", "version": "1.4", "body": blocks}
            attachment = {"contentType": "application/vnd.microsoft.card.adaptive", "content": card}
            return {"type": "message", "attachments": [attachment]}
        case _:
            return {"title": title, "text": text}


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        """Nothing is posted to where somebody else points."""


def post(address: str, body: dict[str, Any], name: str, timeout: float) -> None:
    """Posts JSON. Raises SkillError with what the service said."""
    data = json.dumps(body, ensure_ascii=False).encode("utf-8")
    headers = {"User-Agent": "OpenClaw-Skill", "Content-Type": "application/json"}
    request = urllib.request.Request(address, data=data, headers=headers, method="POST")  # noqa: S310 (https, see above)
    try:
        with urllib.request.build_opener(_NoRedirect).open(request, timeout=timeout) as response:
            response.read(_DETAIL)
    except HTTPError as error:
        said = _said(error, address)
        wait = error.headers.get("Retry-After")
        again = f"; try again in {wait} s" if error.code == http.HTTPStatus.TOO_MANY_REQUESTS and wait else ""
        raise SkillError(f"to: {name} answered HTTP {error.code}{again}{': ' if said else ''}{said}") from None
    except URLError as error:
        raise SkillError(f"to: {name} is not reachable ({error.reason}); is its host in allowedDomains?") from None
    except (OSError, http.client.HTTPException) as error:
        raise SkillError(f"to: {name} did not answer ({type(error).__name__}); it may have got the message") from None


def _said(error: HTTPError, address: str) -> str:
    """What a service says of a refusal; some repeat the address, which is nobody's business."""
    try:
        text = error.read(_DETAIL).decode("utf-8", "replace").strip()
    except (OSError, http.client.HTTPException):
        return ""
    parts = urlsplit(address)
    for secret in (parts.query, parts.path.strip("/")):
        text = text.replace(secret, "…") if secret else text
    return text

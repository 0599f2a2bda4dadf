"""The Kubernetes API over urllib: one request, errors in words.

https://kubernetes.io/docs/reference/using-api/api-concepts/
"""

from __future__ import annotations

import base64
import binascii
import http.client
import json
import re
import ssl
import urllib.request
from collections.abc import Mapping
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode, urlsplit

from openclaw_skill import SkillError

MAX_ANSWER = 16 * 1024 * 1024
APPLY = "application/apply-patch+yaml"  # JSON is YAML
MERGE = "application/merge-patch+json"
_HINTS = {
    401: "KUBE_TOKEN is not accepted; renew it",
    403: "the token's account lacks this right; grant it with a Role",
    404: "check kind, name and namespace",
    409: "somebody else changed or owns it; read it again",
    422: "correct the named fields",
}


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_arguments: Any) -> None:
        return None  # the token goes to the API server only


class Cluster:
    """An API server and the right to use it. Raises SkillError when a secret is missing or malformed."""

    def __init__(self, secrets: Mapping[str, str], timeout: float) -> None:
        self._server = _server(secrets.get("KUBE_API_SERVER", ""))
        self._token = secrets.get("KUBE_TOKEN", "").strip()
        if not self._token or not self._token.isascii() or not self._token.isprintable():
            raise SkillError("KUBE_TOKEN: it is empty or malformed; put a service account's token into the secret")
        context = ssl.create_default_context(cadata=_certificates(secrets.get("KUBE_CA", "")))
        self._opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=context), _NoRedirects())
        self._timeout = timeout

    def json(self, path: str, query: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Returns the object at a path."""
        return dict(json.loads(self._send("GET", path, query, None, "")))

    def text(self, path: str, query: Mapping[str, Any] | None = None) -> str:
        """Returns the text at a path (logs)."""
        return self._send("GET", path, query, None, "").decode("utf-8", "replace")

    def patch(self, path: str, body: Any, content_type: str, query: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Patches the object at a path and returns it as it is then."""
        return dict(json.loads(self._send("PATCH", path, query, body, content_type)))

    def _send(self, method: str, path: str, query: Mapping[str, Any] | None, body: Any, content_type: str) -> bytes:
        given = {key: value for key, value in (query or {}).items() if value not in (None, "", False)}
        text = {key: "true" if value is True else str(value) for key, value in given.items()}
        url = f"{self._server}{path}" + (f"?{urlencode(text)}" if text else "")
        request = urllib.request.Request(url, method=method)  # noqa: S310 (_server allows https only)
        request.add_header("Authorization", f"Bearer {self._token}")
        request.add_header("User-Agent", "OpenClaw-Skill")
        request.add_header("Accept", "application/json, */*")
        if body is not None:
            request.data = json.dumps(body).encode("utf-8")
            request.add_header("Content-Type", content_type)
        try:
            with self._opener.open(request, timeout=self._timeout) as response:
                data = response.read(MAX_ANSWER + 1)
        except HTTPError as error:
            raise SkillError(_refusal(method, path, error.code, _said(error))) from None
        except URLError as error:
            raise SkillError(f"KUBE_API_SERVER: {self._server} is not reachable: {error.reason}") from None
        except (OSError, http.client.HTTPException) as error:
            raise SkillError(f"KUBE_API_SERVER: {self._server} broke off: {error or type(error).__name__}") from None
        if len(data) > MAX_ANSWER:
            raise SkillError(f"limit: the answer has more than {MAX_ANSWER} bytes; narrow it by selector or limit")
        return bytes(data)


def _said(error: HTTPError) -> bytes:
    """What came of a refusal's body: it may break off, and the status is told all the same."""
    try:
        return error.read(65536)
    except (OSError, http.client.HTTPException):
        return b""


def _server(value: str) -> str:
    parts = urlsplit(value.strip())
    if parts.scheme != "https" or not parts.hostname or parts.query or parts.username:
        shown = f"{parts.scheme}://{parts.hostname}" if parts.hostname else "empty or no URL"
        raise SkillError(f"KUBE_API_SERVER: {shown}; give https://host:port of the API server")
    return value.strip().rstrip("/")


def _certificates(value: str) -> str | None:
    """PEM text, given as it is or in base64 as a kubeconfig has it; None means the system's authorities."""
    value = value.strip()
    if not value:
        return None
    if "BEGIN CERTIFICATE" not in value:
        try:
            value = base64.b64decode(value, validate=True).decode("ascii")
        except (binascii.Error, UnicodeDecodeError):
            value = ""
    if not re.search(r"-----BEGIN CERTIFICATE-----.+-----END CERTIFICATE-----", value, re.DOTALL):
        raise SkillError("KUBE_CA: it is no PEM certificate; use certificate-authority-data or the contents of ca.crt")
    return value


def _refusal(method: str, path: str, code: int, body: bytes) -> str:
    try:
        status = json.loads(body)
        message = status.get("message") if isinstance(status, dict) else None
    except ValueError:
        message = None
    hint = f"; {_HINTS[code]}" if code in _HINTS else ""
    return f"Kubernetes refused {method} {path} ({code}): {message or 'no reason given'}{hint}"

"""What the doctor's pods run. Nothing but the standard library: its text is handed to `python -c`.

The answer is JSON in the pod's termination message. A key is read from the environment and never told.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import ssl
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

KEY_VARIABLE = "DOCTOR_KEY"
ANSWER = "/dev/termination-log"
LARGEST_ANSWER = 4 << 20
CONNECT_SECONDS = 2.0
ASK_SECONDS = 15.0


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """The key is for this host alone."""

    def redirect_request(self, *_args: Any, **_kwargs: Any) -> None:
        return None


def serve(ports: list[int]) -> None:
    """Accept connections until the pod is ended."""
    listeners = [socket.create_server(("", port)) for port in ports]

    def accept(listener: socket.socket) -> None:
        while True:
            listener.accept()[0].close()

    threads = [threading.Thread(target=accept, args=(listener,), daemon=True) for listener in listeners]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def reach(host: str, opened: list[int], closed: list[int], seconds: float) -> dict[str, bool]:
    """Which ports take a connection, once those are as they should be, or after `seconds`: rules take a moment."""
    until = time.monotonic() + seconds
    while True:
        found = {port: _connects(host, port) for port in (*opened, *closed)}
        as_wanted = all(found[port] for port in opened) and not any(found[port] for port in closed)
        if as_wanted or time.monotonic() > until:
            return {str(port): open_ for port, open_ in found.items()}
        time.sleep(0.5)


def _connects(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=CONNECT_SECONDS).close()
    except OSError:
        return False
    return True


def ask(url: str, provider: str, key: str | None, models: list[str]) -> dict[str, Any]:
    """GET the list of models: {status, missing} or {error, detail}; never anything of the key."""
    headers = {"Accept": "application/json"}
    if key is not None and provider == "anthropic":
        headers |= {"x-api-key": key, "anthropic-version": "2023-06-01"}
    elif key is not None:
        headers["Authorization"] = f"Bearer {key}"
    opener = urllib.request.build_opener(_NoRedirects)
    try:
        # The CRD lets through http and https only.
        request = urllib.request.Request(url, headers=headers)  # noqa: S310
        with opener.open(request, timeout=ASK_SECONDS) as reply:
            return {"status": reply.status, "missing": _missing(reply.read(LARGEST_ANSWER), models)}
    except urllib.error.HTTPError as error:
        return {"status": error.code, "missing": []}
    except (urllib.error.URLError, OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        return {"error": _kind(reason), "detail": _words(reason)}
    except ValueError:
        # What is said of a header that cannot be sent holds the header.
        return {"error": "key", "detail": ""}


def _kind(reason: object) -> str:
    if isinstance(reason, socket.gaierror):
        return "name"
    if isinstance(reason, ssl.SSLError):
        return "tls"
    return "timeout" if isinstance(reason, TimeoutError) else "connection"


def _words(reason: object) -> str:
    text = reason.strerror if isinstance(reason, OSError) else None
    return text or type(reason).__name__


def _missing(content: bytes, models: list[str]) -> list[str]:
    """The models that the list does not have; none where it is no list."""
    try:
        listed = {str(item["id"]) for item in json.loads(content)["data"]}
    except (ValueError, KeyError, TypeError):
        return []
    return [name for name in models if name not in listed]


def main(arguments: list[str], environ: Mapping[str, str]) -> None:
    """`serve PORTS`, `reach HOST OPEN CLOSED SECONDS` or `ask URL PROVIDER MODELS`; lists are JSON."""
    match arguments:
        case ["serve", ports]:
            serve(json.loads(ports))
            return
        case ["reach", host, opened, closed, seconds]:
            answer: dict[str, Any] = dict(reach(host, json.loads(opened), json.loads(closed), float(seconds)))
        case ["ask", url, provider, models]:
            answer = ask(url, provider, environ.get(KEY_VARIABLE), json.loads(models))
        case _:
            raise SystemExit(2)
    Path(ANSWER).write_text(json.dumps(answer), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:], os.environ)

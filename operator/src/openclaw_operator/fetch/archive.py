"""An archive from a web server, pinned by its sha256."""

from __future__ import annotations

import asyncio
import hashlib

from yarl import URL

from openclaw_operator.errors import FetchError
from openclaw_operator.fetch.web import MAX_ARCHIVE_BYTES, Web, failure


async def fetch(web: Web, url: str, sha256: str, authorization: str | None, secret: str | None) -> bytes:
    """The archive. Raises FetchError; `secret` is where `authorization` comes from."""
    headers = {"Authorization": authorization} if authorization else {}
    answer = await web.get(url, limit=MAX_ARCHIVE_BYTES, headers=headers)
    host = URL(url).host or url
    if answer.status != 200:
        raise failure(answer, host, URL(url).path, secret)
    found = await asyncio.to_thread(lambda: hashlib.sha256(answer.body).hexdigest())
    if found != sha256.removeprefix("sha256:"):
        raise FetchError(
            "DigestMismatch",
            f"spec.source.archive.sha256: the file at {host} has {found} and not {sha256}: it changed since it was "
            "pinned; look at what changed, then set sha256 to it, or name an address whose file stays the same",
        )
    return answer.body

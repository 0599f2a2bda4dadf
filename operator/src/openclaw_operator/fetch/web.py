"""Downloads, bounded in size and time, from hosts the guard allows."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.request import getproxies

import aiohttp
from yarl import URL

from openclaw_operator.errors import FetchError
from openclaw_operator.fetch.guard import Guard, GuardedResolver

CONNECT_SECONDS = 10.0
# Everything that belongs to one package, redirects and signatures included.
TOTAL_SECONDS = 60.0
MAX_REDIRECTS = 5
MAX_ERROR_BYTES = 64 * 1024
MAX_ARCHIVE_BYTES = 16 * 1024 * 1024
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


@dataclass(frozen=True)
class Answer:
    """What a server sent: the whole body, within the limit."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@asynccontextmanager
async def session(guard: Guard, ca_bundle: str | None) -> AsyncIterator[Web]:
    """A session for one package. Raises FetchError for a `ca_bundle` (PEM) that cannot be read."""
    context = await asyncio.to_thread(_tls, ca_bundle)
    proxies = frozenset(URL(proxy).host or "" for proxy in getproxies().values())
    resolver = GuardedResolver(guard, aiohttp.ThreadedResolver(), proxies)
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=CONNECT_SECONDS)
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=context, resolver=resolver, limit=4),
        timeout=timeout,
        headers={"User-Agent": "openclaw-operator"},
        cookie_jar=aiohttp.DummyCookieJar(),
        # A body is taken as it is: its digest is over these bytes.
        auto_decompress=False,
        trust_env=True,
    ) as client:
        yield Web(client, guard)


def _tls(ca_bundle: str | None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if ca_bundle is not None:
        try:
            context.load_verify_locations(cadata=ca_bundle)
        except (ssl.SSLError, ValueError):
            raise FetchError("InvalidSource", "caBundleRef: the key holds no PEM certificates: correct it") from None
    return context


class Web:
    """GET requests of one session."""

    def __init__(self, client: aiohttp.ClientSession, guard: Guard) -> None:
        self._client = client
        self._guard = guard

    async def get(self, url: str, *, limit: int, headers: Mapping[str, str] | None = None) -> Answer:
        """Follow redirects to the end. Authorization goes to the first origin only. Raises FetchError."""
        target, sent = URL(url), dict(headers or {})
        for _ in range(MAX_REDIRECTS + 1):
            self._guard.check_host(target.host or "")
            answer = await self._once(target, sent, limit)
            location = answer.headers.get("Location")
            if answer.status not in _REDIRECTS or not location:
                return answer
            following = target.join(URL(location))
            if following.scheme not in ("http", "https") or (target.scheme, following.scheme) == ("https", "http"):
                raise FetchError(
                    "SourceRefused", f"{target.host} redirects from https to {following.scheme}: name the final address"
                )
            if following.origin() != target.origin():
                sent.pop("Authorization", None)
            target = following
        raise FetchError(
            "SourceRefused", f"{target.host} redirects more than {MAX_REDIRECTS} times: correct the address"
        )

    async def _once(self, url: URL, headers: Mapping[str, str], limit: int) -> Answer:
        try:
            async with self._client.get(url, headers=headers, allow_redirects=False) as reply:
                bound = limit if reply.status == 200 else MAX_ERROR_BYTES
                body = bytearray()
                async for chunk in reply.content.iter_any():
                    body += chunk
                    if len(body) > bound:
                        raise FetchError(
                            "InvalidSource", f"{url.host} sent more than {bound} bytes: publish a smaller skill"
                        )
                return Answer(reply.status, reply.headers, bytes(body))
        except (aiohttp.ClientConnectorCertificateError, aiohttp.ClientConnectorSSLError) as error:
            raise FetchError(
                "SourceUntrusted",
                f"the TLS certificate of {url.host} cannot be trusted ({_short(error)}): correct it, name its "
                "authority in caBundleRef, or set plainHTTP where it speaks no TLS",
            ) from None
        except TimeoutError:
            raise FetchError("SourceTimeout", f"{url.host} did not answer in time", passing=True) from None
        except (aiohttp.ClientError, OSError) as error:
            raise FetchError(
                "SourceUnreachable",
                f"{url.host} cannot be reached ({_short(error)}): check the name and the network",
                passing=True,
            ) from None


def _short(error: BaseException) -> str:
    return (str(error) or type(error).__name__)[:200]


def failure(answer: Answer, host: str, what: str, secret: str | None) -> FetchError:
    """What an answer other than 200 means; `secret` names the Secret with the credentials, if there is one."""
    if answer.status in (401, 403):
        fix = f"correct the credentials in Secret {secret!r}" if secret else "name a Secret with credentials"
        return FetchError("SourceUnauthorized", f"{host} does not give {what} ({answer.status}): {fix}")
    if answer.status in (404, 410):
        return FetchError("SourceNotFound", f"{host} has no {what}: correct the address, or publish it there")
    wait = answer.headers.get("Retry-After", "")
    return FetchError(
        "SourceUnavailable",
        f"{host} answered {answer.status} when asked for {what}",
        passing=answer.status == 429 or answer.status >= 500,
        retry_after=float(wait) if wait.isdigit() else None,
    )

"""A thin client: plain dictionaries in and out, each write counted, each refusal one of our errors."""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from typing import Any, Self

import aiohttp
import orjson

from openclaw_operator import jsonyaml
from openclaw_operator.cluster import spans
from openclaw_operator.cluster.connection import Connection
from openclaw_operator.cluster.kinds import BY_NAME, Kind
from openclaw_operator.errors import (
    ApiError,
    ConflictError,
    ForbiddenError,
    GoneError,
    NotFoundError,
    RejectedError,
    TerminatingError,
    UnavailableError,
)
from openclaw_operator.telemetry import Metrics

LOG = logging.getLogger(__name__)
FIELD_MANAGER = "openclaw-operator"
REQUEST_SECONDS = 15.0
# Bookmarks come about once a minute: a longer silence means the connection is dead.
WATCH_SILENCE_SECONDS = 100.0
PAGE = 500
# Between the tries of a page that goes on with a list. One that is given up on makes all before it useless, and so does
# one that comes too late: https://kubernetes.io/docs/reference/using-api/api-concepts/#retrieving-large-results-sets-in-chunks
PAGE_BACKOFF_SECONDS = (0.2, 1.0, 3.0)
LONGEST_PAGE_BACKOFF_SECONDS = 10.0
INITIAL_EVENTS = {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan"}
INITIAL_EVENTS_END = "k8s.io/initial-events-end"
# A burst of writes shares these; each connection more costs a TLS handshake. Watches have connections of their own.
CONNECTIONS = 32
# https://kubernetes.io/docs/reference/using-api/api-concepts/#metadata-only-fetches
METADATA_ONLY = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
METADATA_LIST_ONLY = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
_ERRORS: Mapping[int, type[ApiError]] = {
    400: RejectedError,
    403: ForbiddenError,
    404: NotFoundError,
    409: ConflictError,
    410: GoneError,
    413: RejectedError,
    422: RejectedError,
}
# Writes that answer what somebody did to a child, or to what asked for it.
_TOLD = {"drift": "was changed by somebody: putting it right", "prune": "is wanted no more: deleting it"}
Object = dict[str, Any]


class Client:
    """Requests to one API server. Use as an async context manager.

    Every method raises an ApiError: NotFoundError, ConflictError, RejectedError, ForbiddenError, GoneError,
    UnavailableError without an answer, plain ApiError otherwise.
    """

    def __init__(
        self,
        connection: Connection,
        metrics: Metrics,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        request_seconds: float = REQUEST_SECONDS,
        watch_silence_seconds: float = WATCH_SILENCE_SECONDS,
        page_size: int = PAGE,
    ) -> None:
        self._connection = connection
        self._metrics = metrics
        self._monotonic = monotonic
        self._request_seconds = request_seconds
        self._timeout = aiohttp.ClientTimeout(total=request_seconds)
        self._watch_silence_seconds = watch_silence_seconds
        self._page_size = page_size
        self._session: aiohttp.ClientSession | None = None
        self._watches: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        ssl_context = await asyncio.to_thread(self._connection.ssl_context)
        self._session = self._connect(ssl_context, CONNECTIONS)
        self._watches = self._connect(ssl_context, 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        for session in (self._session, self._watches):
            if session is not None:
                await session.close()

    def _connect(self, ssl_context: ssl.SSLContext, limit: int) -> aiohttp.ClientSession:
        """A session of at most `limit` connections; 0 means as many as it takes."""
        return aiohttp.ClientSession(
            base_url=self._connection.server,
            connector=aiohttp.TCPConnector(ssl=ssl_context, limit=limit, keepalive_timeout=60),
            # Compressing the pages of a list takes the API server longer than sending them.
            headers={"User-Agent": FIELD_MANAGER, "Accept": "application/json", "Accept-Encoding": "identity"},
            json_serialize=jsonyaml.dumps,
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def get(self, kind: Kind, namespace: str, name: str) -> Object:
        """Read one object."""
        return await self._request("GET", kind.path(namespace, name), verb="get")

    async def pages(
        self,
        kind: Kind,
        namespace: str | None,
        *,
        selector: str | None = None,
        metadata_only: bool = False,
        cached: bool = False,
    ) -> AsyncIterator[Object]:
        """List a collection page by page; each is a List object.

        `cached` takes what the API server has in memory, which may be behind by a moment and costs it next to nothing:
        https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-versions
        """
        params = {"limit": str(self._page_size), **({"labelSelector": selector} if selector else {})}
        if cached:
            params["resourceVersion"] = "0"
        headers = {"Accept": METADATA_LIST_ONLY} if metadata_only else None
        while True:
            page = await self._page(kind.path(namespace), params, headers)
            # An empty metadata list comes with null for its items.
            yield {**page, "items": page.get("items") or []}
            following = page["metadata"].get("continue")
            if not following:
                return
            params["continue"] = following

    async def _page(self, path: str, params: Mapping[str, str], headers: Mapping[str, str] | None) -> Object:
        for seconds in PAGE_BACKOFF_SECONDS if "continue" in params else ():
            try:
                return await self._request("GET", path, verb="list", params=params, headers=headers)
            except ApiError as error:
                if not error.passing:
                    raise
                pause = min(max(seconds, error.retry_after or 0.0), LONGEST_PAGE_BACKOFF_SECONDS)
                LOG.warning("listing %s: %s; that page again in %.1f s", path, error, pause)
                await asyncio.sleep(pause)
        return await self._request("GET", path, verb="list", params=params, headers=headers)

    async def watch(
        self,
        kind: Kind,
        namespace: str | None,
        resource_version: str | None,
        *,
        selector: str | None = None,
        metadata_only: bool = False,
        seconds: int = 300,
    ) -> AsyncGenerator[Object, None]:
        """Watch events from `resource_version` until the server ends the stream after about `seconds`.

        None tells first of each object there is, up to a bookmark with INITIAL_EVENTS_END:
        https://kubernetes.io/docs/reference/using-api/api-concepts/#streaming-lists
        """
        params = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(seconds),
            **(INITIAL_EVENTS if resource_version is None else {"resourceVersion": resource_version}),
            **({"labelSelector": selector} if selector else {}),
        }
        headers = await self._headers({"Accept": METADATA_ONLY} if metadata_only else None)
        # What there is has not to be waited for.
        silence = self._request_seconds if resource_version is None else self._watch_silence_seconds
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=self._request_seconds, sock_read=silence)
        try:
            async with _open(self._watches).get(
                kind.path(namespace), params=params, headers=headers, timeout=timeout
            ) as reply:
                if reply.status != 200:
                    raise error_of(reply.status, await reply.read(), reply.headers)
                rest = b""
                async for chunk in reply.content.iter_any():
                    lines = (rest + chunk).split(b"\n")
                    rest = lines.pop()
                    for line in lines:
                        event: Object = orjson.loads(line)
                        if event["type"] == "ERROR":
                            status = event["object"]
                            raise _ERRORS.get(status.get("code", 500), ApiError)(
                                status.get("code", 500), status.get("reason", ""), status.get("message", "")
                            )
                        yield event
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise UnavailableError(f"watch of {kind.plural}: {type(error).__name__} {error}".rstrip()) from error

    async def create(self, kind: Kind, namespace: str, body: Object, reason: str) -> Object:
        """Create an object; ConflictError when the name is taken."""
        self._count(kind, namespace, body["metadata"]["name"], "create", reason)
        params = {"fieldManager": FIELD_MANAGER}
        return await self._request("POST", kind.path(namespace), verb="create", params=params, body=body)

    async def apply(self, kind: Kind, body: Object, reason: str, *, uid: str | None) -> Object:
        """Server-side apply, forced.

        With `uid` only to the object of that uid. Without, only when no object has the name: the impossible resource
        version makes the server refuse an existing one, so that nothing of somebody else's is ever merged into.
        Both raise ConflictError.
        """
        meta = body["metadata"]
        self._count(kind, meta["namespace"], meta["name"], "apply", reason)
        precondition = {"uid": uid} if uid else {"resourceVersion": "1"}
        return await self._request(
            "PATCH",
            kind.path(meta["namespace"], meta["name"]),
            verb="apply",
            # An unknown field is refused without validation, too: what it would look for, for the price of parsing all
            # of it once more, are keys that are there twice.
            params={"fieldManager": FIELD_MANAGER, "force": "true", "fieldValidation": "Ignore"},
            body={**body, "metadata": {**meta, **precondition}},
            headers={"Content-Type": "application/apply-patch+yaml"},
        )

    async def hand_over_replicas(self, namespace: str, name: str, replicas: int, *, uid: str) -> None:
        """Make a second field manager hold spec.replicas of a Deployment.

        https://kubernetes.io/docs/reference/using-api/server-side-apply/#transferring-ownership
        """
        kind = BY_NAME["Deployment"]
        self._count(kind, namespace, name, "apply", "handover")
        body = {
            "apiVersion": kind.api_version,
            "kind": kind.name,
            "metadata": {"name": name, "namespace": namespace, "uid": uid},
            "spec": {"replicas": replicas},
        }
        await self._request(
            "PATCH",
            kind.path(namespace, name),
            verb="apply",
            params={"fieldManager": f"{FIELD_MANAGER}-handover", "force": "true"},
            body=body,
            headers={"Content-Type": "application/apply-patch+yaml"},
        )

    async def patch_status(self, kind: Kind, namespace: str, name: str, status: Object) -> Object:
        """Merge `status` into the status of a resource (JSON merge patch: None removes a field)."""
        self._count(kind, namespace, name, "patch", "status")
        return await self._request(
            "PATCH",
            kind.path(namespace, name, "status"),
            verb="patch",
            params={"fieldManager": FIELD_MANAGER},
            body={"status": status},
            headers={"Content-Type": "application/merge-patch+json", "Accept": METADATA_ONLY},
        )

    async def set_finalizers(
        self, kind: Kind, namespace: str, name: str, finalizers: tuple[str, ...], *, resource_version: str
    ) -> Object:
        """Replace the finalizers of a resource; ConflictError where it is no longer at that version."""
        self._count(kind, namespace, name, "patch", "finalizer")
        return await self._request(
            "PATCH",
            kind.path(namespace, name),
            verb="patch",
            params={"fieldManager": FIELD_MANAGER},
            body={"metadata": {"resourceVersion": resource_version, "finalizers": list(finalizers)}},
            headers={"Content-Type": "application/merge-patch+json", "Accept": METADATA_ONLY},
        )

    async def merge(self, kind: Kind, namespace: str, name: str, body: Object, reason: str) -> Object:
        """JSON merge patch of an object."""
        self._count(kind, namespace, name, "patch", reason)
        return await self._request(
            "PATCH",
            kind.path(namespace, name),
            verb="patch",
            params={"fieldManager": FIELD_MANAGER},
            body=body,
            headers={"Content-Type": "application/merge-patch+json"},
        )

    async def delete(
        self, kind: Kind, namespace: str, name: str, reason: str, *, uid: str, resource_version: str | None = None
    ) -> None:
        """Delete exactly that object, in that version where one is given; one that is gone already is fine."""
        self._count(kind, namespace, name, "delete", reason)
        preconditions = {"uid": uid, **({"resourceVersion": resource_version} if resource_version else {})}
        body = {"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": preconditions}
        body["propagationPolicy"] = "Background"
        try:
            await self._request("DELETE", kind.path(namespace, name), verb="delete", body=body)
        except NotFoundError:
            return

    def _count(self, kind: Kind, namespace: str, name: str, verb: str, reason: str) -> None:
        self._metrics.writes.labels(kind.name, verb, reason).inc()
        if reason in _TOLD:
            child = {"child": f"{kind.name}/{name}", "reason": reason}
            LOG.info("%s %s/%s %s", kind.name, namespace, name, _TOLD[reason], extra=child)

    async def _headers(self, headers: Mapping[str, str] | None) -> dict[str, str]:
        token = await self._connection.token()
        return {**({"Authorization": f"Bearer {token}"} if token else {}), **(headers or {})}

    async def _request(
        self,
        method: str,
        path: str,
        *,
        verb: str,
        params: Mapping[str, str] | None = None,
        body: Object | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Object:
        started = self._monotonic()
        code = "none"
        with spans.of_request(method, self._connection.server, path, body) as span:
            try:
                async with _open(self._session).request(
                    method,
                    path,
                    params=params,
                    json=body,
                    headers=await self._headers(headers),
                    timeout=self._timeout,
                ) as reply:
                    content = await reply.read()
                    code = str(reply.status)
                    span.set_attribute("http.response.status_code", reply.status)
                    if reply.status >= 400:
                        raise error_of(reply.status, content, reply.headers)
                    result: Object = orjson.loads(content)
                    return result
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                raise UnavailableError(f"{method} {path}: {type(error).__name__} {error}".rstrip()) from error
            finally:
                self._metrics.requests.labels(verb, code).observe(self._monotonic() - started)


def _open(session: aiohttp.ClientSession | None) -> aiohttp.ClientSession:
    if session is None:
        raise RuntimeError("the client is used outside of its context")
    return session


def error_of(status: int, content: bytes, headers: Mapping[str, str]) -> ApiError:
    """What an answer of 400 and more means."""
    try:
        answer = orjson.loads(content)
        reason, message = str(answer.get("reason", "")), str(answer.get("message", ""))
        causes = [str(cause.get("reason")) for cause in (answer.get("details") or {}).get("causes") or ()]
    except (ValueError, AttributeError):
        reason, message, causes = "", content.decode(errors="replace")[:200], []
    if status == 403 and "NamespaceTerminating" in causes:
        return TerminatingError(status, reason, message)
    if status == 500 and message.startswith("failed to create typed patch object"):
        # How server-side apply reports a field of the wrong name or type: no retry will change it.
        return RejectedError(status, reason, message)
    retry_after = headers.get("Retry-After", "")
    return _ERRORS.get(status, ApiError)(status, reason, message, float(retry_after) if retry_after.isdigit() else None)

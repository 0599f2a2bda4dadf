"""What there is of a collection at one moment."""

from __future__ import annotations

import logging
from collections.abc import Callable
from http import HTTPStatus

from openclaw_operator.cluster.client import INITIAL_EVENTS_END, Client, Object
from openclaw_operator.cluster.kinds import Kind
from openclaw_operator.errors import ApiError, ForbiddenError, NotFoundError, RejectedError, UnavailableError

LOG = logging.getLogger(__name__)
# namespace, name of each object, and the resource version at which those were all.
Snapshot = tuple[set[tuple[str, str]], str]
Take = Callable[[Object], None]


async def snapshot(
    client: Client,
    kind: Kind,
    namespace: str | None,
    take: Take,
    *,
    selector: str | None = None,
    metadata_only: bool = False,
) -> Snapshot:
    """Give each object of a collection to `take`, which may get it twice. Raises ApiError.

    The API server streams them one by one from its memory, where it can: pages come from etcd, cost it several times
    as much, and each is to be held and parsed as a whole here. Where the stream breaks, pages get further: one that
    fails is asked for again alone.
    """
    if client.streams_lists:
        try:
            return await _streamed(client, kind, namespace, take, selector, metadata_only=metadata_only)
        except ApiError as error:
            if isinstance(error, NotFoundError | ForbiddenError) or error.status == HTTPStatus.TOO_MANY_REQUESTS:
                raise
            client.streams_lists = not _cannot(error)
            if client.streams_lists:
                LOG.warning("streaming %s: %s; they are read by pages", kind.plural, error)
            else:
                LOG.info("the API server streams no lists, they are read by pages: %s", error)
    return await _paged(client, kind, namespace, take, selector, metadata_only=metadata_only)


def _cannot(error: ApiError) -> bool:
    """Whether it will not later either: the API server is of before Kubernetes 1.34, or its etcd of before 3.4.25."""
    return isinstance(error, RejectedError) or "RequestWatchProgress" in error.message


async def _streamed(
    client: Client, kind: Kind, namespace: str | None, take: Take, selector: str | None, *, metadata_only: bool
) -> Snapshot:
    present: set[tuple[str, str]] = set()
    async for event in client.watch(kind, namespace, None, selector=selector, metadata_only=metadata_only):
        meta = event["object"]["metadata"]
        if event["type"] == "BOOKMARK":
            if INITIAL_EVENTS_END in (meta.get("annotations") or {}):
                return present, meta["resourceVersion"]
            continue
        if event["type"] == "DELETED":
            # While the others were told.
            present.discard((meta["namespace"], meta["name"]))
            continue
        present.add((meta["namespace"], meta["name"]))
        take(event["object"])
    raise UnavailableError("the stream ended before all was told")


async def _paged(
    client: Client, kind: Kind, namespace: str | None, take: Take, selector: str | None, *, metadata_only: bool
) -> Snapshot:
    present: set[tuple[str, str]] = set()
    version = ""
    async for page in client.pages(kind, namespace, selector=selector, metadata_only=metadata_only):
        version = version or page["metadata"]["resourceVersion"]
        for item in page["items"]:
            present.add((item["metadata"]["namespace"], item["metadata"]["name"]))
            take(item)
        # Or each kind would hold on to a page while it waits for its next one, and all list at once.
        page["items"].clear()
    return present, version

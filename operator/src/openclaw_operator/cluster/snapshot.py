"""What there is of a collection at one moment."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import aclosing

from openclaw_operator.cluster.client import INITIAL_EVENTS_END, Client, Object
from openclaw_operator.cluster.kinds import Kind
from openclaw_operator.errors import ApiError, RejectedError, UnavailableError

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
    as much, and each is to be held and parsed as a whole here. Where a stream breaks, pages get further: one that fails
    is asked for again alone.
    """
    told = 0

    def counted(item: Object) -> None:
        nonlocal told
        told += 1
        take(item)

    try:
        return await _streamed(client, kind, namespace, counted, selector, metadata_only=metadata_only)
    except ApiError as error:
        if _cannot(error):
            LOG.debug("the API server does not stream %s: %s", kind.plural, error)
        elif told:
            LOG.warning("streaming %s: %s; they are read by pages", kind.plural, error)
        else:
            raise
    return await _paged(client, kind, namespace, take, selector, metadata_only=metadata_only)


def _cannot(error: ApiError) -> bool:
    """Whether it is a feature that is off, as by default in Kubernetes 1.30, 1.31 and 1.33, or that etcd lacks."""
    return isinstance(error, RejectedError) or "RequestWatchProgress" in error.message


async def _streamed(
    client: Client, kind: Kind, namespace: str | None, take: Take, selector: str | None, *, metadata_only: bool
) -> Snapshot:
    present: set[tuple[str, str]] = set()
    watch = client.watch(kind, namespace, None, selector=selector, metadata_only=metadata_only)
    async with aclosing(watch) as events:
        async for event in events:
            meta = event["object"]["metadata"]
            if event["type"] == "BOOKMARK":
                if INITIAL_EVENTS_END in (meta.get("annotations") or {}):
                    return present, meta["resourceVersion"]
            elif event["type"] == "DELETED":
                # While the others were told.
                present.discard((meta["namespace"], meta["name"]))
            else:
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

"""The pods of a Job or a workload: listed when asked for, since no watch tells of them."""

from __future__ import annotations

from openclaw_operator.cluster.client import Client, Object
from openclaw_operator.cluster.kinds import BY_NAME


async def newest_first(client: Client, namespace: str, selector: str, *, cached: bool = False) -> list[Object]:
    """The pods that a label selector selects; `cached` as of Client.pages."""
    pages = client.pages(BY_NAME["Pod"], namespace, selector=selector, cached=cached)
    found = [pod async for page in pages for pod in page["items"]]
    return sorted(found, key=lambda pod: str(pod["metadata"]["creationTimestamp"]), reverse=True)

"""What is known of all pods; those of a Job or a workload are listed when asked for, since no watch tells of them."""

from __future__ import annotations

from datetime import datetime

from openclaw_operator.cluster.client import Client, Object
from openclaw_operator.cluster.kinds import BY_NAME

# A pod that has a node, and a container that starts, may take so long and say nothing.
START_SECONDS = 60.0
# Phases without a way back.
FINISHED = frozenset({"Succeeded", "Failed"})


def age_seconds(time: str, now: datetime) -> float:
    """How long ago a time of the API server (RFC 3339) was."""
    return (now - datetime.fromisoformat(time)).total_seconds()


async def newest_first(client: Client, namespace: str, selector: str, *, cached: bool = False) -> list[Object]:
    """The pods that a label selector selects; `cached` as of Client.pages."""
    pages = client.pages(BY_NAME["Pod"], namespace, selector=selector, cached=cached)
    found = [pod async for page in pages for pod in page["items"]]
    return sorted(found, key=lambda pod: str(pod["metadata"]["creationTimestamp"]), reverse=True)

"""How many pods per second the node can start: the pods of a pool, created by a bare loop."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from tests.bench.api import Api, Object, StatusError
from tests.bench.sandbox.workload import BARE_LABEL, NAMESPACE, bare

_PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"


def is_ready(pod: Object) -> bool:
    conditions = pod.get("status", {}).get("conditions", ())
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


async def per_second(address: str, pod: Object, width: int, seconds: float) -> float:
    """Pods like `pod` that become ready per second when `width` are always on their way.

    Each is deleted once it is ready. Those of the first third of the time do not count, as nothing ended meanwhile.
    """
    async with Api(address, None) as api:
        listed = await api.request("GET", _PODS, labelSelector=BARE_LABEL)
        version = listed["metadata"]["resourceVersion"]
        ready: set[str] = set()
        begin, until = time.monotonic() + seconds / 3, time.monotonic() + seconds
        count = 0
        started: list[asyncio.Future[Any]] = [asyncio.ensure_future(api.create(_PODS, bare(pod))) for _ in range(width)]
        try:
            async with asyncio.timeout(seconds):
                async for event in api.watch(_PODS, version):
                    seen = event["object"]
                    name, labels = seen["metadata"].get("name"), seen["metadata"].get("labels", {})
                    if BARE_LABEL not in labels or event["type"] != "MODIFIED" or name in ready or not is_ready(seen):
                        continue
                    ready.add(name)
                    count += begin < time.monotonic() < until
                    started.append(asyncio.ensure_future(_replace(api, name, pod)))
        except TimeoutError:
            pass
        await asyncio.gather(*started)
        await api.request("DELETE", _PODS, {"gracePeriodSeconds": 0}, labelSelector=BARE_LABEL)
        return count / (until - begin)


async def _replace(api: Api, name: str, pod: Object) -> None:
    try:
        await api.request("DELETE", f"{_PODS}/{name}", {"gracePeriodSeconds": 0})
    except StatusError as error:
        if error.code != 404:
            raise
    await api.create(_PODS, bare(pod))

"""A Job for each call: created, scheduled, started, run, seen as complete."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.bench.api import Api
from tests.bench.sandbox.workload import NAMESPACE, job
from tests.demo.kube import Kube

_JOBS = f"/apis/batch/v1/namespaces/{NAMESPACE}/jobs"
DEADLINE_SECONDS = 120.0


@contextmanager
def proxy(kube: Kube) -> Iterator[str]:
    """A loopback address at which the API server answers as to the administrator, without a process per request."""
    process = subprocess.Popen([*kube.command, "proxy", "--port=0"], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield "http://" + process.stdout.readline().rsplit(" ", 1)[-1].strip()
    finally:
        process.terminate()
        process.wait()


async def _one(api: Api, name: str, image: str) -> float:
    began = time.perf_counter()
    created = await api.create(_JOBS, job(name, image))
    async with asyncio.timeout(DEADLINE_SECONDS):
        async for event in api.watch(_JOBS, created["metadata"]["resourceVersion"]):
            item = event["object"]
            conditions = item.get("status", {}).get("conditions", ())
            if item["metadata"].get("name") == name and any(each["type"] == "Complete" for each in conditions):
                break
    return (time.perf_counter() - began) * 1000


async def serial(address: str, image: str, count: int) -> list[float]:
    """Milliseconds from asking for a Job to knowing that it is complete, one after the other."""
    async with Api(address, None) as api:
        return [await _one(api, f"serial-{number}", image) for number in range(count)]


async def parallel(address: str, image: str, width: int) -> list[float]:
    """The same, all at once."""
    async with Api(address, None) as api:
        return await asyncio.gather(*(_one(api, f"parallel-{number}", image) for number in range(width)))

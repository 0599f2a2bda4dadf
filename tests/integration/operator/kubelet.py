"""The part of a kubelet: real runner processes in the place of sandbox pods, each on an address of its own."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from openclaw_operator.cluster.client import Object
from openclaw_operator.cluster.kinds import BY_NAME
from openclaw_operator.errors import NotFoundError
from openclaw_runtime.sandbox.local import start_runner, stop_runner
from tests.cluster.processes import free_ports
from tests.integration.operator.conftest import Cluster

READY = {"type": "Ready", "status": "True"}


class Kubelet:
    """Starts what the operator makes, tells how it goes, and ends what was deleted as a node does: calls may finish."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        (self.port,) = free_ports(1)
        # Pod → the public keys it was started with.
        self.keys: dict[str, set[str]] = {}
        self._cluster = cluster
        self._folder = folder
        self._pods: dict[str, asyncio.Task[None]] = {}

    async def follow(self) -> None:
        """Look after the sandbox pods of the namespace until cancelled."""
        kind = BY_NAME["Pod"]
        try:
            page = await anext(aiter(self._cluster.client.pages(kind, self._cluster.namespace)))
            version = page["metadata"]["resourceVersion"]
            async for event in self._cluster.client.watch(kind, self._cluster.namespace, version):
                name = event["object"]["metadata"]["name"]
                if event["type"] == "ADDED":
                    self._pods[name] = asyncio.create_task(self._run(event["object"]))
                elif event["type"] == "DELETED" and name in self._pods:
                    self._pods[name].cancel()
        finally:
            for task in self._pods.values():
                task.cancel()
            await asyncio.gather(*self._pods.values(), return_exceptions=True)

    async def _run(self, pod: Object) -> None:
        name, number = pod["metadata"]["name"], len(self.keys) + 1
        address = f"127.0.{number // 250}.{number % 250 + 2}"
        (container,) = pod["spec"]["containers"]
        given = {item["name"]: item["value"] for item in container["env"] if "value" in item}
        own = {"OPENCLAW_SANDBOX_SOCKET_FD": "", "POD_NAME": name, "POD_UID": pod["metadata"]["uid"]}
        own |= {"OPENCLAW_SANDBOX_HOST": address, "OPENCLAW_SANDBOX_PORT": str(self.port)}
        keys = given.pop("OPENCLAW_SANDBOX_PUBLIC_KEYS")
        self.keys[name] = set(keys.split(","))
        runner = await start_runner(keys, self._folder, None, **{**given, **own})
        try:
            await self._tell(name, {"phase": "Running", "podIP": address, "conditions": [READY]})
            await runner.process.wait()
            await self._tell(name, {"phase": "Succeeded", "conditions": [{**READY, "status": "False"}]})
        except asyncio.CancelledError:
            if runner.process.returncode is None:
                runner.process.terminate()
                await runner.process.wait()
        finally:
            await stop_runner(runner)

    async def _tell(self, name: str, status: Object) -> None:
        with suppress(NotFoundError):
            await self._cluster.patch_status("Pod", name, status)


@asynccontextmanager
async def kubelet(cluster: Cluster) -> AsyncIterator[Kubelet]:
    """A kubelet that runs sandbox pods of the cluster's namespace meanwhile."""
    folder = Path(tempfile.mkdtemp(prefix="openclaw-"))
    running = Kubelet(cluster, folder)
    task = asyncio.create_task(running.follow())
    try:
        yield running
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        shutil.rmtree(folder, ignore_errors=True)

"""Calls go on through a whole key rotation: real API server, operator, gateway side and runners."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from openclaw_operator.cluster.client import Object
from openclaw_runtime.sandbox.keyfile import KeyFile
from openclaw_runtime.sandbox.kube import KubeApi
from openclaw_runtime.sandbox.pod_executor import PodExecutor
from tests.cluster.apiserver import ApiServer
from tests.integration.operator.conftest import WAIT_SECONDS, Cluster
from tests.integration.operator.kubelet import kubelet
from tests.integration.operator.manifests import SKILL
from tests.integration.operator.process import Operator
from tests.integration.operator.test_sandbox_pools import SIGNING, USES_ECHO
from tests.integration.sandbox.helpers import RecordingContext, make_call, make_skill

CALLERS = 2


@asynccontextmanager
async def account_api(server: ApiServer, cluster: Cluster, folder: Path, name: str) -> AsyncIterator[KubeApi]:
    """The API as the pods of a ServiceAccount reach it, with what that may do by the RoleBinding of its name."""
    await cluster.wait("RoleBinding", name, lambda _item: True)
    path = f"/api/v1/namespaces/{cluster.namespace}/serviceaccounts/{name}/token"
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    answer = await cluster.client._request("POST", path, verb="create", body=request)
    (folder / "token").write_text(answer["status"]["token"])
    api = KubeApi(server.url, folder / "token", server.pki / "ca.crt")
    yield api
    await api.close()


def mount(secret: Object, path: Path) -> None:
    """The kubelet brings what the Secret holds."""
    fresh = path.with_suffix(".new")
    fresh.write_bytes(base64.b64decode(secret["data"]["private.key"]))
    fresh.rename(path)


async def test_no_call_is_lost_while_the_key_is_rotated(
    server: ApiServer, cluster: Cluster, operator: Operator, tmp_path: Path
) -> None:
    key, over, made = tmp_path / "private.key", asyncio.Event(), list[str]()
    async with kubelet(cluster) as node:
        await cluster.apply(SKILL, USES_ECHO)
        mount(await cluster.wait("Secret", SIGNING, lambda _item: True), key)
        await cluster.wait_any("Pod", bool)
        pod = (await cluster.all_of("Pod"))[0]
        call = make_call(make_skill(pool=pod["metadata"]["labels"]["openclaw.io/pool"]))

        async def believed(*keys: str) -> None:
            """Returns once a call was made in a pod that believes exactly these keys."""
            async with asyncio.timeout(WAIT_SECONDS):
                while not any(node.keys[name] == set(keys) for name in made):  # noqa: ASYNC110 - a list offers no event
                    await asyncio.sleep(0.05)

        async with account_api(server, cluster, tmp_path, "ada-gateway") as api, asyncio.TaskGroup() as group:
            executor = PodExecutor(api, cluster.namespace, KeyFile(key), port=node.port)
            await executor.start()

            async def calls() -> None:
                while not over.is_set():
                    made.append((await executor.execute(call, RecordingContext())).sandbox)

            callers = [group.create_task(calls()) for _ in range(CALLERS)]
            old = (await cluster.get("Secret", SIGNING))["data"]["public.key"]
            await believed(old)
            await cluster.patch("Secret", SIGNING, {"metadata": {"annotations": {"openclaw.io/rotate": "now"}}})
            secret = await cluster.wait("Secret", SIGNING, lambda item: "former.public.key" in item["data"])
            new = secret["data"]["public.key"]
            assert new != old
            # Gateways still sign with the old key: pods believe both.
            await believed(old, new)
            made.clear()
            mount(secret, key)
            await believed(old, new)
            # As if all gateways had had the time to get it.
            long_ago = {"metadata": {"annotations": {"openclaw.io/signs-since": "2026-01-01T00:00:00Z"}}}
            await cluster.patch("Secret", SIGNING, long_ago)
            await believed(new)
            over.set()
            await asyncio.gather(*callers)
            await executor.close()

"""Calls sandbox pods with the namespace's own key: what a gateway does, minus its checks and its choice of pod."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from openclaw_runtime.sandbox.archive import PackageFile
from openclaw_runtime.sandbox.client import CallOptions, SandboxClient, UnreachableError
from openclaw_runtime.sandbox.endpoint import Endpoint
from openclaw_runtime.sandbox.errors import SandboxBusyError
from openclaw_runtime.sandbox.protocol import Limits
from openclaw_runtime.sandbox.signing import Signer
from openclaw_runtime.skills.package import pack_files
from openclaw_runtime.skills.types import PERMISSIONS, ActionSpec, InstalledSkill, SkillCall, SkillResult
from tests.demo.kube import Kube
from tests.demo.steps import QUICKSTART_SANDBOXES

PORT = 7460
Target = tuple[str, int] | tuple[str, int, Literal["udp"]]
"""Where to connect to, or a name server to ask."""
PROBE = Path(__file__).with_name("probe.py")


class NoContext:
    """Nothing the probe may reach back for."""

    async def _take(self, *_: Any, **__: Any) -> None:
        """Logs and progress are not looked at."""

    async def _refuse(self, *_: Any, **__: Any) -> Any:
        raise AssertionError("the probe asked for something")

    log = progress = _take
    memory_add = memory_search = llm_generate = ask = _refuse


def signer(kube: Kube) -> Signer:
    """The key of the namespace's gateways."""
    secret = kube.get("secret", "openclaw-sandbox-signing")
    assert secret is not None
    return Signer(base64.b64decode(secret["data"]["private.key"]))


def warm_pod(kube: Kube, selector: str = QUICKSTART_SANDBOXES) -> dict[str, Any]:
    """A sandbox pod that waits for a call, one of the quickstart unless others are selected."""
    for pod in kube.items("pods", selector):
        conditions = {item["type"]: item["status"] for item in pod["status"].get("conditions", [])}
        if conditions.get("Ready") == "True" and "deletionTimestamp" not in pod["metadata"]:
            return pod
    raise AssertionError("no sandbox pod is ready")


@contextmanager
def endpoint(kube: Kube, pod: dict[str, Any]) -> Iterator[Endpoint]:
    """The pod, reached from this host."""
    name, uid = pod["metadata"]["name"], pod["metadata"]["uid"]
    with kube.forward(f"pod/{name}", PORT) as url:
        address = urlsplit(url)
        assert address.hostname is not None
        assert address.port is not None
        yield Endpoint(name, uid, (address.hostname, address.port))


async def probe(key: Signer, where: Endpoint, action: str, given: dict[str, Any]) -> SkillResult:
    """One call of the probe skill, signed with every permission there is: what is left then is the pod's own wall."""
    package = pack_files([PackageFile("scripts/main.py", PROBE.read_bytes(), executable=False)])

    async def load() -> bytes:
        return package.data

    skill = InstalledSkill(
        "probe", "1.0.0", "", package.digest, "python", "scripts/main.py", (ActionSpec(action),), load, PERMISSIONS
    )
    call = SkillCall(f"probe-{time.monotonic_ns()}", "tester", "e2e", skill, action, given, 60.0)
    options = CallOptions(package.data, Limits(timeout_seconds=60.0), frozenset())
    return await SandboxClient(key).call(where, call, options, NoContext())


async def call_once(kube: Kube, action: str, given: dict[str, Any]) -> Any:
    """The output of a call on a warm pod, once that pod is gone: the next test finds only unused ones."""
    pod = warm_pod(kube)
    with endpoint(kube, pod) as where:
        output = (await probe(signer(kube), where, action, given)).output
    kube.delete_wait("pod", pod["metadata"]["name"])
    return output


def name_server(kube: Kube) -> str:
    """The address of the cluster's name server."""
    service = kube.in_namespace("kube-system").get("service", "kube-dns")
    assert service is not None
    address: str = service["spec"]["clusterIP"]
    return address


def names_of(targets: Iterable[Target]) -> set[str]:
    """What targets are called in an answer."""
    return {":".join(map(str, target)) for target in targets}


async def connect_from_sandbox(kube: Kube, selector: str, targets: Sequence[Target]) -> dict[str, str]:
    """What becomes of connections from a sandbox pod to others than itself; the pod is used up by it."""
    tries = 0
    while True:
        pod = warm_pod(kube, selector)
        others = [target for target in targets if target[0] != pod["status"]["podIP"]]
        try:
            with endpoint(kube, pod) as where:
                found: dict[str, str] = (await probe(signer(kube), where, "connect", {"targets": others})).output
                return found
        except (UnreachableError, SandboxBusyError):
            # A call of a moment ago had it, which the API server does not know yet.
            tries += 1
            if tries == 5:
                raise
            await asyncio.sleep(1)


def connect_from_pod(kube: Kube, pod: str, targets: Sequence[Target]) -> dict[str, str]:
    """What becomes of connections from an ordinary pod."""
    code = PROBE.read_text() + f"\nimport json; print(json.dumps(connect(None, {{'targets': {targets!r}}})))"
    found: dict[str, str] = json.loads(kube.exec(pod, "python3", "-c", code))
    return found

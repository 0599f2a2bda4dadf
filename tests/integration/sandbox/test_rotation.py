"""The namespace's signing key is replaced under a gateway: no call is lost, and pods believe only whom they should."""

import asyncio
import base64
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from openclaw_runtime.sandbox import errors
from openclaw_runtime.sandbox.calling import MAX_UNAUTHORIZED
from openclaw_runtime.sandbox.keyfile import KeyFile
from openclaw_runtime.sandbox.kube import KubeApi
from openclaw_runtime.sandbox.pod_executor import PodExecutor
from openclaw_runtime.sandbox.signing import Signer
from tests.integration.sandbox.helpers import RecordingContext, make_call, make_skill
from tests.integration.sandbox.test_pool import POOL, ApiServer, Pods, api, pods, server

__all__ = ["api", "pods", "server"]

OLD, NEW = b"\x01" * 32, b"\x02" * 32
KEYS = {seed: base64.b64encode(Signer(seed).public_key).decode() for seed in (OLD, NEW)}
BOTH = f"{KEYS[OLD]},{KEYS[NEW]}"


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "private.key"
    path.write_bytes(OLD)
    return path


def swap(key: Path) -> None:
    """The kubelet brings the new key."""
    fresh = key.with_suffix(".new")
    fresh.write_bytes(NEW)
    fresh.rename(key)


@pytest.fixture
async def executor(api: KubeApi, pods: Pods, key: Path) -> AsyncIterator[PodExecutor]:
    await pods.add(public_keys=KEYS[OLD])
    made = PodExecutor(api, "demo", KeyFile(key), port=pods.port)
    await made.start()
    yield made
    await made.close()


async def test_calls_go_on_while_the_key_is_rotated(
    server: ApiServer, pods: Pods, executor: PodExecutor, key: Path, context: RecordingContext
) -> None:
    """Pods that know the old key, then both, then the gateway gets the new one, then pods that know only that."""
    call = make_call(make_skill(pool=POOL))
    used = [(await executor.execute(call, context)).sandbox]
    await server.watching.wait()
    for keys in (BOTH, BOTH, KEYS[NEW]):
        waiting = asyncio.ensure_future(executor.execute(call, context))
        runner = await pods.announce(public_keys=keys)
        used.append((await waiting).sandbox)
        assert used[-1] == runner.endpoint.name
        if keys == BOTH:
            swap(key)
    assert len(set(used)) == 4


async def test_idle_leases_that_know_the_old_key_do_not_fail_a_call(
    server: ApiServer, pods: Pods, executor: PodExecutor, key: Path
) -> None:
    together = asyncio.Barrier(MAX_UNAUTHORIZED)

    class Together(RecordingContext):
        async def ask(self, question: str) -> str:
            await together.wait()
            return question

    call = make_call(make_skill("pause", pool=POOL))
    await executor.execute(make_call(make_skill(pool=POOL)), RecordingContext())
    await server.watching.wait()
    for _ in range(MAX_UNAUTHORIZED):
        await pods.announce(public_keys=KEYS[OLD], leased=True)
    await asyncio.gather(*(executor.execute(call, Together()) for _ in range(MAX_UNAUTHORIZED)))
    swap(key)
    good = await pods.announce(public_keys=KEYS[NEW])
    assert (await executor.execute(call, RecordingContext())).sandbox == good.endpoint.name


async def test_a_pod_that_did_not_believe_the_old_key_is_tried_again_with_the_new_one(
    server: ApiServer, pods: Pods, executor: PodExecutor, key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The Secret was deleted by hand: pods know the new key before the gateway has it."""
    monkeypatch.setattr("openclaw_runtime.sandbox.pool.SUSPECT_SECONDS", 0.01)
    call = make_call(make_skill(pool=POOL))
    await executor.execute(call, RecordingContext())
    await server.watching.wait()
    runner = await pods.announce(public_keys=KEYS[NEW])
    with pytest.raises(errors.UnauthorizedError):
        await executor.execute(call, RecordingContext())
    swap(key)
    assert (await executor.execute(call, RecordingContext())).sandbox == runner.endpoint.name

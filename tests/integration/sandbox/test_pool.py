"""The watch over sandbox pods, against a real HTTP server that plays the API server; and whole calls on such pods."""

import asyncio
import contextlib
import json
import random
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from openclaw_runtime.sandbox import errors
from openclaw_runtime.sandbox.endpoint import Endpoint, SandboxQueue
from openclaw_runtime.sandbox.kube import KubeApi, KubeError
from openclaw_runtime.sandbox.local import LocalRunner
from openclaw_runtime.sandbox.local_executor import SubprocessExecutor
from openclaw_runtime.sandbox.pod_executor import PodExecutor
from openclaw_runtime.sandbox.pool import PodPool, endpoint_of
from openclaw_runtime.sandbox.signing import Signer
from openclaw_runtime.skills.types import SkillResult
from openclaw_runtime.telemetry import Metrics
from tests.integration.sandbox.conftest import Start
from tests.integration.sandbox.helpers import RecordingContext, make_call, make_skill

POOL = "0123456789"


def pod(name: str, *, ready: bool = True, pool: str = POOL, ip: str = "127.0.0.1", **metadata: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "uid": f"uid-{name}", "labels": {"openclaw.io/pool": pool}} | metadata,
        "status": {
            "phase": "Running",
            "podIP": ip,
            "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
        },
    }


class ApiServer:
    """Lists `pods`, streams what `emit` is given, and keeps every request line and authorization header."""

    def __init__(self) -> None:
        self.pods: list[dict[str, Any]] = []
        self.config_maps: dict[str, dict[str, Any]] = {}
        self.requests: list[str] = []
        self.tokens: list[str] = []
        self.fail_with: int | None = None
        self.version = 1
        self.listed = asyncio.Event()
        self.watching = asyncio.Event()
        self._watchers: list[asyncio.StreamWriter] = []
        self._server: asyncio.Server | None = None

    async def start(self) -> str:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        self.end_watches()

    def end_watches(self) -> None:
        self.watching.clear()
        for writer in self._watchers:
            writer.write(b"0\r\n\r\n")
            writer.close()
        self._watchers.clear()

    def emit(self, kind: str, item: dict[str, Any]) -> None:
        self.version += 1
        if kind != "ERROR":
            item = item | {"metadata": item["metadata"] | {"resourceVersion": str(self.version)}}
        line = json.dumps({"type": kind, "object": item}).encode() + b"\n"
        for writer in self._watchers:
            writer.write(f"{len(line):x}\r\n".encode() + line + b"\r\n")

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        target = head[0].split()[1]
        self.requests.append(target)
        self.tokens += [line.split(": ")[1] for line in head if line.lower().startswith("authorization")]
        if self.fail_with is not None:
            self._answer(writer, self.fail_with, {"message": "the server is on fire"})
        elif "watch=1" in target:
            writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
            self._watchers.append(writer)
            self.watching.set()
        elif "/configmaps/" in target:
            found = self.config_maps.get(target.rpartition("/")[2])
            self._answer(writer, 200 if found else 404, found or {"message": "not found"})
        else:
            self._answer(writer, 200, {"metadata": {"resourceVersion": str(self.version)}, "items": self.pods})
            self.listed.set()

    def _answer(self, writer: asyncio.StreamWriter, status: int, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        writer.write(f"HTTP/1.1 {status} X\r\ncontent-length: {len(data)}\r\nconnection: close\r\n\r\n".encode() + data)
        writer.close()


@pytest.fixture
async def server() -> AsyncIterator[ApiServer]:
    fake = ApiServer()
    yield fake
    await fake.stop()


@pytest.fixture
async def queue() -> SandboxQueue:
    return SandboxQueue(random.Random(1), asyncio.get_running_loop().time)


@pytest.fixture
async def api(server: ApiServer, tmp_path: Path) -> AsyncIterator[KubeApi]:
    (tmp_path / "token").write_text("first")
    client = KubeApi(await server.start(), tmp_path / "token")
    yield client
    await client.close()


@pytest.fixture
async def pool(api: KubeApi, queue: SandboxQueue) -> AsyncIterator[PodPool]:
    pods = PodPool(api, "demo", queue, 7460, random.Random(1))
    yield pods
    await pods.close()


def soon() -> float:
    return asyncio.get_running_loop().time() + 20


async def test_a_ready_pod_is_used_once(server: ApiServer, pool: PodPool, queue: SandboxQueue) -> None:
    server.pods = [pod("a")]
    pool.start()
    endpoint = await queue.acquire(POOL, soon())
    pool.taken(endpoint.uid)
    assert (endpoint.name, endpoint.address) == ("a", ("127.0.0.1", 7460))
    await server.watching.wait()
    server.emit("MODIFIED", pod("a"))  # it turns unready and so on: none of it makes it free again
    server.emit("ADDED", pod("b"))
    assert (await queue.acquire(POOL, soon())).name == "b"
    assert pool.status()[POOL]["used"] == 1


async def test_calls_wait_in_order_for_pods(server: ApiServer, pool: PodPool, queue: SandboxQueue) -> None:
    pool.start()
    await server.watching.wait()
    waiting = [asyncio.ensure_future(queue.acquire(POOL, soon())) for _ in range(3)]
    await asyncio.sleep(0)
    assert queue.status() == {POOL: {"free": 0, "waiting": 3}}
    for name in "abc":
        server.emit("ADDED", pod(name))
    assert [(await item).name for item in waiting] == ["a", "b", "c"]


@pytest.mark.parametrize(
    "item",
    [
        pod("a", ready=False),
        pod("a", deletionTimestamp="2026-01-01T00:00:00Z"),
        pod("a", ip=""),
        pod("a") | {"status": {"phase": "Succeeded", "podIP": "10.0.0.1"}},
        {"metadata": {"name": "a", "uid": "u"}, "status": {}},
    ],
)
def test_what_is_not_ready_is_no_endpoint(item: dict[str, Any]) -> None:
    assert endpoint_of(item, 7460) is None


async def test_a_pod_that_turns_unready_or_goes_away_is_withdrawn(
    server: ApiServer, pool: PodPool, queue: SandboxQueue
) -> None:
    server.pods = [pod("a"), pod("b"), pod("c")]
    pool.start()
    await server.watching.wait()
    server.emit("MODIFIED", pod("a", ready=False))
    server.emit("DELETED", pod("b"))
    server.emit("ADDED", pod("mark", pool="other"))
    await queue.acquire("other", soon())
    assert (await queue.acquire(POOL, soon())).name == "c"
    with pytest.raises(errors.SandboxUnavailableError):
        await queue.acquire(POOL, 0)


async def test_only_a_pod_that_starts_is_on_its_way(server: ApiServer, pool: PodPool, queue: SandboxQueue) -> None:
    async def told(kind: str, item: dict[str, Any]) -> bool:
        """Whether a pod is on its way, once that event and all before it are known."""
        server.emit(kind, item)
        server.emit("ADDED", pod(f"mark-{uuid.uuid4().hex}", pool="other"))
        pool.taken((await queue.acquire("other", soon())).uid)
        return pool.starts(POOL)

    pool.start()
    await server.watching.wait()
    starting = pod("a", ready=False)
    assert await told("ADDED", starting)
    stuck = starting | {"status": {"phase": "Pending", "containerStatuses": [image_is_missing()]}}
    assert not await told("MODIFIED", stuck)
    assert not await told("MODIFIED", pod("a"))
    assert not await told("MODIFIED", pod("a", ready=False))  # taken by somebody
    assert await told("ADDED", pod("b", ready=False))
    assert not await told("MODIFIED", pod("b", ready=False, deletionTimestamp="2026-01-01T00:00:00Z"))


def image_is_missing() -> dict[str, Any]:
    return {"state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}}


async def test_pods_that_vanish_while_nobody_watches_are_noticed(
    server: ApiServer, pool: PodPool, queue: SandboxQueue
) -> None:
    server.pods = [pod("a")]
    pool.start()
    await server.watching.wait()
    server.pods = [pod("b")]
    server.emit("ERROR", {"kind": "Status", "code": 410, "message": "too old resource version"})
    server.watching.clear()
    await server.watching.wait()
    assert (await queue.acquire(POOL, soon())).name == "b"
    assert sum("watch=1" not in target for target in server.requests) == 2


async def test_a_watch_that_ends_goes_on_where_it_was(server: ApiServer, pool: PodPool, queue: SandboxQueue) -> None:
    pool.start()
    await server.watching.wait()
    server.emit("ADDED", pod("a"))
    await queue.acquire(POOL, soon())
    server.end_watches()
    await server.watching.wait()
    server.emit("ADDED", pod("b"))
    assert (await queue.acquire(POOL, soon())).name == "b"
    assert sum("watch=1" not in target for target in server.requests) == 1
    assert f"resourceVersion={server.version - 1}" in server.requests[-1]


async def test_an_api_server_that_fails_is_tried_again(server: ApiServer, pool: PodPool, queue: SandboxQueue) -> None:
    server.fail_with = 503
    pool.start()
    while pool.last_error is None:  # noqa: ASYNC110 - the pool offers no event for an error
        await asyncio.sleep(0.01)
    assert "HTTP 503: the server is on fire" in pool.last_error
    server.fail_with, server.pods = None, [pod("a")]
    assert (await queue.acquire(POOL, soon())).name == "a"
    assert pool.last_error is None


async def test_the_token_is_read_for_every_request(server: ApiServer, api: KubeApi, tmp_path: Path) -> None:
    server.config_maps["one"] = {"binaryData": {}}
    await api.get_config_map("demo", "one")
    (tmp_path / "token").write_text("second")
    with pytest.raises(KubeError, match="HTTP 404: not found"):
        await api.get_config_map("demo", "two")
    assert server.tokens == ["Bearer first", "Bearer second"]


async def test_a_waiter_that_gives_up_passes_its_pod_on(queue: SandboxQueue) -> None:
    first = asyncio.ensure_future(queue.acquire(POOL, soon()))
    second = asyncio.ensure_future(queue.acquire(POOL, soon()))
    await asyncio.sleep(0)
    queue.offer(POOL, Endpoint("a", "a", ("127.0.0.1", 1)))
    first.cancel()  # it has the pod already, and never gets to use it
    assert (await second).name == "a"


async def test_a_lane_made_anew_is_not_forgotten_with_the_old_one(queue: SandboxQueue) -> None:
    first = asyncio.ensure_future(queue.acquire(POOL, soon()))
    await asyncio.sleep(0)
    # In one turn of the loop: the first call gets its sandbox, another sandbox goes, and the next call comes to wait.
    second = asyncio.ensure_future(queue.acquire(POOL, soon()))
    queue.offer(POOL, Endpoint("a", "a", ("127.0.0.1", 1)))
    queue.withdraw(POOL, "gone")
    assert (await first).name == "a"
    await asyncio.sleep(0)
    queue.offer(POOL, Endpoint("b", "b", ("127.0.0.1", 1)))
    assert (await second).name == "b"


async def test_nothing_ends_the_watch(server: ApiServer, pool: PodPool, queue: SandboxQueue) -> None:
    pool.start()
    await server.watching.wait()
    server.watching.clear()
    server.emit("ERROR", {"code": "not a number"})
    await server.watching.wait()
    server.emit("ADDED", pod("a"))
    assert (await queue.acquire(POOL, soon())).name == "a"


# --- calls on pods ----------------------------------------------------------------------------------------------------


class Pods:
    """Real runners behind addresses of the loopback network, announced as pods of the fake API server."""

    def __init__(self, server: ApiServer, start: Start) -> None:
        self._server = server
        self._start = start
        self._ports: list[asyncio.Server] = []
        self.port = 0
        self.runners: list[LocalRunner] = []

    async def add(self, *, announced_uid: str | None = None, **options: Any) -> LocalRunner:
        runner = await self._start(**options)
        ip = f"127.0.0.{len(self.runners) + 2}"
        listener = await forward(str(runner.endpoint.address), ip, self.port)
        self.port = listener.sockets[0].getsockname()[1]
        self._ports.append(listener)
        self.runners.append(runner)
        self._server.pods.append(pod(runner.endpoint.name, ip=ip, uid=announced_uid or runner.endpoint.uid))
        return runner

    async def announce(self, **options: Any) -> LocalRunner:
        """Adds a pod that whoever watches learns of."""
        runner = await self.add(**options)
        self._server.emit("ADDED", self._server.pods[-1])
        return runner

    def close(self) -> None:
        for listener in self._ports:
            listener.close()


async def forward(path: str, ip: str, port: int) -> asyncio.Server:
    """An address in front of a runner's socket."""

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data)
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_unix_connection(path)
        except OSError:
            writer.close()
            return
        await asyncio.gather(pipe(reader, far_writer), pipe(far_reader, writer))

    return await asyncio.start_server(serve, ip, port)


@pytest.fixture
async def pods(server: ApiServer, start: Start) -> AsyncIterator[Pods]:
    found = Pods(server, start)
    yield found
    found.close()


@pytest.fixture
async def make_executor(api: KubeApi, signer: Signer) -> AsyncIterator[Callable[[int], Awaitable[PodExecutor]]]:
    made: list[PodExecutor] = []

    async def make(port: int) -> PodExecutor:
        executor = PodExecutor(api, "demo", signer, port=port)
        made.append(executor)
        await executor.start()
        return executor

    yield make
    for executor in made:
        await executor.close()


Make = Callable[[int], Awaitable[PodExecutor]]


async def test_a_call_runs_in_a_pod_of_its_pool(pods: Pods, make_executor: Make, context: RecordingContext) -> None:
    runner = await pods.add()
    executor = await make_executor(pods.port)
    result = await executor.execute(make_call(make_skill("callbacks", pool=POOL)), context)
    assert result.sandbox == runner.endpoint.name
    assert result.output["id"] == "record-1"
    assert executor.status()["pools"][POOL] == {"pods": 1, "warm": 0, "used": 1, "waiting": 0, "leased": 0}


async def test_busy_and_unreachable_pods_are_passed_over(
    pods: Pods, make_executor: Make, context: RecordingContext
) -> None:
    """One pod was taken by another gateway, one does not answer, one says it is another; the fourth is good."""
    await pods.add()
    first = await make_executor(pods.port)
    taken = asyncio.ensure_future(first.execute(make_call(make_skill("stubborn", pool=POOL)), context))
    await context.logged.wait()
    dead = await pods.add()
    dead.process.kill()
    await dead.process.wait()
    await pods.add(announced_uid="somebody-else")
    second = await make_executor(pods.port)
    # All three are offered, none takes the call; it waits until a pod comes that does.
    waiting = asyncio.ensure_future(second.execute(make_call(make_skill(pool=POOL)), RecordingContext()))
    while second.status()["pools"].get(POOL, {}).get("used", 0) < 3:  # noqa: ASYNC110 - the pool offers no event for it
        await asyncio.sleep(0.01)
    good = await pods.announce()
    assert (await waiting).sandbox == good.endpoint.name
    taken.cancel()
    with pytest.raises(asyncio.CancelledError):
        await taken


@pytest.mark.parametrize(
    ("status", "told"),
    [
        (
            {"containerStatuses": [{"state": {"terminated": {"reason": "OOMKilled", "exitCode": 137}}}]},
            r"OOMKilled: it used more memory than resources\.limits\.memory in the spec of the Skill; raise it",
        ),
        (
            {"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory."},
            r"Evicted: The node was low on resource: memory\.",
        ),
        (None, "its pod was deleted"),
    ],
)
async def test_a_call_whose_pod_goes_away_is_told_why(
    server: ApiServer,
    pods: Pods,
    make_executor: Make,
    context: RecordingContext,
    status: dict[str, Any] | None,
    told: str,
) -> None:
    only = await pods.add()
    executor = await make_executor(pods.port)
    calling = asyncio.ensure_future(executor.execute(make_call(make_skill("stubborn", pool=POOL)), context))
    await context.logged.wait()
    only.process.kill()
    await only.process.wait()
    await server.watching.wait()
    (gone,) = server.pods
    gone["status"] |= status or {}
    server.emit("DELETED" if status is None else "MODIFIED", gone)
    with pytest.raises(errors.SkillCrashedError, match=rf"{only.endpoint.name} went away while the call ran; {told}$"):
        await calling


async def test_a_pod_whose_end_nobody_tells_of_is_gone_all_the_same(
    pods: Pods, make_executor: Make, context: RecordingContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("openclaw_runtime.sandbox.pool.FATE_SECONDS", 0.01)
    only = await pods.add()
    executor = await make_executor(pods.port)
    calling = asyncio.ensure_future(executor.execute(make_call(make_skill("stubborn", pool=POOL)), context))
    await context.logged.wait()
    only.process.kill()
    with pytest.raises(errors.SkillCrashedError, match=r"went away while the call ran$"):
        await calling


TOO_MUCH = {"text": '"' * (1 << 20)}
"""Fits into an input; quoted twice it does not fit into the frame of a call."""


async def test_a_pod_that_never_got_its_call_is_used_again(
    pods: Pods, make_executor: Make, context: RecordingContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("openclaw_runtime.sandbox.pool.SUSPECT_SECONDS", 0.01)
    only = await pods.add()
    executor = await make_executor(pods.port)
    with pytest.raises(errors.ProtocolViolationError, match="the call is"):
        await executor.execute(make_call(make_skill(pool=POOL), TOO_MUCH), context)
    assert (await executor.execute(make_call(make_skill(pool=POOL)), context)).sandbox == only.endpoint.name


async def test_a_process_that_never_got_its_call_makes_room(context: RecordingContext) -> None:
    executor = SubprocessExecutor(warm=1, limit=1, walled=False)
    await executor.start()
    try:
        with pytest.raises(errors.ProtocolViolationError, match="the call is"):
            await executor.execute(make_call(make_skill(), TOO_MUCH), context)
        await executor.execute(make_call(make_skill()), context)
    finally:
        await executor.close()


async def test_pods_with_another_key_are_passed_over(
    pods: Pods, make_executor: Make, context: RecordingContext
) -> None:
    """As while a key is rotated: some pods know only the other one."""
    await pods.add(public_key=Signer.generate().public_key)
    good = await pods.add()
    executor = await make_executor(pods.port)
    assert (await executor.execute(make_call(make_skill(pool=POOL)), context)).sandbox == good.endpoint.name


async def test_a_key_that_no_pod_knows_is_an_error(pods: Pods, make_executor: Make, context: RecordingContext) -> None:
    for _ in range(3):
        await pods.add(public_key=Signer.generate().public_key)
    executor = await make_executor(pods.port)
    with pytest.raises(errors.UnauthorizedError, match="no key of this pod"):
        await executor.execute(make_call(make_skill(pool=POOL)), context)


async def test_an_api_server_that_goes_away_does_not_make_the_gateway_unready(
    server: ApiServer, pods: Pods, make_executor: Make, context: RecordingContext
) -> None:
    await pods.add()
    executor = await make_executor(pods.port)
    await server.watching.wait()
    server.fail_with = 503
    server.emit("ERROR", {"code": 410})
    while executor._pool.last_error is None or "503" not in executor._pool.last_error:  # noqa: ASYNC110 - no event for it
        await asyncio.sleep(0.01)
    assert executor.status()["error"] is None
    await executor.execute(make_call(make_skill(pool=POOL)), context)


async def test_a_burst_is_served_as_far_as_pods_go_and_the_rest_is_told_why(
    server: ApiServer, pods: Pods, make_executor: Make
) -> None:
    for _ in range(3):
        await pods.add()
    executor = await make_executor(pods.port)
    waiting: list[int] = []

    class Watched(Metrics):
        def waiting(self, pool: str, calls: int) -> None:
            super().waiting(pool, calls)
            waiting.append(calls)

    metrics = Watched(version="1", agent="a", start_time=0)
    executor.observe(metrics)
    await server.watching.wait()
    deadlines = [60.0] * 3 + [0.5] * 47
    calls = (
        executor.execute(make_call(make_skill(pool=POOL), deadline=seconds), RecordingContext())
        for seconds in deadlines
    )
    results = await asyncio.gather(*calls, return_exceptions=True)
    told = metrics.registry.get_sample_value
    assert max(waiting) == 47
    lost = [item for item in results if isinstance(item, errors.SandboxUnavailableError)]
    served = {item.sandbox for item in results if isinstance(item, SkillResult)}
    assert served == {runner.endpoint.name for runner in pods.runners}
    assert len(lost) == 47
    assert "of its 3 pods 3 are taken and 0 start: raise spec.sandbox.warm" in str(lost[0])
    assert told("openclaw_sandbox_waiting_calls", {"pool": POOL}) == 0
    counts = {"served": 3.0, "deadline": 47.0}
    for outcome, count in counts.items():
        labels = {"pool": POOL, "outcome": outcome}
        assert told("openclaw_sandbox_queue_seconds_count", labels) == count
    assert executor.status()["pools"][POOL]["waiting"] == 0


@pytest.mark.parametrize(
    ("status", "cause"),
    [
        (
            {"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no"}]},
            "its pods do not start: Unschedulable: no",
        ),
        (
            {"containerStatuses": [{"state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such tag"}}}]},
            "its pods do not start: ImagePullBackOff: no such tag",
        ),
        (
            {
                "initContainerStatuses": [{"state": {"waiting": {"reason": "ErrImagePull", "message": "no runner"}}}],
                "containerStatuses": [{"state": {"waiting": {"reason": "PodInitializing"}}}],
            },
            "its pods do not start: ErrImagePull: no runner",
        ),
        (None, "it has no pods: status.pools of the Skill says why"),
    ],
)
async def test_a_call_without_a_sandbox_is_told_the_cause(
    server: ApiServer, make_executor: Make, status: dict[str, Any] | None, cause: str
) -> None:
    server.pods = [pod("a") | {"status": {"phase": "Pending", **status}}] if status else []
    executor = await make_executor(1)
    await server.watching.wait()
    with pytest.raises(errors.SandboxUnavailableError, match=cause):
        await executor.execute(make_call(make_skill(pool=POOL), deadline=0.05), RecordingContext())


async def test_a_skill_without_a_pool_says_so(pods: Pods, make_executor: Make, context: RecordingContext) -> None:
    executor = await make_executor(1)
    with pytest.raises(errors.SandboxUnavailableError, match="attacks has no sandbox pool"):
        await executor.execute(make_call(make_skill()), context)


async def test_an_empty_pool_ends_at_the_deadline_with_the_reason(
    server: ApiServer, pods: Pods, make_executor: Make, context: RecordingContext
) -> None:
    server.fail_with = 403
    executor = await make_executor(1)
    while executor.status()["error"] is None:  # noqa: ASYNC110 - the pool offers no event for an error
        await asyncio.sleep(0.01)
    with pytest.raises(errors.SandboxUnavailableError, match=r"no sandbox of pool 0123456789.*HTTP 403"):
        await executor.execute(make_call(make_skill(pool=POOL), deadline=0.05), context)

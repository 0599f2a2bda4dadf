"""Which sandbox pods are ready: one watch over the namespace's pods, kept in memory, so that a call asks nobody."""

import asyncio
import contextlib
import logging
import random
from collections.abc import Mapping
from typing import Any, Final

from openclaw_runtime.sandbox.endpoint import Endpoint, SandboxQueue
from openclaw_runtime.sandbox.kube import KubeApi, KubeError

POOL_LABEL: Final = "openclaw.io/pool"
SUSPECT_SECONDS: Final = 5.0
"""How long a pod that could not be reached is left alone."""
FATE_SECONDS: Final = 3.0
"""How long a call whose pod went away waits to hear why: the kubelet looks at its containers every second."""
_DELETED: Final = "its pod was deleted"
_FINISHED: Final = frozenset({"Succeeded", "Failed"})
_BACKOFF: Final = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0)

_log = logging.getLogger(__name__)


def pool_of(pod: Mapping[str, Any]) -> str | None:
    """Returns the id of the pool a pod belongs to."""
    value = (pod.get("metadata", {}).get("labels") or {}).get(POOL_LABEL)
    return value if isinstance(value, str) and value else None


def endpoint_of(pod: Mapping[str, Any], port: int) -> Endpoint | None:
    """Returns where to call a pod, or None while it is not ready, being deleted or over."""
    metadata, status = pod.get("metadata", {}), pod.get("status", {})
    if metadata.get("deletionTimestamp") or status.get("phase") != "Running" or not status.get("podIP"):
        return None
    conditions = status.get("conditions") or ()
    if not any(item.get("type") == "Ready" and item.get("status") == "True" for item in conditions):
        return None
    return Endpoint(str(metadata.get("name")), str(metadata.get("uid")), (str(status["podIP"]), port))


def problem_of(pod: Mapping[str, Any]) -> str | None:
    """Returns what keeps a pod from starting, in the words of the scheduler or the kubelet."""
    status = pod.get("status", {})
    for condition in status.get("conditions") or ():
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return f"{condition.get('reason')}: {condition.get('message')}"
    # A skill's own image has its runner copied in by an init container, and until then waits without a message.
    for container in (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())):
        waiting = (container.get("state") or {}).get("waiting") or {}
        if waiting.get("message"):
            return f"{waiting.get('reason')}: {waiting['message']}"
    return None


def end_of(pod: Mapping[str, Any]) -> str | None:
    """Returns why a pod or its container is over and what to do, in the words of the kubelet; None while it is not."""
    status = pod.get("status", {})
    if status.get("phase") == "Failed" and status.get("reason"):
        return f"{status['reason']}: {status.get('message') or 'no message'}"
    for container in status.get("containerStatuses") or ():
        if over := (container.get("state") or {}).get("terminated"):
            if over.get("reason") == "OOMKilled":
                return "OOMKilled: it used more memory than resources.limits.memory in the spec of the Skill; raise it"
            return f"{over.get('reason') or 'Terminated'}: exit code {over.get('exitCode')}"
    return None


class PodPool:
    """Feeds a `SandboxQueue` from a list and watch of the namespace's sandbox pods."""

    def __init__(self, api: KubeApi, namespace: str, queue: SandboxQueue, port: int, jitter: random.Random) -> None:
        self._api = api
        self._path = f"/api/v1/namespaces/{namespace}/pods"
        self._queue = queue
        self._port = port
        self._jitter = jitter
        self._known: dict[str, str] = {}
        self._offered: set[str] = set()
        self._used: set[str] = set()
        self._over: set[str] = set()
        # Those that have been ready: a pod that no longer is serves somebody.
        self._served: set[str] = set()
        self._suspects: dict[str, asyncio.TimerHandle] = {}
        self._ready: dict[str, Endpoint] = {}
        self._problems: dict[str, str] = {}
        self._ends: dict[str, asyncio.Future[str | None]] = {}
        self._task: asyncio.Task[None] | None = None
        self.synced = asyncio.Event()
        self.last_error: str | None = None

    def start(self) -> None:
        """Starts the watch."""
        self._task = asyncio.ensure_future(self._follow())

    async def close(self) -> None:
        """Ends the watch."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        for handle in self._suspects.values():
            handle.cancel()

    def taken(self, uid: str) -> None:
        """Notes that a pod was handed out: it is never offered again, unless it turns out not to have taken a call."""
        self._offered.discard(uid)
        self._used.add(uid)

    def suspect(self, uid: str) -> None:
        """Notes that a pod may not have got its call. It is offered again after a while, if it is still ready.

        One that did get it turned unready and is over soon, and the watch says so.
        """
        loop = asyncio.get_running_loop()
        self._suspects[uid] = loop.call_later(SUSPECT_SECONDS, self.give_back, uid)

    def give_back(self, uid: str) -> None:
        """Offers a pod again that was handed out and did not take a call."""
        self._suspects.pop(uid, None)
        self._used.discard(uid)
        self._update(uid)

    async def fate(self, uid: str) -> str | None:
        """Returns why a pod is over, once the watch tells; None if it does not within `FATE_SECONDS`."""
        if uid not in self._known:
            return _DELETED
        with contextlib.suppress(TimeoutError):
            return await asyncio.wait_for(asyncio.shield(self._end(uid)), FATE_SECONDS)
        return None

    def _end(self, uid: str) -> "asyncio.Future[str | None]":
        return self._ends.setdefault(uid, asyncio.get_running_loop().create_future())

    def lives(self, uid: str) -> bool:
        """Returns whether a pod is there, ready or not."""
        return uid in self._known and uid not in self._over

    def status(self) -> dict[str, dict[str, int]]:
        """Returns per pool how many pods there are, and how many of them are warm or in use."""
        result: dict[str, dict[str, int]] = {}
        for uid, pool in self._known.items():
            counts = result.setdefault(pool, {"pods": 0, "warm": 0, "used": 0})
            counts["pods"] += 1
            counts["warm"] += uid in self._offered
            counts["used"] += uid in self._used
        return result

    def starts(self, pool: str) -> bool:
        """Returns whether a pod of the pool is on its way, with nothing known to be in its way."""
        pods = (uid for uid, other in self._known.items() if other == pool)
        return any(self._starting(uid) and uid not in self._problems for uid in pods)

    def _starting(self, uid: str) -> bool:
        return uid not in self._served and uid not in self._over

    def explain(self, pool: str) -> str | None:
        """Returns why a pool has no free pod and what to do, as far as the watch tells."""
        if self.last_error is not None:
            return self.last_error
        pods = [uid for uid, other in self._known.items() if other == pool]
        problem = next((self._problems[uid] for uid in pods if uid in self._problems), None)
        if problem is not None:
            return f"its pods do not start: {problem}"
        if not pods:
            return "it has no pods: status.pools of the Skill says why"
        starting = sum(map(self._starting, pods))
        return (
            f"of its {len(pods)} pods {len(pods) - starting} are taken and {starting} start: "
            "raise spec.sandbox.warm or maxWarm of the Skill if this happens often"
        )

    async def _follow(self) -> None:
        failures = 0
        while True:
            try:
                version = await self._list()
                failures = 0
                await self._watch(version)
            except KubeError as error:
                self.last_error = str(error)
                if error.status == 410:  # the version is too old to go on from: list again at once
                    continue
                _log.warning("watching sandbox pods: %s", error)
            except Exception:  # noqa: BLE001 - logged, and the watch goes on
                # A watch that ended unnoticed would end every call to come.
                self.last_error = "watching sandbox pods failed; the log has the details"
                _log.exception("watching sandbox pods failed")
            delay = _BACKOFF[min(failures, len(_BACKOFF) - 1)]
            failures += 1
            await asyncio.sleep(delay * self._jitter.uniform(0.5, 1.0))

    async def _list(self) -> str:
        listed = await self._api.get(self._path, {"labelSelector": POOL_LABEL})
        pods = listed.get("items") or []
        for uid in set(self._known) - {pod.get("metadata", {}).get("uid") for pod in pods}:
            self._remove(uid)
        for pod in pods:
            self._apply(pod)
        self.last_error = None
        self.synced.set()
        return str(listed.get("metadata", {}).get("resourceVersion", ""))

    async def _watch(self, version: str) -> None:
        """Follows the watch for as long as the server lets it go on from `version`."""
        while True:
            start = version
            async for event in self._api.watch(self._path, {"labelSelector": POOL_LABEL, "resourceVersion": version}):
                pod = event.get("object", {})
                version = str(pod.get("metadata", {}).get("resourceVersion", version))
                match event.get("type"):
                    case "ADDED" | "MODIFIED":
                        self._apply(pod)
                    case "DELETED":
                        self._remove(str(pod.get("metadata", {}).get("uid")))
            if version == start:
                # A watch that ends without news is normal after minutes; one that ends at once must not spin.
                await asyncio.sleep(_BACKOFF[0])

    def _apply(self, pod: Mapping[str, Any]) -> None:
        uid, pool = str(pod.get("metadata", {}).get("uid")), pool_of(pod)
        if pool is None:
            self._remove(uid)
            return
        self._known[uid] = pool
        problem = problem_of(pod)
        if problem is None:
            self._problems.pop(uid, None)
        else:
            self._problems[uid] = problem
        if pod.get("metadata", {}).get("deletionTimestamp") or pod.get("status", {}).get("phase") in _FINISHED:
            self._over.add(uid)
        if (end := end_of(pod)) is not None and not self._end(uid).done():
            self._end(uid).set_result(end)
        endpoint = endpoint_of(pod, self._port)
        if endpoint is None:
            self._ready.pop(uid, None)
        else:
            self._ready[uid] = endpoint
            self._served.add(uid)
        self._update(uid)

    def _update(self, uid: str) -> None:
        """Offers or withdraws one pod, as its state now demands."""
        pool, endpoint = self._known.get(uid), self._ready.get(uid)
        if pool is None:
            return
        if endpoint is not None and uid not in self._used and uid not in self._offered:
            self._offered.add(uid)
            self._queue.offer(pool, endpoint)
        elif endpoint is None and uid in self._offered:
            self._offered.discard(uid)
            self._queue.withdraw(pool, uid)

    def _remove(self, uid: str) -> None:
        pool = self._known.pop(uid, None)
        self._ready.pop(uid, None)
        self._problems.pop(uid, None)
        self._used.discard(uid)
        self._over.discard(uid)
        self._served.discard(uid)
        if (end := self._ends.pop(uid, None)) is not None and not end.done():
            end.set_result(_DELETED)
        if (handle := self._suspects.pop(uid, None)) is not None:
            handle.cancel()
        if pool is not None and uid in self._offered:
            self._offered.discard(uid)
            self._queue.withdraw(pool, uid)

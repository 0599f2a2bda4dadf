"""Pods that run for a moment, to find out what no API tells. All of them are gone afterwards, whatever happens."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from openclaw_operator.cli.doctor import inside
from openclaw_operator.cli.doctor.reachable import Image, Reached, Target
from openclaw_operator.cluster.inspector import Inspector
from openclaw_operator.cluster.kinds import BY_NAME, Kind
from openclaw_operator.errors import OperatorError
from openclaw_operator.resources.meta import MANAGED_BY, container_security, pod_security

Object = dict[str, Any]
DOCTOR = "openclaw-doctor"
NAMESPACE = Kind("Namespace", "", "v1", "namespaces")
PODS = BY_NAME["Pod"]
POLICIES = BY_NAME["NetworkPolicy"]
POLL_SECONDS = 0.5
# How long a rule may take until it holds.
RULES_SECONDS = 20.0
# What a doctor that was killed could not clear away ends by itself, and is cleared away by the next one.
LONGEST_SECONDS = 300
LEFT_BEHIND = timedelta(seconds=2 * LONGEST_SECONDS)
OPEN_PORT, CLOSED_PORT = 8081, 8080
_NOT_PULLED = frozenset(
    {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError"}
)


class ProbeError(OperatorError):
    """A probe that could not be made; the message says why."""


@dataclass(frozen=True)
class Probes:
    """Makes pods of `image`, which has Python. `random_name(prefix)` gives a name that nobody has."""

    client: Inspector
    image: str
    pull_policy: str
    seconds: float
    random_name: Callable[[str], str]

    @asynccontextmanager
    async def namespace(self, now: datetime) -> AsyncIterator[str]:
        """A namespace that is gone afterwards. Raises ApiError where you may not create one."""
        await self._sweep(now)
        name = self.random_name(DOCTOR)
        labels = {MANAGED_BY: DOCTOR, "pod-security.kubernetes.io/enforce": "restricted"}
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
        try:
            await self.client.post(NAMESPACE.path(), body)
            yield name
        finally:
            await self.client.remove(NAMESPACE.path(None, name))

    async def _sweep(self, now: datetime) -> None:
        """Clear away what a doctor that was killed left behind."""
        selector = f"{MANAGED_BY}={DOCTOR}"
        for kind in (NAMESPACE, PODS):
            for item in (await self.client.read(kind.path(), labelSelector=selector))["items"] or ():
                meta = item["metadata"]
                if now - datetime.fromisoformat(meta["creationTimestamp"]) > LEFT_BEHIND:
                    await self.client.remove(kind.path(meta.get("namespace"), meta["name"]))

    async def images(self, namespace: str, wanted: Sequence[str]) -> list[Image]:
        """Have a node get each image."""
        containers = [self._container(f"image-{number}", image, ["true"]) for number, image in enumerate(wanted)]
        async with self._pod(namespace, "images", containers) as name:
            pod = await self._wait(namespace, name, _all_pulled)
        statuses = {each["name"]: each for each in (pod.get("status") or {}).get("containerStatuses") or ()}
        return [
            Image(image, _pull_problem(statuses.get(f"image-{number}", {}), self.seconds))
            for number, image in enumerate(wanted)
        ]

    async def network(self, namespace: str) -> Reached:
        """Two pods that may and may not talk. Raises ProbeError when one of them does not start."""
        ports = json.dumps([OPEN_PORT, CLOSED_PORT])
        async with self._pod(namespace, "server", [self._python("serve", ports)], {"doctor": "server"}) as server:
            started = await self._wait(namespace, server, lambda pod: bool(_address(pod)) and _phase(pod) == "Running")
            host = _address(started)
            if not host:
                raise ProbeError(f"its pod did not start within {self.seconds:.0f} s: {_why(started)}")
            both = [OPEN_PORT, CLOSED_PORT]
            before = await self._reach(namespace, host, both, [], {})
            if not all(before.values()):
                return Reached(before=False, ingress_closed=False, egress_closed=False, allowed=False)
            for policy in _policies():
                await self.client.post(POLICIES.path(namespace), policy)
            ingress, egress = await asyncio.gather(
                self._reach(namespace, host, [OPEN_PORT], [CLOSED_PORT], {}),
                self._reach(namespace, host, [], [OPEN_PORT], {"doctor": "shut-in"}),
            )
        return Reached(
            before=True,
            ingress_closed=not ingress[str(CLOSED_PORT)],
            egress_closed=not egress[str(OPEN_PORT)],
            allowed=ingress[str(OPEN_PORT)],
        )

    async def _reach(
        self, namespace: str, host: str, opened: list[int], closed: list[int], labels: dict[str, str]
    ) -> dict[str, bool]:
        arguments = ("reach", host, json.dumps(opened), json.dumps(closed), str(RULES_SECONDS))
        answer: dict[str, bool] = await self._answer(namespace, self._python(*arguments), labels)
        return answer

    async def ask(self, target: Target, models: list[str]) -> Object:
        """Ask a provider from inside of the agents' namespace. Raises ApiError where you may not create pods there."""
        container = self._python("ask", target.url, target.provider, json.dumps(models))
        if target.secret and target.key:
            source = {"secretKeyRef": {"name": target.secret, "key": target.key}}
            container["env"] = [{"name": inside.KEY_VARIABLE, "valueFrom": source}]
        try:
            answer: Object = await self._answer(target.namespace, container, {}, target.pull_secrets)
        except ProbeError as error:
            return {"error": "pod", "detail": str(error)}
        return answer

    async def _answer(
        self, namespace: str, container: Object, labels: dict[str, str], pull_secrets: Sequence[str] = ()
    ) -> Any:
        async with self._pod(namespace, "client", [container], labels, pull_secrets) as name:
            pod = await self._wait(namespace, name, lambda pod: _phase(pod) in ("Succeeded", "Failed") or _stuck(pod))
        ended = (_first_state(pod).get("terminated") or {}).get("message", "")
        try:
            return json.loads(ended)
        except ValueError:
            raise ProbeError(f"the pod gave no answer within {self.seconds:.0f} s: {_why(pod)}") from None

    def _python(self, *arguments: str) -> Object:
        return self._container("doctor", self.image, ["python", "-c", inspect.getsource(inside), *arguments])

    def _container(self, name: str, image: str, command: list[str]) -> Object:
        return {
            "name": name,
            "image": image,
            "imagePullPolicy": self.pull_policy,
            "command": command,
            "securityContext": container_security(),
            "resources": {
                "requests": {"cpu": "10m", "memory": "32Mi"},
                "limits": {"cpu": "500m", "memory": "128Mi"},
            },
        }

    @asynccontextmanager
    async def _pod(
        self,
        namespace: str,
        prefix: str,
        containers: list[Object],
        labels: dict[str, str] | None = None,
        pull_secrets: Sequence[str] = (),
    ) -> AsyncIterator[str]:
        name = self.random_name(f"{DOCTOR}-{prefix}")
        body = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "labels": {MANAGED_BY: DOCTOR, **(labels or {})}},
            "spec": {
                "restartPolicy": "Never",
                "automountServiceAccountToken": False,
                "enableServiceLinks": False,
                "terminationGracePeriodSeconds": 0,
                "activeDeadlineSeconds": LONGEST_SECONDS,
                "securityContext": pod_security(),
                "containers": containers,
                "imagePullSecrets": [{"name": each} for each in pull_secrets],
            },
        }
        try:
            await self.client.post(PODS.path(namespace), body)
            yield name
        finally:
            await self.client.remove(PODS.path(namespace, name), grace_seconds=0)

    async def _wait(self, namespace: str, name: str, check: Callable[[Object], bool]) -> Object:
        """The pod once it passes `check`, or as it is when the time is over."""
        pod: Object = {}
        try:
            async with asyncio.timeout(self.seconds):
                while True:
                    pod = await self.client.read(PODS.path(namespace, name))
                    if check(pod) or _phase(pod) == "Failed":
                        return pod
                    await asyncio.sleep(POLL_SECONDS)
        except TimeoutError:
            return pod


def _policies() -> list[Object]:
    """One closes a port of the server, one closes in whom it selects."""
    allowed = {"ports": [{"protocol": "TCP", "port": OPEN_PORT}]}
    specs: dict[str, Object] = {
        "server": {
            "podSelector": {"matchLabels": {"doctor": "server"}},
            "policyTypes": ["Ingress"],
            "ingress": [allowed],
        },
        "shut-in": {
            "podSelector": {"matchLabels": {"doctor": "shut-in"}},
            "policyTypes": ["Egress"],
            "egress": [],
        },
    }
    return [
        {
            "apiVersion": POLICIES.api_version,
            "kind": POLICIES.name,
            "metadata": {"name": name, "labels": {MANAGED_BY: DOCTOR}},
            "spec": spec,
        }
        for name, spec in specs.items()
    ]


def _phase(pod: Object) -> str:
    return str((pod.get("status") or {}).get("phase", ""))


def _address(pod: Object) -> str:
    return str((pod.get("status") or {}).get("podIP") or "")


def _states(pod: Object) -> list[Object]:
    return [each.get("state") or {} for each in (pod.get("status") or {}).get("containerStatuses") or ()]


def _first_state(pod: Object) -> Object:
    return next(iter(_states(pod)), {})


def _stuck(pod: Object) -> bool:
    """Whether a container waits for what does not come by itself."""
    waiting = (_first_state(pod).get("waiting") or {}).get("reason", "")
    return waiting in _NOT_PULLED or waiting == "CreateContainerConfigError"


def _why(pod: Object) -> str:
    waiting = _first_state(pod).get("waiting") or {}
    conditions = (pod.get("status") or {}).get("conditions") or ()
    unmet: Object = next((each for each in conditions if each.get("status") == "False" and each.get("message")), {})
    parts = [waiting.get("reason") or unmet.get("reason"), waiting.get("message") or unmet.get("message")]
    return ": ".join(str(part) for part in parts if part) or f"it is {_phase(pod) or 'not there'}"


def _all_pulled(pod: Object) -> bool:
    states = _states(pod)
    return bool(states) and all(
        "terminated" in state or "running" in state or _is_decided(state.get("waiting") or {}) for state in states
    )


def _is_decided(waiting: Object) -> bool:
    return waiting.get("reason", "") not in ("", "ContainerCreating", "PodInitializing")


def _pull_problem(status: Object, seconds: float) -> str | None:
    state = status.get("state") or {}
    waiting = state.get("waiting") or {}
    if waiting.get("reason") in _NOT_PULLED:
        return f"{waiting['reason']}: {waiting.get('message', '')}".rstrip(": ")
    if not status or (not _is_decided(waiting) and not status.get("imageID") and "waiting" in state):
        return f"not there within {seconds:.0f} s"
    return None

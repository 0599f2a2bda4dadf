"""The doctor's pods on a cluster that is played: what is made, what is read from it, and that nothing stays."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any, cast

import pytest

from openclaw_operator.cli.doctor.probes import DOCTOR, ProbeError, Probes
from openclaw_operator.cli.doctor.reachable import Image, Reached, Target
from openclaw_operator.cluster.inspector import Inspector
from openclaw_operator.errors import ForbiddenError

NOW = datetime(2026, 1, 1, tzinfo=UTC)
PULLED = {"state": {"terminated": {"exitCode": 0}}, "imageID": "x"}
TARGET = Target("team", "http://llm/v1/models", "openai", "keys", "openai", ("registry",))


@dataclass
class Cluster:
    """Objects by path; `run` is the kubelet: a pod's status, from its command, its labels and whether policies hold."""

    run: Callable[[Cluster, dict[str, Any]], dict[str, Any]]
    enforced: bool = True
    there: dict[str, dict[str, Any]] = field(default_factory=dict)
    made: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    refused: str = ""

    async def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        if self.refused and path.endswith(self.refused):
            raise ForbiddenError(403, "Forbidden", f"{self.refused} is forbidden")
        self.made.append((path, body))
        self.there[f"{path}/{body['metadata']['name']}"] = body
        return body

    async def read(self, path: str, **params: str) -> dict[str, Any]:
        if params:
            return {"items": [item for at, item in self.there.items() if at.rpartition("/")[0].endswith(path[-5:])]}
        pod = self.there[path]
        return {**pod, "status": self.run(self, pod)}

    async def remove(self, path: str, *, grace_seconds: int | None = None) -> None:  # noqa: ARG002
        inside = path.removeprefix("/api/v1") + "/" if path.count("/") == 4 else path + "/"
        self.there = {at: item for at, item in self.there.items() if at != path and inside not in at}

    @property
    def policies(self) -> int:
        return sum("networkpolicies" in at for at in self.there)


def kubelet(cluster: Cluster, pod: dict[str, Any]) -> dict[str, Any]:
    arguments = pod["spec"]["containers"][0]["command"][3:]
    labels = pod["metadata"]["labels"]
    if arguments[0] == "serve":
        return {"phase": "Running", "podIP": "10.0.0.1"}
    holds = cluster.enforced and cluster.policies == 2
    shut_in = labels.get("doctor") == "shut-in"
    reached = {8080: not holds, 8081: not (holds and shut_in)}
    answer = {str(port): reached[port] for port in (*json.loads(arguments[2]), *json.loads(arguments[3]))}
    return ended(json.dumps(answer))


def ended(message: str) -> dict[str, Any]:
    state = {"terminated": {"exitCode": 0, "message": message}}
    return {"phase": "Succeeded", "containerStatuses": [{"name": "doctor", "state": state}]}


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    return {"phase": "Pending", "containerStatuses": [_waiting("doctor", reason, message)]}


def _waiting(name: str, reason: str, message: str = "") -> dict[str, Any]:
    return {"name": name, "state": {"waiting": {"reason": reason, "message": message}}}


def probes(cluster: Cluster, seconds: float = 60) -> Probes:
    numbers = count()
    return Probes(cast("Inspector", cluster), "runtime:1", "Never", seconds, lambda prefix: f"{prefix}-{next(numbers)}")


@pytest.mark.parametrize(
    ("enforced", "expected"),
    [(True, Reached(True, True, True, True)), (False, Reached(True, False, False, True))],
)
async def test_policies_that_hold_and_such_as_do_not(enforced: bool, expected: Reached) -> None:
    cluster = Cluster(kubelet, enforced=enforced)
    made = probes(cluster)
    async with made.namespace(NOW) as namespace:
        assert await made.network(namespace) == expected
    assert cluster.there == {}


async def test_every_pod_is_restricted_and_ends_by_itself() -> None:
    cluster = Cluster(kubelet)
    made = probes(cluster)
    async with made.namespace(NOW) as namespace:
        await made.network(namespace)
    pods = [body["spec"] for path, body in cluster.made if path.endswith("/pods")]
    assert len(pods) == 4
    for spec in pods:
        assert spec["activeDeadlineSeconds"] > 0
        assert spec["automountServiceAccountToken"] is False
        assert spec["securityContext"]["runAsNonRoot"] is True
        for container in spec["containers"]:
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}


async def test_a_pod_that_does_not_start_says_why() -> None:
    cluster = Cluster(lambda _cluster, _pod: waiting("ImagePullBackOff", "no such image"))
    made = probes(cluster, seconds=0.05)
    async with made.namespace(NOW) as namespace:
        with pytest.raises(ProbeError, match="ImagePullBackOff: no such image"):
            await made.network(namespace)
    assert cluster.there == {}


async def test_images_are_told_apart() -> None:
    def run(_cluster: Cluster, _pod: dict[str, Any]) -> dict[str, Any]:
        statuses = [
            {"name": "image-0", **PULLED},
            _waiting("image-1", "ErrImagePull", "not found"),
            # It is there: it only has no such program.
            {**_waiting("image-2", "RunContainerError"), "imageID": "x"},
            _waiting("image-3", "ContainerCreating"),
        ]
        return {"phase": "Pending", "containerStatuses": statuses}

    cluster = Cluster(run)
    assert await probes(cluster, seconds=0.05).images("there", ["a", "b", "c", "d"]) == [
        Image("a"),
        Image("b", "ErrImagePull: not found"),
        Image("c"),
        Image("d", "not there within 0 s"),
    ]
    assert cluster.there == {}


async def test_a_provider_is_asked_in_the_agents_namespace_and_the_key_stays_there() -> None:
    cluster = Cluster(lambda _cluster, _pod: ended('{"status": 200, "missing": []}'))
    assert await probes(cluster).ask(TARGET, ["m"]) == {"status": 200, "missing": []}
    ((path, pod),) = cluster.made
    assert path == "/api/v1/namespaces/team/pods"
    assert pod["spec"]["imagePullSecrets"] == [{"name": "registry"}]
    (container,) = pod["spec"]["containers"]
    assert container["env"] == [
        {"name": "DOCTOR_KEY", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "openai"}}},
    ]
    assert cluster.there == {}


async def test_a_secret_that_is_not_there_is_named() -> None:
    cluster = Cluster(lambda _cluster, _pod: waiting("CreateContainerConfigError", 'secret "keys" not found'))
    answer = await probes(cluster).ask(TARGET, [])
    assert answer["error"] == "pod"
    assert 'secret "keys" not found' in answer["detail"]
    assert cluster.there == {}


async def test_nothing_stays_when_somebody_gives_up() -> None:
    cluster = Cluster(kubelet)
    made = probes(cluster)
    with pytest.raises(RuntimeError):
        async with made.namespace(NOW):
            raise RuntimeError
    assert cluster.there == {}
    cluster.refused = "/namespaces"
    with pytest.raises(ForbiddenError):
        async with made.namespace(NOW):
            pass


async def test_what_a_killed_doctor_left_behind_goes() -> None:
    cluster = Cluster(kubelet)
    for name, age in (("old", timedelta(hours=1)), ("other", timedelta(seconds=30))):
        meta = {"name": name, "creationTimestamp": (NOW - age).isoformat()}
        cluster.there[f"/api/v1/namespaces/{name}"] = {"metadata": meta}
    async with probes(cluster).namespace(NOW) as namespace:
        assert namespace.startswith(DOCTOR)
        assert set(cluster.there) == {"/api/v1/namespaces/other", f"/api/v1/namespaces/{namespace}"}

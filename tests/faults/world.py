"""What the operator is asked to run in fault tests, and the state it must end in whatever happens."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import time
from collections.abc import Iterable, Mapping
from typing import Any

from openclaw_operator.cluster.kinds import CHILDREN
from openclaw_operator.resources.activator import COMPONENT
from openclaw_operator.resources.meta import ACTIVATOR_NAME
from tests.bench.api import Api, Object, StatusError, collection_of, path_of, resource_path
from tests.bench.observer import reported

NAMESPACE = "faults"
GROUP = "openclaw.io/v1alpha1"
PRIMARIES = {"Agent": "agents", "Skill": "skills", "MemoryStore": "memorystores", "MemoryRestore": "memoryrestores"}
_OF_THE_SERVER = ("uid", "resourceVersion", "generation", "creationTimestamp", "managedFields", "selfLink")
_ASSIGNED = ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy")
# The hash covers the uid of the owner, which is new in each run.
_APPLIED_HASH = "openclaw.io/applied-hash"
_NAME_LABEL = "app.kubernetes.io/name"
# Names a generated key.
_SIGNING_KEY = "openclaw.io/signing-key"
_LOCAL_MODEL = {"provider": "local", "name": "stand-in", "baseURL": "http://llm.invalid:8000/v1"}
_LOUDER = "async def shout(ctx, input):\n    return input['text'].upper() + '!'\n"


def _object(kind: str, name: str, **body: Any) -> Object:
    version = "v1" if kind in {"Secret", "ConfigMap"} else GROUP
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": NAMESPACE}, **body}


def user_objects() -> list[Object]:
    """What a user brings along: a provider key, a soul, a place for backups."""
    return [
        _object("Secret", "provider", stringData={"key": "not-a-key"}),
        _object("ConfigMap", "souls", data={"coordinator": "You hand work on to the one who does it best."}),
    ]


def resources() -> list[Object]:
    """One of each kind, with every feature that has a child of its own."""
    agents = [coordinator(), expert(), scaled(), sleeper()]
    return [memory_store(), skill(), networked_skill(), *agents, *restored_store()]


def restored_store() -> list[Object]:
    """A store nobody uses and a restore of it, which gets as far as its Job: no pod runs here."""
    spec = {
        "vector": {"qdrant": {"external": {"url": "http://qdrant.invalid:6333"}}},
        "records": {"postgresql": {"external": {"url": "postgresql://me@db.invalid/x"}}},
        "cache": {"redis": {"external": {"url": "redis://cache.invalid:6379/0"}}},
    }
    source = {"destination": {"s3": {"bucket": "backups"}}}
    return [
        _object("MemoryStore", "archive", spec=spec | {"backup": source, "deletionPolicy": "Snapshot"}),
        _object("MemoryRestore", "back", spec={"storeRef": {"name": "archive"}, "source": source}),
    ]


def memory_store() -> Object:
    backup = {"schedule": "0 2 * * *", "destination": {"pvc": {"claimName": "backups"}}, "drill": {}}
    return _object("MemoryStore", "memory", spec={"backup": backup})


def skill() -> Object:
    source = "async def shout(ctx, input):\n    return input['text'].upper()\n"
    return _object(
        "Skill",
        "shouting",
        spec={
            "version": "1.0.0",
            "description": "Says it louder.",
            "source": {"inline": {"files": {"SKILL.md": "# Shouting\n", "scripts/main.py": source}}},
            "actions": [{"name": "shout", "description": "Say it louder."}],
            "permissions": ["filesystem:read"],
        },
    )


def networked_skill() -> Object:
    """In a pool of its own, whose way out is the egress proxy."""
    item = skill()
    item["metadata"]["name"] = "asking"
    item["spec"] |= {"permissions": ["network:external"], "allowedDomains": ["example.org"]}
    return item


def coordinator() -> Object:
    return _object(
        "Agent",
        "coordinator",
        spec={
            "role": "coordinator",
            "soul": {"configMapKeyRef": {"name": "souls", "key": "coordinator"}},
            "model": {
                "provider": "openai",
                "name": "gpt-4o-mini",
                "credentials": {"secretKeyRef": {"name": "provider", "key": "key"}},
            },
            "memory": {"storeRef": {"name": "memory"}},
            "gateway": {"autoscaling": {"minReplicas": 2, "maxReplicas": 4}},
            "team": {"members": [{"name": "expert"}]},
        },
    )


def expert() -> Object:
    return _object(
        "Agent",
        "expert",
        spec={
            "role": "code_expert",
            "model": _LOCAL_MODEL,
            "skills": [{"name": "shouting", "version": "^1.0.0"}, {"name": "asking"}],
            "gateway": {
                "ingress": {"host": "expert.example.org"},
                "httpRoute": {"parentRefs": [{"name": "edge"}], "hostnames": ["expert.example.org"]},
            },
            "observability": {"serviceMonitor": {"labels": {"release": "prometheus"}}},
        },
    )


def scaled() -> Object:
    return _object(
        "Agent",
        "scaled",
        spec={
            "model": _LOCAL_MODEL,
            "memory": {"storeRef": {"name": "memory"}},
            "gateway": {"autoscaling": {"scaler": "KEDA"}},
        },
    )


def sleeper() -> Object:
    """Woken by the namespace's activator. It stays as it is in a test: it sleeps after a day, and no gateway runs."""
    return _object(
        "Agent",
        "sleeper",
        spec={
            "model": _LOCAL_MODEL,
            "gateway": {"hibernation": {"idleSeconds": 86_400}},
        },
    )


def edited() -> list[Object]:
    """What the resources become: features switched off, a skill deleted, another one's source changed."""
    changes: dict[str, Object] = {
        "memory": {"backup": None},
        "shouting": {"source": {"inline": {"files": {"SKILL.md": "# Shouting\n", "scripts/main.py": _LOUDER}}}},
        "coordinator": {"gateway": None, "team": None},
        "expert": {"skills": [{"name": "shouting"}], "gateway": None, "observability": None},
        "scaled": {"suspend": True},
        "sleeper": {"gateway": None},
    }
    result = []
    for item in resources():
        name = item["metadata"]["name"]
        spec = {**item["spec"], **changes.get(name, {})}
        if name != "asking":
            result.append({**item, "spec": {key: value for key, value in spec.items() if value is not None}})
    return result


async def put(api: Api, item: Object, spec: Mapping[str, Any] | None, seconds: float) -> None:
    """As kubectl edit, delete (None) or create would; the operator may write meanwhile, or hold what is to go.

    Raises StatusError where it is refused, AssertionError where it is not possible for so long.
    """
    path = path_of(item)
    if spec is None:
        if await api.find(path) is not None:
            await api.delete(path)
        return
    until = time.monotonic() + seconds
    while True:
        live = await api.find(path)
        try:
            if live is None:
                await api.create(collection_of(item), {**item, "spec": spec})
                return
            if "deletionTimestamp" not in live["metadata"]:
                await api.replace(path, {**live, "spec": spec})
                return
            if live["spec"].get("deletionPolicy") == "Snapshot":
                # Nothing runs here that could make the last backup; who does without it says so. Not by Delete, which
                # waits for the controller of StatefulSets to note on claims that they go too.
                await api.merge(path, {"spec": {"deletionPolicy": "Retain"}})
        except StatusError as error:
            if error.code not in {404, 409}:
                raise
        assert time.monotonic() < until, f"{path} is still there, or changes all the time"
        await asyncio.sleep(0.01)


async def change(api: Api, items: Iterable[Object], seconds: float) -> None:
    """Bring the resources of users to these, one after the other: what is not among them is deleted."""
    wanted = {path_of(item): item["spec"] for item in items}
    for item in resources():
        if item["kind"] != "MemoryRestore":
            await put(api, item, wanted.get(path_of(item)), seconds)


async def create(api: Api, items: Iterable[Object]) -> None:
    for item in items:
        await api.create(collection_of(item), item)


def _collections(namespace: str) -> dict[str, str]:
    """Kind → path of the collection, of everything the operator reads as its own or writes."""
    children = {kind.name: resource_path(kind.api_version, kind.plural, namespace) for kind in CHILDREN}
    return {**{kind: resource_path(GROUP, plural, namespace) for kind, plural in PRIMARIES.items()}, **children}


async def clear(api: Api, namespace: str = NAMESPACE) -> None:
    """Delete everything of the namespace. The operator must not run: it would put things back."""
    for path in [*_collections(namespace).values(), resource_path("v1", "resourcequotas", namespace)]:
        await api.request("DELETE", path, propagationPolicy="Background", gracePeriodSeconds="0")
    for _, path, item in await everything(api, namespace):
        # Where no controller runs nothing else removes finalizers.
        if item["metadata"].get("finalizers"):
            await api.merge(path, {"metadata": {"finalizers": None}})


async def everything(api: Api, namespace: str = NAMESPACE) -> list[tuple[str, str, Object]]:
    """(kind, path, object) of all that the operator reads as its own or writes."""
    return [
        (kind, f"{path}/{item['metadata']['name']}", item)
        for kind, path in _collections(namespace).items()
        for item in await api.items(path)
    ]


async def collect_garbage(api: Api, namespace: str = NAMESPACE) -> int:
    """What the garbage collector of a controller manager does: objects whose owner is gone go too. Says how many.

    Who was made anew before it comes has had its children from before.
    """
    found = await everything(api, namespace)
    alive = {item["metadata"]["uid"] for _, _, item in found}
    orphans = [
        (path, item)
        for _, path, item in found
        if (owners := item["metadata"].get("ownerReferences")) and alive.isdisjoint(each["uid"] for each in owners)
    ]
    for path, item in orphans:
        try:
            if item["metadata"].get("finalizers"):
                # Of a volume claim or a Job, and their controllers do not run here either.
                await api.merge(path, {"metadata": {"finalizers": None}})
            await api.delete(path)
        except StatusError as error:
            # Gone already, with its last finalizer or by the operator.
            if error.code != 404:
                raise
    return len(orphans)


async def held_back(api: Api, namespace: str = NAMESPACE) -> list[str]:
    """Paths of the gateway Deployments whose messages the activator holds until one of their pods is ready."""
    services = resource_path("v1", "services", namespace)
    deployments = resource_path("apps/v1", "deployments", namespace)
    held = {
        item["metadata"]["name"]
        for item in await api.items(services)
        if (item["spec"].get("selector") or {}).get(_NAME_LABEL) == COMPONENT
    }
    return [
        f"{deployments}/{item['metadata']['name']}"
        for item in await api.items(deployments)
        if item["metadata"]["name"] in held - {ACTIVATOR_NAME} and item["spec"]["replicas"]
    ]


async def say_ready(api: Api, deployment: str, pods: int) -> None:
    """Say of a Deployment that so many of its pods are ready, as its controller would."""
    counts = {"replicas": pods, "updatedReplicas": pods, "readyReplicas": pods, "availableReplicas": pods}
    await api.merge(f"{deployment}/status", {"status": counts})


async def all_reported(api: Api, namespace: str = NAMESPACE) -> bool:
    """Whether each resource has a status about its current generation."""
    for plural in PRIMARIES.values():
        if not all(map(reported, await api.items(resource_path(GROUP, plural, namespace)))):
            return False
    return True


async def snapshot(api: Api, namespace: str = NAMESPACE) -> dict[str, Any]:
    """Everything in the namespace that the operator answers for, without what differs from run to run.

    `{"Kind/name": object}`. Generated secrets become their length, and wherever their values appear, their name;
    random parts of pod names are numbered.
    """
    found: dict[str, Any] = {}
    secrets: dict[str, str] = {}
    for kind, _, item in await everything(api, namespace):
        if kind == "Secret":
            secrets.update(_values(item))
        found[f"{kind}/{item['metadata']['name']}"] = normalised(kind, item)
    found = _without_older_packages(found)
    for key, item in found.items():
        # Theirs alone: what an autoscaler left behind depends on when it looked.
        scalers = (key.replace("Deployment", kind) for kind in ("HorizontalPodAutoscaler", "ScaledObject"))
        if key.startswith("Deployment/") and any(scaler in found for scaler in scalers):
            item["spec"] = {name: value for name, value in item["spec"].items() if name != "replicas"}
    text = json.dumps(_number_pods(found), sort_keys=True)
    for value, name in secrets.items():
        text = text.replace(json.dumps(value)[1:-1], f"<{name}>")
    result: dict[str, Any] = json.loads(text)
    return result


def _without_older_packages(found: Mapping[str, Any]) -> dict[str, Any]:
    """The package before the current one stays for gateways that have not loaded the new one yet: one per Skill."""
    skills = [item for key, item in found.items() if key.startswith("Skill/")]
    current = {f"ConfigMap/{item.get('status', {}).get('packageConfigMap')}" for item in skills}
    packages = {
        key for key, item in found.items() if item["metadata"].get("labels", {}).get(_NAME_LABEL) == "skill-package"
    }
    older = packages - current
    if len(older) > len(skills):
        return dict(found)
    return {key: item for key, item in found.items() if key not in older}


def _values(secret: Object) -> dict[str, str]:
    """Value (in base64 and plain, where it is text) → name, of one Secret."""
    names: dict[str, str] = {}
    for key, encoded in (secret.get("data") or {}).items():
        name = f"{secret['metadata']['name']}/{key}"
        names[encoded] = name
        plain = base64.b64decode(encoded)
        if plain.isascii():
            names[plain.decode()] = name
    return names


def _number_pods(found: Mapping[str, Any]) -> dict[str, Any]:
    counts: dict[str, int] = {}
    numbered: dict[str, Any] = {}
    for key, item in found.items():
        match = re.fullmatch(r"Pod/(sandbox-[0-9a-f]+)-\w+", key)
        if match is None:
            numbered[key] = item
            continue
        counts[match[1]] = number = counts.get(match[1], 0) + 1
        numbered[f"Pod/{match[1]}-{number}"] = json.loads(json.dumps(item).replace(key.removeprefix("Pod/"), match[1]))
    return numbered


def normalised(kind: str, item: Object) -> Object:
    """One object without the API server's bookkeeping."""
    if kind == "Job":
        # Its selector and the labels of its pods name it.
        item = json.loads(json.dumps(item).replace(item["metadata"]["uid"], "<uid>"))
    metadata = {key: value for key, value in item["metadata"].items() if key not in _OF_THE_SERVER}
    metadata["ownerReferences"] = [
        {key: value for key, value in owner.items() if key != "uid"} for owner in metadata.get("ownerReferences", [])
    ]
    if _APPLIED_HASH in metadata.get("annotations", {}):
        metadata["annotations"] = {**metadata["annotations"], _APPLIED_HASH: "<hash>"}
    if _SIGNING_KEY in metadata.get("labels", {}):
        metadata["labels"] = {**metadata["labels"], _SIGNING_KEY: "<key>"}
    result = {key: value for key, value in item.items() if key not in {"metadata", "apiVersion", "kind"}}
    result["metadata"] = metadata
    if "deletionTimestamp" in metadata:
        metadata["deletionTimestamp"] = "<time>"
    if kind == "Secret":
        result["data"] = {key: len(base64.b64decode(value)) for key, value in (item.get("data") or {}).items()}
    if kind == "Service":
        result["spec"] = {key: value for key, value in item["spec"].items() if key not in _ASSIGNED}
    if "status" in item:
        result["status"] = _status(item["status"])
    return result


def _status(status: Object) -> Object:
    kept = {key: value for key, value in status.items() if key not in ("observedGeneration", "startedAt", "jobUID")}
    if "conditions" in kept:
        kept["conditions"] = [
            {key: value for key, value in condition.items() if key not in {"lastTransitionTime", "observedGeneration"}}
            for condition in kept["conditions"]
        ]
    return kept


def difference(expected: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """One line per thing that differs: what is missing, what is too much, and which field has which value."""
    lines = [f"missing: {key}" for key in sorted(expected.keys() - found.keys())]
    lines += [f"too much: {key}" for key in sorted(found.keys() - expected.keys())]
    for key in sorted(expected.keys() & found.keys()):
        lines += [f"{key}{line}" for line in _differences(expected[key], found[key])]
    return lines


def _differences(expected: Any, found: Any, path: str = "") -> list[str]:
    if isinstance(expected, dict) and isinstance(found, dict):
        return [
            line
            for key in sorted(expected.keys() | found.keys())
            for line in _differences(expected.get(key), found.get(key), f"{path}.{key}")
        ]
    if isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        return [
            line
            for index, (left, right) in enumerate(zip(expected, found, strict=True))
            for line in _differences(left, right, f"{path}[{index}]")
        ]
    return [] if expected == found else [f"{path}: expected {expected!r}, found {found!r}"]

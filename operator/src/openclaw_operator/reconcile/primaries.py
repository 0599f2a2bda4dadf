"""Agents, Skills, MemoryStores and MemoryRestores as last seen, and which of them use which."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from openclaw_operator.reconcile.status import readiness

Object = dict[str, Any]
# Phases of a MemoryRestore in which nobody else may use the store.
HOLDING = frozenset({"Pausing", "Restoring"})
Key = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Primary:
    """A resource of ours; spec, labels and status are kept as JSON, a third of the size of parsed objects."""

    kind: str
    namespace: str
    name: str
    uid: str
    resource_version: str
    generation: int
    deleting: bool
    # True, False, Unknown or Suspended.
    ready: str
    content: bytes
    finalizers: tuple[str, ...] = ()

    @property
    def key(self) -> Key:
        """kind, namespace, name."""
        return (self.kind, self.namespace, self.name)

    def load(self) -> Object:
        """{spec, status, labels}, each possibly empty."""
        result: Object = orjson.loads(self.content)
        return result


def condense(kind: str, item: Object) -> Primary:
    """A resource as the API server tells it."""
    meta = item["metadata"]
    content = {
        "spec": item.get("spec") or {},
        "status": item.get("status") or {},
        "labels": dict(meta.get("labels") or {}),
    }
    return Primary(
        kind=kind,
        namespace=meta["namespace"],
        name=meta["name"],
        uid=meta["uid"],
        resource_version=meta["resourceVersion"],
        generation=meta.get("generation", 0),
        deleting="deletionTimestamp" in meta,
        ready=readiness(content["status"]),
        content=orjson.dumps(content, option=orjson.OPT_SORT_KEYS),
        finalizers=tuple(meta.get("finalizers") or ()),
    )


class PrimaryStore:
    """Resources by key, with an index from what is used to who uses it."""

    def __init__(self) -> None:
        self._items: dict[Key, Primary] = {}
        self._users: defaultdict[Key, set[str]] = defaultdict(set)
        self._uses: dict[Key, frozenset[Key]] = {}
        self._coordinators: defaultdict[str, set[str]] = defaultdict(set)
        self._hibernating: defaultdict[str, set[str]] = defaultdict(set)
        self._agents: defaultdict[str, set[str]] = defaultdict(set)
        # MemoryRestores that hold agents back → the MemoryStore of their namespace that they restore.
        self._restoring: dict[Key, str] = {}
        # At which resource version what is gone was deleted, until a list has shown that nobody remembers it.
        self._deleted: dict[Key, int] = {}

    def get(self, key: Key) -> Primary | None:
        """A resource by key."""
        return self._items.get(key)

    def __iter__(self) -> Iterator[Primary]:
        return iter(list(self._items.values()))

    def users(self, key: Key) -> list[str]:
        """Names of the agents that use a Skill or MemoryStore of their namespace."""
        return sorted(self._users.get(key, ()))

    def coordinators(self, namespace: str) -> list[str]:
        """Names of the agents with a team."""
        return sorted(self._coordinators.get(namespace, ()))

    def hibernating(self, namespace: str) -> list[str]:
        """Names of the agents of a namespace that go to sleep while they are idle."""
        return sorted(self._hibernating.get(namespace, ()))

    def hibernates(self, key: Key) -> bool:
        """Whether this is an agent that goes to sleep while it is idle."""
        return key[0] == "Agent" and key[2] in self._hibernating.get(key[1], ())

    def agents(self, namespace: str) -> list[str]:
        """Names of the agents of a namespace."""
        return sorted(self._agents.get(namespace, ()))

    def restoring(self, namespace: str, store: str) -> str | None:
        """The name of the MemoryRestore for which the agents of a MemoryStore stand still, if there is one."""
        found = (key[2] for key, name in self._restoring.items() if (key[1], name) == (namespace, store))
        return min(found, default=None)

    def begin_restore(self, key: Key, store: str) -> None:
        """A MemoryRestore begins, and its status is about to say so."""
        self._restoring[key] = store

    def forget_restore(self, key: Key) -> bool:
        """A MemoryRestore does not begin after all. Returns whether it seemed to."""
        return self._restoring.pop(key, None) is not None

    def put(self, primary: Primary) -> Primary | None:
        """Remember a resource; returns what was known of it, None when it is new. Old news is ignored."""
        before = self._items.get(primary.key)
        version = int(primary.resource_version)
        if version <= (int(before.resource_version) if before else self._deleted.get(primary.key, -1)):
            return before
        self._items[primary.key] = primary
        if primary.kind == "Agent" and (before is None or before.content != primary.content):
            self._index(primary)
        if primary.kind == "MemoryRestore":
            content = primary.load()
            if content["status"].get("phase") in HOLDING:
                self._restoring[primary.key] = content["spec"]["storeRef"]["name"]
            else:
                self._restoring.pop(primary.key, None)
        return before

    def remove(self, key: Key, version: str) -> Primary | None:
        """Forget a resource that was deleted at resource version `version`; returns what was known of it.

        One made since under the same name stays.
        """
        before = self._items.get(key)
        if before and int(before.resource_version) > int(version):
            return None
        self._items.pop(key, None)
        self._deleted[key] = int(version)
        self._restoring.pop(key, None)
        if before and before.kind == "Agent":
            self._set_uses(before, frozenset())
            self._coordinators[before.namespace].discard(before.name)
            self._hibernating[before.namespace].discard(before.name)
            self._agents[before.namespace].discard(before.name)
        return before

    def missing(self, kind: str, namespace: str | None, present: set[Key], version: str) -> list[Key]:
        """What a complete list of `version` should have held and did not; what was made since is not missed."""
        at = int(version)
        listed = [key for key in self._deleted if key[0] == kind and namespace in (None, key[1])]
        for key in listed:
            if self._deleted[key] <= at:
                del self._deleted[key]
        return [
            item.key
            for item in self
            if item.kind == kind
            and namespace in (None, item.namespace)
            and item.key not in present
            and int(item.resource_version) <= at
        ]

    def uses(self, key: Key) -> frozenset[Key]:
        """The Skills and MemoryStore an agent names."""
        return self._uses.get(key, frozenset())

    def _index(self, agent: Primary) -> None:
        spec = agent.load()["spec"]
        used = {("Skill", agent.namespace, skill["name"]) for skill in spec.get("skills") or ()}
        store = (spec.get("memory") or {}).get("storeRef")
        if store:
            used.add(("MemoryStore", agent.namespace, store["name"]))
        self._set_uses(agent, frozenset(used))
        self._agents[agent.namespace].add(agent.name)
        if spec.get("team"):
            self._coordinators[agent.namespace].add(agent.name)
        else:
            self._coordinators[agent.namespace].discard(agent.name)
        if (spec.get("gateway") or {}).get("hibernation") is not None and not spec.get("suspend"):
            self._hibernating[agent.namespace].add(agent.name)
        else:
            self._hibernating[agent.namespace].discard(agent.name)

    def _set_uses(self, agent: Primary, used: frozenset[Key]) -> None:
        for key in self._uses.pop(agent.key, frozenset()) - used:
            self._users[key].discard(agent.name)
        for key in used:
            self._users[key].add(agent.name)
        if used:
            self._uses[agent.key] = used

"""The children as the watches tell them, and who is to be told about changes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable

from openclaw_operator.cluster.client import Object
from openclaw_operator.cluster.kinds import Kind
from openclaw_operator.cluster.live import Live, newer, observe

Key = tuple[str, str, str]


class ChildStore:
    """Every managed child. `on_change(before, after)` is called for each change; None means absent."""

    def __init__(self, on_change: Callable[[Live | None, Live | None], None]) -> None:
        self._on_change = on_change
        self._items: dict[Key, Live] = {}
        self._by_owner: defaultdict[str, set[Key]] = defaultdict(set)

    def get(self, kind: str, namespace: str, name: str) -> Live | None:
        """A child by name."""
        return self._items.get((kind, namespace, name))

    def owned_by(self, uid: str) -> list[Live]:
        """The children whose controller has that uid."""
        return [self._items[key] for key in sorted(self._by_owner.get(uid, ()))]

    def of_kind(self, kind: str, namespace: str) -> Iterable[Live]:
        """The children of one kind in a namespace."""
        return [live for key, live in self._items.items() if key[0] == kind and key[1] == namespace]

    def all_of_kind(self, kind: str) -> Iterable[Live]:
        """The children of one kind in all namespaces."""
        return [live for key, live in self._items.items() if key[0] == kind]

    def observe(self, kind: Kind, item: Object) -> Live:
        """Take note of an object that a request returned; nobody is woken for what the operator did itself."""
        return self._put(observe(kind, item))[1]

    def condense(self, kind: Kind, item: Object) -> Live:
        """An object that is not to be remembered."""
        return observe(kind, item)

    # --- Sink of the reflectors ---
    def changed(self, kind: Kind, item: Object) -> None:
        """An object was added or modified."""
        meta = item["metadata"]
        known = self._items.get((kind.name, meta["namespace"], meta["name"]))
        if known and known.uid == meta["uid"] and known.resource_version == meta["resourceVersion"]:
            return
        before, after = self._put(observe(kind, item))
        if after is not before:
            self._on_change(before, after)

    def removed(self, kind: Kind, namespace: str, name: str) -> None:
        """An object is gone, or has lost the label that marks it as managed."""
        before = self._items.pop((kind.name, namespace, name), None)
        if before:
            self._forget_owner(before)
            self._on_change(before, None)

    def listed(self, kind: Kind, namespace: str | None, present: set[tuple[str, str]]) -> None:
        """A list is complete: drop what it did not hold."""
        gone = [
            key
            for key in self._items
            if key[0] == kind.name and namespace in (None, key[1]) and (key[1], key[2]) not in present
        ]
        for _, key_namespace, name in gone:
            self.removed(kind, key_namespace, name)

    def _put(self, live: Live) -> tuple[Live | None, Live]:
        key = (live.kind, live.namespace, live.name)
        before = self._items.get(key)
        if before and before.uid == live.uid:
            if not newer(live.resource_version, before.resource_version):
                return before, before
            if before.fingerprint == live.fingerprint and before.verified:
                live.verified, live.content = before.verified, None
        if before:
            self._forget_owner(before)
        self._items[key] = live
        if live.owner:
            self._by_owner[live.owner.uid].add(key)
        return before, live

    def _forget_owner(self, live: Live) -> None:
        if live.owner:
            keys = self._by_owner[live.owner.uid]
            keys.discard((live.kind, live.namespace, live.name))
            if not keys:
                del self._by_owner[live.owner.uid]

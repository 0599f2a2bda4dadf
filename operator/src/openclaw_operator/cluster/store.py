"""The children as the watches tell them, and who is to be told about changes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from openclaw_operator.cluster.client import Object
from openclaw_operator.cluster.kinds import BY_NAME, Kind
from openclaw_operator.cluster.live import Live, newer, observe

Key = tuple[str, str, str]


class ChildStore:
    """Every managed child. `on_change(before, after)` is called for each change; None means absent."""

    def __init__(self, on_change: Callable[[Live | None, Live | None], None]) -> None:
        self._on_change = on_change
        self._items: dict[Key, Live] = {}
        self._by_owner: defaultdict[str, set[Key]] = defaultdict(set)
        # Kind and namespace → names in the order they came: each event of a pod asks for the pods of its namespace.
        self._by_place: defaultdict[tuple[str, str], dict[str, None]] = defaultdict(dict)
        # How far the watches have told the story of a kind in a namespace.
        self._told: dict[tuple[str, str], str] = {}
        # Kinds of add-ons that the API server serves.
        self.served: set[str] = set()
        # Names that somebody else's object was found under: it is looked at before a write is tried again.
        self.taken: set[Key] = set()
        # Hash of the desired object that a request under way applies.
        self._applying: dict[Key, str] = {}

    def serves(self, kind: str) -> bool:
        """Whether the API server knows a kind of child."""
        return BY_NAME[kind].from_addon is None or kind in self.served

    def get(self, kind: str, namespace: str, name: str) -> Live | None:
        """A child by name."""
        return self._items.get((kind, namespace, name))

    def owned_by(self, uid: str) -> list[Live]:
        """The children whose controller has that uid."""
        return [self._items[key] for key in sorted(self._by_owner.get(uid, ()))]

    def of_kind(self, kind: str, namespace: str) -> Iterable[Live]:
        """The children of one kind in a namespace."""
        return [self._items[kind, namespace, name] for name in self._by_place.get((kind, namespace), ())]

    def all_of_kind(self, kind: str) -> list[Live]:
        """The children of one kind in all namespaces."""
        return [live for key, live in self._items.items() if key[0] == kind]

    def observe(self, kind: Kind, item: Object) -> Live:
        """Take note of an object that a request returned; nobody is woken for what the operator did itself.

        An answer may come in after the watch has told that the object was deleted: what the watch has passed is old.
        """
        live = observe(kind, item)
        if (live.kind, live.namespace, live.name) not in self._items and not self._is_news(live):
            return live
        return self._put(live)[1]

    def condense(self, kind: Kind, item: Object) -> Live:
        """An object that is not to be remembered."""
        return observe(kind, item)

    @contextmanager
    def applying(self, kind: str, namespace: str, name: str, applied_hash: str) -> Iterator[None]:
        """While a request applies an object: the watch may tell of it before the answer, and nobody is woken for that.

        Whoever applies looks at the object afterwards. One that could not be applied is tried again by him.
        """
        self._applying[kind, namespace, name] = applied_hash
        try:
            yield
        finally:
            self._applying.pop((kind, namespace, name), None)

    def news(self, live: Live) -> None:
        """An object went on after it was applied: those it concerns must look at it again."""
        self._on_change(live, live)

    # --- Sink of the reflectors ---
    def changed(self, kind: Kind, item: Object) -> None:
        """An object was added or modified."""
        meta = item["metadata"]
        self._tell(kind.name, meta["namespace"], meta["resourceVersion"])
        known = self._items.get((kind.name, meta["namespace"], meta["name"]))
        if known and known.uid == meta["uid"] and known.resource_version == meta["resourceVersion"]:
            return
        before, after = self._put(observe(kind, item))
        if after is before or (before and before.tells_the_same(after)):
            return
        if after.applied_hash and self._applying.get((after.kind, after.namespace, after.name)) == after.applied_hash:
            return
        after.pack()
        self._on_change(before, after)

    def removed(self, kind: Kind, namespace: str, name: str, version: str) -> None:
        """An object is gone since `version`, or has lost the label that marks it as managed."""
        self._tell(kind.name, namespace, version)
        key = (kind.name, namespace, name)
        before = self._items.get(key)
        if before and not newer(before.resource_version, version):
            del self._items[key]
            self._forget_place(key)
            self._forget_owner(before)
            self._on_change(before, None)

    def listed(self, kind: Kind, namespace: str | None, present: set[tuple[str, str]], version: str) -> None:
        """A list of `version` is complete: drop what it did not hold, unless it was made since."""
        gone = [
            key
            for key in self._items
            if key[0] == kind.name and namespace in (None, key[1]) and (key[1], key[2]) not in present
        ]
        for _, key_namespace, name in gone:
            self.removed(kind, key_namespace, name, version)

    def kind_gone(self, kind: Kind) -> None:
        """The API server serves a kind no more: what there was of it is gone."""
        for live in self.all_of_kind(kind.name):
            self.removed(kind, live.namespace, live.name, live.resource_version)

    def _put(self, live: Live) -> tuple[Live | None, Live]:
        key = (live.kind, live.namespace, live.name)
        before = self._items.get(key)
        if before:
            if not newer(live.resource_version, before.resource_version):
                return before, before
            if before.uid == live.uid and before.fingerprint == live.fingerprint and before.verified:
                live.verified, live.content = before.verified, None
            self._forget_owner(before)
        self._items[key] = live
        self._by_place[live.kind, live.namespace][live.name] = None
        if live.owner:
            self._by_owner[live.owner.uid].add(key)
        return before, live

    def _is_news(self, live: Live) -> bool:
        told = self._told.get((live.kind, live.namespace))
        return told is None or newer(live.resource_version, told)

    def _tell(self, kind: str, namespace: str, version: str) -> None:
        told = self._told.get((kind, namespace))
        if told is None or newer(version, told):
            self._told[kind, namespace] = version

    def _forget_place(self, key: Key) -> None:
        names = self._by_place[key[:2]]
        del names[key[2]]
        if not names:
            del self._by_place[key[:2]]

    def _forget_owner(self, live: Live) -> None:
        if live.owner:
            keys = self._by_owner[live.owner.uid]
            keys.discard((live.kind, live.namespace, live.name))
            if not keys:
                del self._by_owner[live.owner.uid]

"""Users' ConfigMaps and Secrets that resources name: read by name, kept while they do not change.

A ConfigMap may be edited at any time and its reader must notice, so the metadata of ConfigMaps is watched, and only of
those somebody named is anything remembered. Secrets are not watched: nobody but the kubelet needs their values. A
missing one is looked for again after a second, then at growing intervals up to RECHECK_SECONDS, once for all who wait.
One that was found is read again where something seems to be wrong with it.
"""

from __future__ import annotations

import asyncio
import base64
import logging
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from openclaw_operator.cluster.client import Client, Object
from openclaw_operator.cluster.kinds import BY_NAME, Kind
from openclaw_operator.errors import ApiError, NotFoundError
from openclaw_operator.telemetry import about

LOG = logging.getLogger(__name__)
FIRST_RECHECK_SECONDS = 1.0
RECHECK_SECONDS = 10.0
Key = tuple[str, str, str]
Waker = tuple[str, str, str]
CONFIG_MAP, SECRET = BY_NAME["ConfigMap"], BY_NAME["Secret"]


@dataclass
class _Watched:
    users: set[Waker] = field(default_factory=set)
    # Users that need a key which it does not have.
    lacking: set[Waker] = field(default_factory=set)
    data: Mapping[str, str] | None = None
    known: bool = False
    # Counts changes, so that an answer that was under way when one came is not taken for the new state.
    epoch: int = 0
    recheck: float = field(default_factory=lambda: FIRST_RECHECK_SECONDS)
    timer: asyncio.TimerHandle | None = None


class References:
    """`wake(user)` is called for each user of an object that appeared, changed or went."""

    def __init__(self, client: Client, wake: Callable[[Waker], None]) -> None:
        self._client = client
        self._wake = wake
        self._watched: defaultdict[Key, _Watched] = defaultdict(_Watched)
        self._used_by: defaultdict[Waker, set[Key]] = defaultdict(set)
        self._tasks: set[asyncio.Task[None]] = set()

    async def config_map(self, namespace: str, name: str, user: Waker) -> Mapping[str, str] | None:
        """The data of a ConfigMap, None when it does not exist. `user` is woken when that changes."""
        return await self._read(CONFIG_MAP, namespace, name, user)

    async def secret_keys(self, namespace: str, name: str, user: Waker) -> frozenset[str] | None:
        """The keys of a Secret, None when it does not exist. `user` is woken when it appears."""
        data = await self._read(SECRET, namespace, name, user)
        return None if data is None else frozenset(data)

    def expect(self, user: Waker, keys: set[Key]) -> None:
        """Tell which (kind, namespace, name) a user names from now on; the others are forgotten."""
        for key in self._used_by.pop(user, set()) - keys:
            watched = self._watched.get(key)
            if watched is None:
                continue
            watched.users.discard(user)
            watched.lacking.discard(user)
            if not watched.users:
                if watched.timer:
                    watched.timer.cancel()
                del self._watched[key]
        if keys:
            self._used_by[user] = set(keys)

    def missing_key(self, namespace: str, name: str, user: Waker) -> None:
        """A Secret lacks a key that a user needs: look at it again later, for as long as somebody does."""
        key = (SECRET.name, namespace, name)
        watched = self._watched.get(key)
        if watched:
            watched.lacking.add(user)
            if watched.timer is None:
                self._schedule(key, watched)

    def doubt(self, user: Waker) -> None:
        """The Secrets a user names may have changed: they are read anew when they are next asked for."""
        for key in self._used_by.get(user, ()):
            watched = self._watched.get(key)
            # A missing one is looked for anyway.
            if key[0] == SECRET.name and watched and watched.data is not None:
                watched.known = False

    async def _read(self, kind: Kind, namespace: str, name: str, user: Waker) -> Mapping[str, str] | None:
        key = (kind.name, namespace, name)
        watched = self._watched[key]
        watched.users.add(user)
        watched.lacking.discard(user)
        self._used_by[user].add(key)
        if not watched.known:
            epoch, before = watched.epoch, watched.data
            watched.data = await self._fetch(kind, namespace, name)
            watched.known = epoch == watched.epoch
            if kind is SECRET and before is not None and watched.data != before:
                self._wake_users(watched, besides=user)
            if watched.data is None and kind is SECRET:
                self._schedule(key, watched)
        return watched.data

    async def _fetch(self, kind: Kind, namespace: str, name: str) -> Mapping[str, str] | None:
        try:
            item = await self._client.get(kind, namespace, name)
        except NotFoundError:
            return None
        if kind is SECRET:
            # Blank is missing: readers strip what they read, and do not start with nothing.
            return {key: "" for key, value in (item.get("data") or {}).items() if base64.b64decode(value).strip()}
        return dict(item.get("data") or {})

    def _schedule(self, key: Key, watched: _Watched) -> None:
        if watched.timer:
            watched.timer.cancel()
        watched.timer = asyncio.get_running_loop().call_later(watched.recheck, self._start_recheck, key)
        watched.recheck = min(watched.recheck * 1.5, RECHECK_SECONDS)

    def _start_recheck(self, key: Key) -> None:
        task = asyncio.get_running_loop().create_task(self._recheck(key))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _recheck(self, key: Key) -> None:
        watched = self._watched.get(key)
        if watched is None:
            return
        if watched.data is not None and not watched.lacking:
            watched.recheck, watched.timer = FIRST_RECHECK_SECONDS, None
            return
        try:
            data = await self._fetch(BY_NAME[key[0]], key[1], key[2])
        except ApiError as error:
            # In the name of whoever asked for it first, else.
            with about(*key):
                LOG.warning("looking for %s %s/%s: %s", *key, error)
            data = watched.data
        if data == watched.data:
            self._schedule(key, watched)
            return
        watched.data, watched.recheck, watched.timer = data, FIRST_RECHECK_SECONDS, None
        self._wake_users(watched)

    def _wake_users(self, watched: _Watched, besides: Waker | None = None) -> None:
        for user in sorted(watched.users - {besides}):
            self._wake(user)

    # --- Sink of the metadata watch of ConfigMaps ---
    def changed(self, kind: Kind, item: Object) -> None:
        """A ConfigMap was added or modified, or was there in a list."""
        meta = item["metadata"]
        self._invalidate((kind.name, meta["namespace"], meta["name"]))

    def removed(self, kind: Kind, namespace: str, name: str, version: str) -> None:  # noqa: ARG002
        """A ConfigMap is gone."""
        self._invalidate((kind.name, namespace, name))

    def listed(
        self,
        kind: Kind,
        namespace: str | None,
        present: set[tuple[str, str]],
        version: str,  # noqa: ARG002
    ) -> None:
        """After a break: what somebody believes to be there may be gone."""
        for key, watched in list(self._watched.items()):
            if key[0] == kind.name and namespace in (None, key[1]) and (key[1], key[2]) not in present and watched.data:
                self._invalidate(key)

    def _invalidate(self, key: Key) -> None:
        watched = self._watched.get(key)
        if watched:
            watched.known = False
            watched.epoch += 1
            self._wake_users(watched)

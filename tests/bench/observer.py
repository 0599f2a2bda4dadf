"""Sees what exists through its own watches on the API server, and when it came."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from tests.bench.api import PLURALS, Api, Object, resource_path
from tests.bench.workload import Templates

Key = tuple[str, str, str]


@dataclass
class Expected:
    """One Agent that is being watched. Times are of time.monotonic()."""

    namespace: str
    name: str
    missing: set[Key]
    complete_at: float | None = None
    reported_at: float | None = None
    ready: bool = False


@dataclass
class Observer:
    """Async context manager. One metadata watch per kind of child, one full watch of Agents, over all namespaces."""

    api: Api
    templates: Templates
    agents: dict[tuple[str, str], Expected] = field(default_factory=dict)
    present: dict[Key, Object] = field(default_factory=dict)
    _owner_of: dict[Key, tuple[str, str]] = field(default_factory=dict)
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def __aenter__(self) -> Self:
        versions = {child["kind"]: child["apiVersion"] for child in self.templates.children}
        for kind, version in {**versions, "Agent": "openclaw.io/v1alpha1"}.items():
            path = resource_path(version, PLURALS[kind], None)
            start = (await self.api.get(path + "?limit=1"))["metadata"]["resourceVersion"]
            follow = self._follow(kind, path, start)
            task = asyncio.create_task(follow, name=f"observe {kind}")
            task.add_done_callback(lambda _: self._changed.set())
            self._tasks.append(task)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def expect(self, namespace: str, name: str) -> Expected:
        """Watch out for the children of an Agent, from before it is created."""
        rename = str.replace
        keys = {(kind, namespace, rename(child, self.templates.name, name)) for kind, child in self.templates.keys}
        wanted = Expected(namespace, name, keys)
        self.agents[namespace, name] = wanted
        self._owner_of.update(dict.fromkeys(keys, (namespace, name)))
        return wanted

    async def _follow(self, kind: str, path: str, version: str) -> None:
        while True:
            # The API server ends a watch of a young custom resource when it looks at its CRD again.
            async for event in self.api.watch(path, version, metadata_only=kind != "Agent"):
                if event["type"] == "ERROR":
                    raise RuntimeError(f"the watch of {kind} failed: {event['object'].get('message')}")
                version = event["object"]["metadata"]["resourceVersion"]
                if event["type"] != "BOOKMARK":
                    self._take(kind, event["type"], event["object"])
                    self._changed.set()

    def _take(self, kind: str, event: str, item: Object) -> None:
        metadata = item["metadata"]
        key = (kind, metadata["namespace"], metadata["name"])
        if kind == "Agent":
            wanted = self.agents.get((key[1], key[2]))
            if wanted is not None:
                wanted.ready = ready(item)
                if wanted.reported_at is None and reported(item):
                    wanted.reported_at = time.monotonic()
            return
        if event == "DELETED":
            self.present.pop(key, None)
            return
        self.present[key] = item
        owner = self._owner_of.get(key)
        if owner is None:
            return
        wanted = self.agents[owner]
        wanted.missing.discard(key)
        if not wanted.missing and wanted.complete_at is None:
            wanted.complete_at = time.monotonic()

    async def wait(self, agents: Iterable[Expected], done: Callable[[Expected], bool], *, seconds: float) -> None:
        """Until all of them are `done`. Raises TimeoutError, naming the first of the rest."""
        waiting = list(agents)
        try:
            async with asyncio.timeout(seconds):
                while waiting:
                    if done(waiting[-1]):
                        # One look for each event: what looked at all of them would be a part of what is measured.
                        waiting.pop()
                        continue
                    self._fail_with_watches()
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            waiting = [each for each in waiting if not done(each)]
            if not waiting:
                return
            first = waiting[0]
            missing = ", ".join(f"{kind} {name}" for kind, _, name in sorted(first.missing)) or "its status"
            raise TimeoutError(
                f"{len(waiting)} agents not complete after {seconds:.0f} s; {first.name} lacks {missing}"
            ) from None

    async def until(self, holds: Callable[[], bool], what: str, *, seconds: float) -> float:
        """The time.monotonic() at which an observed change made it true. Raises TimeoutError naming `what`."""
        try:
            async with asyncio.timeout(seconds):
                while not holds():
                    self._fail_with_watches()
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise TimeoutError(f"not within {seconds:.0f} s: {what}") from None
        return time.monotonic()

    def _fail_with_watches(self) -> None:
        for task in self._tasks:
            if task.done():
                task.result()


def reported(agent: Object) -> bool:
    """Whether the status speaks of the current generation and has a Ready condition."""
    current = (agent.get("status") or {}).get("observedGeneration") == agent["metadata"]["generation"]
    return current and "Ready" in _conditions(agent)


def ready(agent: Object) -> bool:
    """Whether the status says so."""
    return _conditions(agent).get("Ready") == "True"


def _conditions(agent: Object) -> dict[str, str]:
    return {each["type"]: each["status"] for each in (agent.get("status") or {}).get("conditions") or ()}


def complete(agent: Expected) -> bool:
    """Whether all children are there."""
    return agent.complete_at is not None


def told(agent: Expected) -> bool:
    """Whether all children are there, and the status says so of the current generation."""
    return complete(agent) and agent.reported_at is not None

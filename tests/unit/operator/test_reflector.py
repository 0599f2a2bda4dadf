from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from openclaw_operator.cluster import reflector
from openclaw_operator.cluster.client import INITIAL_EVENTS_END, Client
from openclaw_operator.cluster.kinds import BY_NAME, Kind
from openclaw_operator.cluster.reflector import Reflector
from openclaw_operator.errors import ApiError, GoneError, RejectedError, UnavailableError
from openclaw_operator.telemetry import Metrics

PODS = BY_NAME["Pod"]
End = BaseException | None


def pod(name: str, version: int) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "demo", "resourceVersion": str(version)}}


def event(type_: str, name: str, version: int) -> dict[str, Any]:
    return {"type": type_, "object": pod(name, version)}


def told_all(items: list[dict[str, Any]], version: int) -> list[dict[str, Any]]:
    """How a server streams a list."""
    end = pod("", version)
    end["metadata"]["annotations"] = {INITIAL_EVENTS_END: "true"}
    return [*({"type": "ADDED", "object": item} for item in items), {"type": "BOOKMARK", "object": end}]


class Script:
    """Answers lists and watches as written; the last watch never ends. `streams` are lists that are streamed."""

    def __init__(
        self,
        lists: list[list[dict[str, Any]] | BaseException],
        watches: list[tuple[list[dict[str, Any]], End]],
        streams: list[tuple[list[dict[str, Any]], End]] | None = None,
    ) -> None:
        self.lists = lists
        # A server that cannot, where nothing is said.
        self.streams = streams
        self.watches = watches
        self.asked: list[str] = []
        self.idle = asyncio.Event()

    async def pages(self, *_: Any, **__: Any) -> AsyncIterator[dict[str, Any]]:
        self.asked.append("list")
        answer = self.lists.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        yield {"metadata": {"resourceVersion": "10"}, "items": answer}

    async def watch(
        self, _kind: Kind, _namespace: str | None, version: str | None, **_: Any
    ) -> AsyncIterator[dict[str, Any]]:
        if version is None:
            if self.streams is None:
                raise RejectedError(422, "Invalid", "sendInitialEvents is forbidden for watch")
            self.asked.append("stream")
            events, end = self.streams.pop(0)
            for each in events:
                yield each
            if end:
                raise end
            return
        self.asked.append(f"watch {version}")
        if not self.watches:
            self.idle.set()
            await asyncio.Event().wait()
        events, end = self.watches.pop(0)
        for each in events:
            yield each
        if end:
            raise end


class Heard:
    def __init__(self, until: int) -> None:
        self.told: list[str] = []
        self.until = until
        self.enough = asyncio.Event()

    def _note(self, text: str) -> None:
        self.told.append(text)
        if len(self.told) == self.until:
            self.enough.set()

    def changed(self, _kind: Kind, item: dict[str, Any]) -> None:
        self._note(f"changed {item['metadata']['name']}")

    def removed(self, _kind: Kind, _namespace: str, name: str, _version: str) -> None:
        self._note(f"removed {name}")

    def listed(self, _kind: Kind, _namespace: str | None, present: set[tuple[str, str]], _version: str) -> None:
        self._note(f"listed {sorted(name for _, name in present)}")


async def follow(script: Script, until: int) -> list[str]:
    heard = Heard(until)
    made = Reflector(cast("Client", script), PODS, None, heard, Metrics(), selector=None, jitter=lambda: 0.5)
    task = asyncio.create_task(made.run())
    async with asyncio.timeout(10):
        await heard.enough.wait()
        await script.idle.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return heard.told


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reflector, "FIRST_BACKOFF_SECONDS", 0.0)


async def test_lists_then_watches_from_there() -> None:
    script = Script([[pod("a", 3)]], [([event("ADDED", "b", 11), event("DELETED", "a", 12)], None)])
    assert await follow(script, 4) == ["changed a", "listed ['a']", "changed b", "removed a"]
    assert script.asked[:2] == ["list", "watch 10"]


async def test_a_list_is_streamed_and_watched_from_its_end() -> None:
    script = Script([], [([event("ADDED", "b", 11)], None)], [(told_all([pod("a", 3)], 10), None)])
    assert await follow(script, 3) == ["changed a", "listed ['a']", "changed b"]
    assert script.asked[:2] == ["stream", "watch 10"]


async def test_what_is_deleted_while_the_others_are_told_is_not_there() -> None:
    events = told_all([pod("a", 3), pod("b", 4)], 10)
    events[-1:-1] = [event("BOOKMARK", "", 8), event("DELETED", "a", 9), event("ADDED", "c", 10)]
    assert await follow(Script([], [([], None)], [(events, None)]), 4) == [
        "changed a",
        "changed b",
        "changed c",
        "listed ['b', 'c']",
    ]


@pytest.mark.parametrize("end", [UnavailableError("cut"), None], ids=["cut", "ended"])
async def test_of_a_list_whose_stream_breaks_nothing_counts_but_what_the_pages_tell(end: End) -> None:
    script = Script([[pod("b", 4)]], [([], None)], [(told_all([pod("a", 3)], 10)[:-1], end)])
    assert await follow(script, 3) == ["changed a", "changed b", "listed ['b']"]
    assert script.asked[:3] == ["stream", "list", "watch 10"]


@pytest.mark.parametrize(
    "refusal",
    [
        RejectedError(422, "Invalid", "sendInitialEvents is forbidden for watch"),
        ApiError(500, "InternalError", "the required storage feature RequestWatchProgress is disabled"),
    ],
    ids=["api-server", "etcd"],
)
async def test_a_list_that_cannot_be_streamed_is_read_by_pages(refusal: ApiError) -> None:
    script = Script([[pod("a", 3)]], [([], None)], [([], refusal)])
    assert await follow(script, 2) == ["changed a", "listed ['a']"]
    assert script.asked[:3] == ["stream", "list", "watch 10"]


@pytest.mark.parametrize("status", [0, 429, 500, 503])
async def test_a_server_in_need_is_not_asked_for_pages(status: int) -> None:
    refusal = ApiError(status, "Test", "not now")
    script = Script([], [([], None)], [([], refusal), (told_all([pod("a", 3)], 10), None)])
    assert await follow(script, 2) == ["changed a", "listed ['a']"]
    assert script.asked[:3] == ["stream", "stream", "watch 10"]


async def test_a_watch_that_ends_goes_on_where_it_was() -> None:
    script = Script(
        [[]], [([event("BOOKMARK", "", 40)], None), ([event("MODIFIED", "a", 41)], UnavailableError("cut"))]
    )
    assert await follow(script, 2) == ["listed []", "changed a"]
    assert script.asked[1:3] == ["watch 10", "watch 40"]


async def test_too_old_a_version_lists_again() -> None:
    script = Script([[pod("a", 3)], [pod("b", 4)]], [([], GoneError(410, "Expired", "too old"))])
    assert await follow(script, 4) == ["changed a", "listed ['a']", "changed b", "listed ['b']"]


async def test_a_list_that_fails_is_tried_again() -> None:
    script = Script([UnavailableError("refused"), UnavailableError("refused"), [pod("a", 3)]], [([], None)])
    assert await follow(script, 2) == ["changed a", "listed ['a']"]
    assert script.asked[:3] == ["list", "list", "list"]


async def test_a_watch_that_ends_at_once_is_not_asked_for_in_a_tight_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr(reflector, "FIRST_BACKOFF_SECONDS", 0.2)
    monkeypatch.setattr(asyncio, "sleep", pause)
    await follow(Script([[]], [([], None), ([], None), ([event("ADDED", "a", 11)], None)]), 2)
    assert len(pauses) == 2
    assert pauses[1] > pauses[0] > 0

from __future__ import annotations

import asyncio
import base64
from typing import Any, cast

import pytest

from openclaw_operator.cluster import references
from openclaw_operator.cluster.client import Client
from openclaw_operator.cluster.kinds import BY_NAME, Kind
from openclaw_operator.cluster.references import References
from openclaw_operator.errors import NotFoundError

ADA, BOB = ("Agent", "demo", "ada"), ("Agent", "demo", "bob")
CONFIG_MAP = BY_NAME["ConfigMap"]


class Objects:
    """ConfigMaps and Secrets by name, and how often each was asked for."""

    def __init__(self) -> None:
        self.data: dict[str, dict[str, str]] = {}
        self.asked: list[str] = []
        self.gate: asyncio.Event | None = None

    async def get(self, kind: Kind, _namespace: str, name: str) -> dict[str, Any]:
        self.asked.append(name)
        found = self.data.get(name)
        if self.gate:
            await self.gate.wait()
        if found is None:
            raise NotFoundError(404, "NotFound", name)
        encoded = {key: base64.b64encode(value.encode()).decode() for key, value in found.items()}
        return {"data": encoded if kind.name == "Secret" else found}


@pytest.fixture
def objects() -> Objects:
    return Objects()


@pytest.fixture
def woken() -> asyncio.Queue[tuple[str, str, str]]:
    return asyncio.Queue()


@pytest.fixture
def made(objects: Objects, woken: asyncio.Queue[tuple[str, str, str]], monkeypatch: pytest.MonkeyPatch) -> References:
    monkeypatch.setattr(references, "FIRST_RECHECK_SECONDS", 0.0)
    return References(cast("Client", objects), woken.put_nowait)


def item(name: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "demo"}}


async def test_a_config_map_is_read_once_until_it_changes(
    made: References, objects: Objects, woken: asyncio.Queue[tuple[str, str, str]]
) -> None:
    objects.data["soul"] = {"a": "1"}
    assert await made.config_map("demo", "soul", ADA) == {"a": "1"}
    assert await made.config_map("demo", "soul", BOB) == {"a": "1"}
    assert objects.asked == ["soul"]
    objects.data["soul"] = {"a": "2"}
    made.changed(CONFIG_MAP, item("soul"))
    assert {woken.get_nowait(), woken.get_nowait()} == {ADA, BOB}
    assert await made.config_map("demo", "soul", ADA) == {"a": "2"}


async def test_others_wake_nobody(made: References, woken: asyncio.Queue[tuple[str, str, str]]) -> None:
    await made.config_map("demo", "soul", ADA)
    made.changed(CONFIG_MAP, item("other"))
    made.removed(CONFIG_MAP, "elsewhere", "soul", "5")
    assert woken.empty()


async def test_an_answer_older_than_a_change_is_not_kept(made: References, objects: Objects) -> None:
    objects.data["soul"] = {"a": "1"}
    objects.gate = asyncio.Event()
    reading = asyncio.create_task(made.config_map("demo", "soul", ADA))
    while not objects.asked:  # noqa: ASYNC110 - one turn of the loop
        await asyncio.sleep(0)
    made.changed(CONFIG_MAP, item("soul"))
    objects.data["soul"] = {"a": "2"}
    objects.gate.set()
    await reading
    assert await made.config_map("demo", "soul", ADA) == {"a": "2"}


async def test_a_missing_secret_is_looked_for_once_for_all(
    made: References, objects: Objects, woken: asyncio.Queue[tuple[str, str, str]]
) -> None:
    assert await made.secret_keys("demo", "llm", ADA) is None
    assert await made.secret_keys("demo", "llm", BOB) is None
    assert objects.asked == ["llm"]
    objects.data["llm"] = {"key": "x", "empty": "", "blank": " \n"}
    async with asyncio.timeout(5):
        assert {await woken.get(), await woken.get()} == {ADA, BOB}
    assert await made.secret_keys("demo", "llm", ADA) == frozenset({"key"})
    assert objects.asked == ["llm", "llm"]


async def test_a_missing_key_is_looked_for(
    made: References, objects: Objects, woken: asyncio.Queue[tuple[str, str, str]]
) -> None:
    objects.data["llm"] = {"other": "x"}
    assert await made.secret_keys("demo", "llm", ADA) == frozenset({"other"})
    made.missing_key("demo", "llm", ADA)
    objects.data["llm"] = {"key": "x"}
    async with asyncio.timeout(5):
        assert await woken.get() == ADA
    assert await made.secret_keys("demo", "llm", ADA) == frozenset({"key"})


@pytest.mark.parametrize("end", ["gone", "names another key"])
async def test_a_key_that_nobody_misses_any_more_is_not_looked_for(
    made: References, objects: Objects, woken: asyncio.Queue[tuple[str, str, str]], end: str
) -> None:
    objects.data["llm"] = {"other": "x"}
    await made.secret_keys("demo", "llm", ADA)
    made.missing_key("demo", "llm", ADA)
    await made.secret_keys("demo", "llm", BOB)
    if end == "gone":
        made.expect(ADA, set())
    else:
        await made.secret_keys("demo", "llm", ADA)
    for _ in range(20):
        await asyncio.sleep(0)
    assert objects.asked == ["llm"]
    # And again once somebody does.
    made.missing_key("demo", "llm", BOB)
    objects.data["llm"]["key"] = "x"
    async with asyncio.timeout(60):
        while await woken.get() != BOB:
            pass


async def test_a_secret_in_doubt_is_read_again_and_what_became_of_it_told_to_all(
    made: References, objects: Objects, woken: asyncio.Queue[tuple[str, str, str]]
) -> None:
    objects.data["llm"] = {"key": "x"}
    for user in (ADA, BOB):
        await made.secret_keys("demo", "llm", user)
    made.doubt(ADA)
    assert await made.secret_keys("demo", "llm", ADA) == frozenset({"key"})
    assert (objects.asked, woken.empty()) == (["llm", "llm"], True)
    objects.data.pop("llm")
    made.doubt(ADA)
    assert await made.secret_keys("demo", "llm", ADA) is None
    assert woken.get_nowait() == BOB
    made.expect(ADA, set())
    made.expect(BOB, set())


async def test_what_nobody_names_is_forgotten(
    made: References, objects: Objects, woken: asyncio.Queue[tuple[str, str, str]]
) -> None:
    await made.secret_keys("demo", "llm", ADA)
    await made.config_map("demo", "soul", ADA)
    made.expect(ADA, {("ConfigMap", "demo", "soul")})
    asked = len(objects.asked)
    # The timer of the secret would have run in this turn.
    for _ in range(5):
        await asyncio.sleep(0)
    assert len(objects.asked) == asked
    made.changed(CONFIG_MAP, item("soul"))
    assert woken.get_nowait() == ADA

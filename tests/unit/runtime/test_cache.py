"""Answers that are kept: for which requests, for how long, and where."""

import asyncio
import stat
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai.direct import model_request
from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelResponse,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.models import Model, ModelRequestParameters, StreamedResponse
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.models.wrapper import WrapperModel
from pydantic_ai.settings import ModelSettings
from pydantic_ai.tools import ToolDefinition
from pydantic_ai.usage import RequestUsage

from openclaw_runtime.models.cache import DiskLayer, Entry, Freshness, Layer, MemoryLayer, encode_answer, freshness, key
from openclaw_runtime.models.cached import CachedModel
from openclaw_runtime.models.chain import first_to_answer
from openclaw_runtime.models.sections import Cache
from openclaw_runtime.telemetry import Metrics

NONE = ModelRequestParameters()


def asked(text: str, instructions: str | None = None) -> list[ModelMessage]:
    return [ModelRequest(parts=[UserPromptPart(text)], instructions=instructions)]


# --- pure ------------------------------------------------------------------------------------------------------------


def test_only_when_and_in_which_run_it_was_asked_does_not_count() -> None:
    one, other = asked("hello"), asked("hello")
    other[0].run_id = "another"
    assert one[0].parts[0].timestamp != other[0].parts[0].timestamp  # type: ignore[union-attr]
    assert key("o", one, None, NONE) == key("o", other, ModelSettings(), ModelRequestParameters())


@pytest.mark.parametrize(
    ("owner", "messages", "settings", "parameters"),
    [
        ("another agent", asked("hello"), None, NONE),
        ("o", asked("hello!"), None, NONE),
        ("o", asked("hello", "You are Ada."), None, NONE),
        ("o", [*asked("x"), ModelResponse(parts=[TextPart("y")]), *asked("hello")], None, NONE),
        ("o", asked("hello"), ModelSettings(temperature=0), NONE),
        ("o", asked("hello"), None, ModelRequestParameters(function_tools=[ToolDefinition(name="t")])),
    ],
    ids=["agent", "text", "system prompt", "history", "settings", "tools"],
)
def test_whatever_else_differs_makes_another_request(
    owner: str, messages: list[ModelMessage], settings: ModelSettings | None, parameters: ModelRequestParameters
) -> None:
    assert key(owner, messages, settings, parameters) != key("o", asked("hello"), None, NONE)


@pytest.mark.parametrize(
    ("age", "expected"),
    [(0, "fresh"), (2879, "fresh"), (2880, "early"), (3599, "early"), (3600, "stale"), (3899, "stale"), (3900, "dead")],
)
def test_how_old_an_answer_may_be(age: float, expected: Freshness) -> None:
    assert freshness(age, Cache()) == expected


# --- the model -------------------------------------------------------------------------------------------------------


class Finished(WrapperModel):
    """Says of each stream why it ended, as providers do."""

    @asynccontextmanager
    async def request_stream(self, *given: Any) -> AsyncGenerator[StreamedResponse]:
        async with self.wrapped.request_stream(*given) as stream:
            yield stream
            stream.finish_reason = "stop"


class Kitchen:
    """A provider that numbers its answers, behind a cache with a clock of its own."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.asked = 0
        self.failures: list[Exception] = []
        self.gate: asyncio.Event | None = None
        self.finish: Any = "stop"
        self.parts: list[Any] | None = None
        self.metrics = Metrics(version="1", agent="a", start_time=0)
        self.tasks: list[asyncio.Task[None]] = []

        self.provider = Finished(FunctionModel(self._answer, stream_function=self._stream, model_name="m"))

    async def _next(self) -> str:
        self.asked += 1
        text = f"answer {self.asked}"
        if self.gate:
            await self.gate.wait()
        if self.failures:
            raise self.failures.pop(0)
        return text

    async def _answer(self, _messages: list[ModelMessage], _info: AgentInfo) -> ModelResponse:
        text = await self._next()
        return ModelResponse(parts=self.parts or [TextPart(text)], finish_reason=self.finish)

    async def _stream(self, _messages: list[ModelMessage], _info: AgentInfo) -> AsyncIterator[str]:
        text = await self._next()
        yield text[:3]
        yield text[3:]

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self.tasks.append(asyncio.get_running_loop().create_task(work))

    async def settle(self) -> None:
        while self.tasks:
            await self.tasks.pop()

    def model(self, *layers: Layer, wrapped: Model | None = None, **settings: Any) -> CachedModel:
        return CachedModel(
            wrapped or self.provider,
            Cache(enabled=True, **settings),
            owner="agent",
            layers=layers,
            observer=self.metrics,
            now=lambda: self.now,
            spawn=self._spawn,
        )

    def count(self, result: str) -> float | None:
        return self.metrics.registry.get_sample_value("openclaw_model_cache_requests_total", {"result": result})


@pytest.fixture
def kitchen() -> Kitchen:
    return Kitchen()


async def ask(model: Model, text: str = "hello") -> str:
    return str((await model_request(model, asked(text))).parts[0].content)  # type: ignore[union-attr]


async def chat(model: Model, text: str = "hello") -> str:
    async with model.request_stream(asked(text), None, NONE) as stream:
        events = [event async for event in stream]
        assert events
        return str(stream.get().parts[0].content)  # type: ignore[union-attr]


async def test_an_equal_request_gets_the_answer_that_is_kept_and_uses_no_tokens(kitchen: Kitchen) -> None:
    model = kitchen.model()
    assert [await ask(model), await ask(model), await ask(model, "other")] == ["answer 1", "answer 1", "answer 2"]
    again = await model_request(model, asked("hello"))
    assert (again.usage, kitchen.asked, kitchen.count("memory")) == (RequestUsage(), 2, 2)


@pytest.mark.parametrize(
    ("finish", "parts"),
    [("length", None), ("content_filter", None), ("tool_call", [ToolCallPart("t")]), ("stop", [ToolCallPart("t")])],
)
async def test_answers_that_act_or_are_none_are_not_kept(
    finish: str, parts: list[Any] | None, kitchen: Kitchen
) -> None:
    kitchen.finish, kitchen.parts = finish, parts
    model = kitchen.model()
    await model_request(model, asked("hello"))
    await model_request(model, asked("hello"))
    assert kitchen.asked == 2


async def test_what_follows_a_tool_call_is_asked_every_time(kitchen: Kitchen) -> None:
    told: list[ModelMessage] = [
        *asked("hello"),
        ModelResponse(parts=[ToolCallPart("t", {}, "1")]),
        ModelRequest(parts=[ToolReturnPart("t", "12:00", "1")]),
    ]
    model = kitchen.model()
    await model_request(model, told)
    await model_request(model, told)
    assert kitchen.asked == 2


async def test_the_answer_of_a_fallback_is_not_kept(kitchen: Kitchen) -> None:
    async def down(_messages: list[ModelMessage], _info: AgentInfo) -> ModelResponse:
        raise ModelHTTPError(500, "first")

    model = kitchen.model(wrapped=first_to_answer([FunctionModel(down), kitchen.provider]))
    assert [await ask(model), await ask(model)] == ["answer 1", "answer 2"]


@pytest.mark.parametrize("age", [2_900, 3_700])
async def test_an_answer_that_grows_old_is_given_once_more_and_asked_for_anew(age: float, kitchen: Kitchen) -> None:
    model = kitchen.model()
    await ask(model)
    kitchen.now += age
    assert await ask(model) == "answer 1"
    assert await ask(model) == "answer 1"
    await kitchen.settle()
    assert kitchen.asked == 2
    assert await ask(model) == "answer 2"
    assert kitchen.asked == 2


async def test_when_it_cannot_be_asked_for_anew_it_ages_on_until_its_end(kitchen: Kitchen) -> None:
    model = kitchen.model()
    await ask(model)
    kitchen.now += 3_700
    kitchen.failures = [ModelHTTPError(500, "m")]
    assert await ask(model) == "answer 1"
    await kitchen.settle()
    labels = {"outcome": "failed"}
    assert kitchen.metrics.registry.get_sample_value("openclaw_model_cache_refreshes_total", labels) == 1
    kitchen.now += 200
    assert await ask(model) == "answer 3"


@pytest.mark.parametrize("how", [ask, chat])
async def test_equal_requests_at_the_same_time_are_one(how: Callable[[Model], Any], kitchen: Kitchen) -> None:
    kitchen.gate = asyncio.Event()
    model = kitchen.model(turns=True)
    together = [asyncio.create_task(how(model)) for _ in range(5)]
    for _ in range(20):
        await asyncio.sleep(0)
    kitchen.gate.set()
    assert await asyncio.gather(*together) == ["answer 1"] * 5
    assert (kitchen.asked, kitchen.count("shared")) == (1, 4)


async def test_a_request_that_fails_fails_nobody_else(kitchen: Kitchen) -> None:
    kitchen.gate = asyncio.Event()
    kitchen.failures = [ModelHTTPError(400, "m")]
    model = kitchen.model()
    together = [asyncio.create_task(ask(model)) for _ in range(3)]
    for _ in range(20):
        await asyncio.sleep(0)
    kitchen.gate.set()
    answers = await asyncio.gather(*together, return_exceptions=True)
    assert [type(answer) for answer in answers] == [ModelHTTPError, str, str]


async def test_turns_take_part_only_if_asked(kitchen: Kitchen) -> None:
    model = kitchen.model()
    await ask(model)
    assert await chat(model) == "answer 2"
    model = kitchen.model(turns=True)
    assert await chat(model) == await chat(model) == await ask(model) == "answer 3"


async def test_a_stream_that_nobody_read_to_its_end_is_not_kept(kitchen: Kitchen) -> None:
    model = kitchen.model(turns=True)
    async with model.request_stream(asked("hello"), None, NONE) as stream:
        async for _ in stream:
            break
    assert await chat(model) == "answer 2"


# --- layers ----------------------------------------------------------------------------------------------------------


def listed(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


async def test_memory_keeps_what_was_used_last() -> None:
    memory = MemoryLayer(2)
    for name in ("a", "b"):
        memory.keep(name, name.encode())
    await memory.get("a")
    memory.keep("c", b"c")
    assert [await memory.get(name) for name in ("a", "b", "c")] == [b"a", None, b"c"]


async def test_memory_takes_only_so_many_bytes() -> None:
    memory = MemoryLayer(100, most=10)
    for name, size in (("a", 4), ("b", 4), ("a", 6), ("c", 4)):
        memory.keep(name, name.encode() * size)
    assert [await memory.get(name) for name in "abc"] == [b"aaaaaa", None, b"cccc"]
    memory.keep("d", b"d" * 11)
    memory.keep("e", b"e" * 10)
    assert [await memory.get(name) for name in "acde"] == [None, None, None, b"e" * 10]


async def test_disk_outlives_the_process_and_only_its_user_reads_it(kitchen: Kitchen, tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    assert await ask(kitchen.model(DiskLayer(folder, 10**6))) == "answer 1"
    await kitchen.settle()
    assert await ask(kitchen.model(DiskLayer(folder, 10**6))) == "answer 1"
    assert kitchen.count("disk") == 1
    (file,) = listed(folder)
    assert (stat.S_IMODE(folder.stat().st_mode), stat.S_IMODE(file.stat().st_mode)) == (0o700, 0o600)


@pytest.mark.parametrize("content", [b"", b"nonsense", b"1000.0\nnonsense", b"1000.0\n[]"])
async def test_a_file_that_cannot_be_read_is_a_miss(content: bytes, kitchen: Kitchen, tmp_path: Path) -> None:
    await ask(kitchen.model(DiskLayer(tmp_path, 10**6)))
    await kitchen.settle()
    (file,) = listed(tmp_path)
    file.write_bytes(content)
    assert await ask(kitchen.model(DiskLayer(tmp_path, 10**6))) == "answer 2"


async def test_a_disk_that_cannot_be_used_is_no_error(kitchen: Kitchen, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    model = kitchen.model(DiskLayer(tmp_path / "file", 10**6))
    assert await ask(model) == "answer 1"
    await kitchen.settle()
    assert await ask(model) == "answer 1"


async def test_the_oldest_files_go_when_there_are_too_many(tmp_path: Path) -> None:
    disk = DiskLayer(tmp_path, 250)
    for name in ("a", "b", "c"):
        await disk.put(name, name.encode() * 100, 1)
    assert [path.name for path in listed(tmp_path)] == ["b", "c"]
    disk = DiskLayer(tmp_path, 1000)
    for number in range(50):
        await disk.put(f"{number}", b"x" * 30, 1)
        assert sum(path.stat().st_size for path in listed(tmp_path)) <= 1000
    assert (tmp_path / "49").exists()


async def test_a_full_disk_is_not_littered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    await DiskLayer(tmp_path, 1000).put("a", b"x", 1)
    assert listed(tmp_path) == []


def test_an_entry_is_read_as_it_was_written() -> None:
    response = ModelResponse(parts=[TextPart("é\n1.0\n")], finish_reason="stop")
    entry = Entry.decode(Entry(12.5, encode_answer(response)).encode())
    assert entry.stored_at == 12.5
    assert entry.response() == replace(response, usage=RequestUsage())

"""Requests of skills to the model: how many at once, and what is done when they fail."""

import asyncio
from collections.abc import Sequence

import pytest

from openclaw_runtime.errors import ModelError
from openclaw_runtime.models.background import Background, batch_size
from openclaw_runtime.telemetry import Metrics

LIMITED = ModelError("slow down", status=429, code="rate_limit_exceeded")
BROKEN = ModelError("no", code="model_error")


@pytest.mark.parametrize(
    ("lengths", "size"),
    [([0], 10), ([99], 10), ([100], 5), ([499, 499], 5), ([500], 3), ([999], 3), ([1000], 1), ([1, 2000, 50], 3)],
)
def test_a_batch_is_the_smaller_the_longer_its_prompts_are(lengths: list[float], size: int) -> None:
    assert batch_size(lengths) == size


class Desk:
    """Answers prompts when `open` is set, and notes how many it had at once. `failures` come first, per prompt."""

    def __init__(self) -> None:
        self.metrics = Metrics(version="1", agent="a", start_time=0)
        self.background = Background(self.metrics)
        self.open = asyncio.Event()
        self.running: list[str] = []
        self.most = 0
        self.order: list[str] = []
        self.failures: dict[str, list[ModelError]] = {}
        self.beside: dict[str, int] = {}

    async def ask(self, prompt: str, fallback: str | None = None) -> str:
        async def answer() -> str:
            self.running.append(prompt)
            self.order.append(prompt)
            self.most = max(self.most, len(self.running))
            try:
                await self.open.wait()
                await asyncio.sleep(0)
                self.beside[prompt] = len(self.running) - 1
                if failures := self.failures.get(prompt):
                    raise failures.pop(0)
                return f"answer to {prompt[:3]}"
            finally:
                self.running.remove(prompt)

        return await self.background.run(prompt, answer, fallback)

    def together(self, prompts: Sequence[str]) -> list["asyncio.Task[str]"]:
        return [asyncio.create_task(self.ask(prompt)) for prompt in prompts]

    def count(self, outcome: str) -> float | None:
        labels = {"outcome": outcome}
        return self.metrics.registry.get_sample_value("openclaw_model_background_requests_total", labels)

    def waiting(self) -> float | None:
        return self.metrics.registry.get_sample_value("openclaw_model_background_waiting")


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.fixture
async def desk() -> Desk:
    return Desk()


@pytest.mark.parametrize(("length", "size"), [(50, 10), (300, 5), (700, 3), (5000, 1)])
async def test_no_more_are_asked_at_once_than_fit_a_batch(length: int, size: int, desk: Desk) -> None:
    prompts = [f"{n:02}" + "x" * (length - 2) for n in range(12)]
    tasks = desk.together(prompts)
    await settle()
    assert (len(desk.running), desk.waiting()) == (size, 12 - size)
    desk.open.set()
    assert await asyncio.gather(*tasks) == [f"answer to {prompt[:3]}" for prompt in prompts]
    assert (desk.most, desk.order, desk.waiting(), desk.count("batch")) == (size, prompts, 0, 12)


async def test_nobody_overtakes_a_long_prompt(desk: Desk) -> None:
    tasks = desk.together(["short", "x" * 50_000, "later"])
    await settle()
    assert desk.running == ["short"]
    desk.open.set()
    await asyncio.gather(*tasks)
    assert desk.order == ["short", "x" * 50_000, "later"]


async def test_what_a_rate_limit_refused_is_asked_once_more_by_itself(desk: Desk) -> None:
    desk.failures = {"two": [LIMITED]}
    desk.open.set()
    await asyncio.gather(*desk.together(["one", "two", "three"]))
    assert desk.order == ["one", "two", "three", "two"]
    assert desk.beside["two"] == 0
    assert (desk.count("batch"), desk.count("single")) == (2, 1)


async def test_then_the_callers_fallback_is_the_answer_or_the_error_is(desk: Desk) -> None:
    desk.failures = {"two": [LIMITED, LIMITED, LIMITED, LIMITED]}
    desk.open.set()
    assert await desk.ask("two", "my own") == "my own"
    with pytest.raises(ModelError, match="slow down"):
        await desk.ask("two")
    assert (desk.count("fallback"), desk.count("failed"), len(desk.order)) == (1, 1, 4)


async def test_what_being_alone_does_not_help_is_not_asked_again(desk: Desk) -> None:
    desk.failures = {"two": [BROKEN]}
    desk.open.set()
    assert await desk.ask("two", "") == ""
    assert desk.order == ["two"]


async def test_those_that_give_up_leave_room(desk: Desk) -> None:
    tasks = desk.together(["x" * 2_000, "waits", "last"])
    await settle()
    tasks[1].cancel()
    # Its place comes up before it has noticed.
    desk.background._admit()
    desk.open.set()
    assert await tasks[2] == "answer to las"
    assert desk.background._running == []
    again = desk.together(["a", "b"])
    await asyncio.sleep(0)
    again[0].cancel()
    assert await again[1] == "answer to b"
    assert desk.background._running == []

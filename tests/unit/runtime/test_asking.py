"""Time limits that stand still, places that are given up, and questions that end."""

import asyncio

import pytest

from openclaw_runtime.agent.questions import Questions, Slot
from openclaw_runtime.errors import NoAnswerError
from openclaw_runtime.timelimit import Countdown, TimeLimit


async def test_a_limit_stands_still_until_the_last_pause_is_over() -> None:
    async with TimeLimit(60) as limit:
        with limit.paused():
            with limit.paused():
                left = limit.remaining()
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.01)
            assert limit.remaining() == left
        assert limit.remaining() <= left
    assert not limit.expired


async def test_a_limit_ends_its_block_after_a_pause() -> None:
    limit = TimeLimit(0.02)

    async def work() -> None:
        async with limit:
            with limit.paused():
                await asyncio.sleep(0.1)
            assert not limit.expired
            await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        await work()
    assert limit.expired
    assert limit.remaining() == 0


async def test_a_limit_that_is_over_bears_a_pause_that_ends_late() -> None:
    async with TimeLimit(60) as limit:
        pause = limit.paused()
        pause.__enter__()
    pause.__exit__(None, None, None)
    assert not limit.expired


async def test_what_stood_still_is_counted_and_a_cancelled_countdown_is_silent() -> None:
    fired: list[str] = []
    countdown = Countdown(0.01, lambda: fired.append("ended"))
    countdown.pause()
    await asyncio.sleep(0.05)
    countdown.cancel()
    assert countdown.stood_still >= 0.04
    countdown.resume()
    await asyncio.sleep(0.05)
    assert fired == []


async def test_a_place_is_free_while_its_call_asks_and_taken_again_after() -> None:
    slots = asyncio.Semaphore(1)
    go_on = asyncio.Event()
    order: list[str] = []

    async def asks() -> None:
        async with Slot(slots) as slot:
            async with slot.given_up():
                order.append("asks")
                await go_on.wait()
            order.append("goes on")

    async def other() -> None:
        async with Slot(slots):
            order.append("other")
            go_on.set()
            await asyncio.sleep(0)
            order.append("other ends")

    first = asyncio.create_task(asks())
    await asyncio.sleep(0)
    await other()
    await first
    assert order == ["asks", "other", "other ends", "goes on"]
    assert not slots.locked()


async def test_no_place_is_lost_when_a_call_ends_while_it_asks() -> None:
    slots = asyncio.Semaphore(1)

    async def ask(slot: Slot, *, cancelled: bool) -> None:
        async with slot.given_up():
            if not cancelled:
                return
            await asyncio.Event().wait()

    async with Slot(slots) as slot:
        asking = [asyncio.create_task(ask(slot, cancelled=cancelled)) for cancelled in (True, False)]
        await asyncio.sleep(0)
    asking[0].cancel()
    await asyncio.gather(*asking, return_exceptions=True)
    await slots.acquire()
    assert slots.locked()
    slots.release()
    assert slots._value == 1


async def test_questions_end_with_their_reason_and_a_cancelled_asker_stays_cancelled() -> None:
    questions = Questions()
    ended = asyncio.create_task(questions.answer(_never(), 60))
    cancelled = asyncio.create_task(questions.answer(_never(), 60))
    await asyncio.sleep(0)
    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    await questions.end("the gateway is ending")
    with pytest.raises(NoAnswerError, match="the gateway is ending"):
        await ended
    with pytest.raises(NoAnswerError, match="the gateway is ending"):
        await questions.answer(_never(), 60)


async def test_questions_are_bounded() -> None:
    questions = Questions()
    with questions.one(1):
        with pytest.raises(NoAnswerError, match="1 questions wait"), questions.one(1):
            pass
        assert questions.open == 1
    assert questions.open == 0


async def _never() -> str:
    await asyncio.Event().wait()
    return ""

"""Clean-up that ends although its caller is cancelled, and calls of it that may hang."""

from __future__ import annotations

import asyncio
import gc

import pytest

from paddock import _concurrency
from paddock._concurrency import (
    Interrupted,
    Shared,
    Signal,
    acquire,
    cancel,
    finish,
    in_background,
    interruptible,
    is_interrupted,
)

DEADLINE = 60.0


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_concurrency, "CANCEL_TIMEOUT", 0.05)


async def _cancelled(task: asyncio.Task[object]) -> None:
    task.cancel()
    async with asyncio.timeout(DEADLINE):
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_a_call_that_hangs_is_interrupted_soon_after_a_cancellation() -> None:
    began, outcome = asyncio.Event(), []

    async def work() -> None:
        began.set()
        try:
            await interruptible(asyncio.get_running_loop().create_future())
        except Interrupted:
            outcome.append(is_interrupted())
            raise

    task = asyncio.create_task(finish(work()))
    await began.wait()
    await _cancelled(task)
    assert outcome == [True]


async def test_what_cannot_hang_is_never_interrupted() -> None:
    began, proceed, ended = asyncio.Event(), asyncio.Event(), []

    async def work() -> None:
        began.set()
        await proceed.wait()
        ended.append(True)

    task = asyncio.create_task(finish(work()))
    await began.wait()
    task.cancel()
    await asyncio.wait([task], timeout=0.2)  # longer than an interruptible call has
    assert not task.done()
    proceed.set()
    await _cancelled(task)
    assert ended == [True]


async def test_a_cancellation_is_passed_on_through_work_within_work() -> None:
    began, outcome = asyncio.Event(), []

    async def inner() -> None:
        began.set()
        try:
            await interruptible(asyncio.get_running_loop().create_future())
        finally:
            outcome.append("ended")

    async def outer() -> None:
        await finish(inner())

    task = asyncio.create_task(acquire(outer(), lambda _: asyncio.sleep(0)))
    await began.wait()
    await _cancelled(task)
    assert outcome == ["ended"]


async def test_each_call_of_a_clean_up_that_was_cancelled_has_some_time() -> None:
    began, done = asyncio.Event(), []

    async def work() -> None:
        began.set()
        try:
            await interruptible(asyncio.get_running_loop().create_future())
        except Interrupted:
            done.append(await interruptible(asyncio.sleep(0, "cleaned up")))

    task = asyncio.create_task(finish(work()))
    await began.wait()
    await _cancelled(task)
    assert done == ["cleaned up"]


async def test_clean_up_of_a_caller_that_was_cancelled_before_waits_for_no_call_that_hangs() -> (
    None
):
    async def work() -> None:
        await interruptible(asyncio.get_running_loop().create_future())

    with pytest.raises(Interrupted):
        await finish(work(), cancelled=True)


async def test_cancelled_tasks_have_ended_also_if_the_caller_is_cancelled() -> None:
    begun, ended = asyncio.Event(), []

    async def work() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            begun.set()
            await asyncio.sleep(0)
            ended.append(True)
            raise ValueError("nobody hears of it")

    tasks = [asyncio.create_task(work()) for _ in range(2)]
    await asyncio.sleep(0)
    cancelling = asyncio.create_task(cancel(*tasks))
    await begun.wait()
    await _cancelled(cancelling)
    assert ended == [True, True]


async def test_a_result_that_nobody_takes_is_released_within_bounds() -> None:
    began, proceed, released = asyncio.Event(), asyncio.Event(), []

    async def work() -> str:
        began.set()
        await proceed.wait()
        return "made"

    async def release(result: str) -> None:
        released.append(result)
        await interruptible(asyncio.get_running_loop().create_future())

    task = asyncio.create_task(acquire(work(), release))
    await began.wait()
    task.cancel()
    proceed.set()
    await _cancelled(task)
    assert released == ["made"]


async def test_any_waiter_of_shared_work_passes_its_cancellation_on() -> None:
    shared = Shared(_hang())
    patient, hasty = (asyncio.create_task(shared.wait()) for _ in range(2))
    await asyncio.sleep(0)
    await _cancelled(hasty)
    with pytest.raises(Interrupted):
        await patient
    assert shared.failed


async def test_a_task_that_outlives_the_work_is_not_interrupted_with_it() -> None:
    left: list[asyncio.Task[bool]] = []
    ask = asyncio.Event()

    async def later() -> bool:
        await ask.wait()
        return is_interrupted()

    async def work() -> None:
        left.append(asyncio.create_task(later()))
        left.append(in_background(later()))

    shared = Shared(work())
    await shared.wait()
    shared.give_up()
    ask.set()
    assert [await task for task in left] == [False, False]


async def _hang() -> None:
    await interruptible(asyncio.get_running_loop().create_future())


async def test_a_signal_wakes_all_who_wait_though_it_is_cleared_at_once() -> None:
    signal = Signal()
    waiting = [asyncio.create_task(signal.wait()) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    signal.set()
    signal.clear()
    await asyncio.wait(waiting, timeout=DEADLINE)
    assert [task.cancelled() for task in waiting] == [True, False, False]
    assert all(task.done() for task in waiting)
    assert not signal.is_set()
    signal.set()
    await signal.wait()
    assert signal.is_set()


async def test_work_that_is_cancelled_before_it_began_was_awaited(
    recwarn: pytest.WarningsRecorder,
) -> None:
    async def work() -> None:
        raise AssertionError("it never begins")

    ending = asyncio.create_task(finish(work()))
    await asyncio.sleep(0)
    for task in asyncio.all_tasks() - {asyncio.current_task()}:  # as the end of a loop does
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await ending
    del ending, task
    gc.collect()
    assert not [str(warning.message) for warning in recwarn]

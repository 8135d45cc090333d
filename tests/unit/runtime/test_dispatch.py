"""Many jobs at once, and the token that stops them."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

import pytest

from paddock.errors import RunNotCompleted
from paddock.runtime.core.cancellation import CancellationToken, CancelScope
from paddock.runtime.fleet.dispatch import TaskUpdate, dispatch

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from paddock import RunResult
    from tests.unit.runtime.conftest import OpenSession

PATIENCE = 60


@pytest.mark.rows("C45")
async def test_outcomes_are_in_the_jobs_order_and_one_failure_disturbs_nobody() -> None:
    async def job(number: int) -> int:
        for _ in range(10 - number % 10):
            await asyncio.sleep(0)
        if number % 5 == 0:
            raise ValueError(number)
        return number

    outcomes = await dispatch([partial(job, number) for number in range(50)], concurrency=7)
    assert [each.result for each in outcomes if each.status == "completed"] == [
        number for number in range(50) if number % 5
    ]
    errors = [each for each in outcomes if each.status == "error"]
    assert [str(each.error) for each in errors] == [str(number) for number in range(0, 50, 5)]


async def test_a_run_that_was_not_completed_is_an_error_with_its_result(
    open_session: OpenSession,
) -> None:
    async def run(*turns: dict[str, object]) -> RunResult:
        async with open_session(turns) as session:
            return await session.run("Go.")

    failing = {"error": "overloaded", "status": 529}
    jobs = [partial(run, failing), partial(run, {"text": "Done."})]
    failed, done = await dispatch(jobs)
    assert (failed.status, done.status) == ("error", "completed")
    assert failed.result is not None
    assert failed.result.status == "error"
    with pytest.raises(RunNotCompleted, match=r"ended as 'error': .*overloaded") as caught:
        failed.result.raise_for_status()
    assert str(failed.error) == str(caught.value)
    assert done.result is not None
    assert done.result.raise_for_status() is done.result


async def test_no_more_run_at_a_time_than_were_asked_for_and_progress_is_told() -> None:
    running, most = 0, 0
    updates: list[TaskUpdate[None]] = []

    async def job() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1

    await dispatch([job] * 20, concurrency=3, on_update=updates.append)
    assert most == 3
    assert [update.status for update in updates].count("running") == 20
    assert [update.status for update in updates].count("completed") == 20
    assert {update.total for update in updates} == {20}


def waiting(begun: list[int], ended: list[int]) -> Callable[[int], Callable[[], Awaitable[int]]]:
    async def job(number: int) -> int:
        if number == 0:
            return number
        begun.append(number)
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append(number)
        return number

    return lambda number: partial(job, number)


async def test_a_token_stops_what_runs_and_what_waits() -> None:
    token = CancellationToken()
    begun: list[int] = []
    ended: list[int] = []
    make = waiting(begun, ended)
    work = asyncio.create_task(dispatch(map(make, range(9)), concurrency=4, token=token))
    while len(begun) < 4:  # noqa: ASYNC110 - there is no event for "the fourth began"
        await asyncio.sleep(0)
    token.cancel()
    outcomes = await asyncio.wait_for(work, PATIENCE)
    assert [each.status for each in outcomes] == ["completed"] + ["cancelled"] * 8
    assert sorted(ended) == sorted(begun) == [1, 2, 3, 4]


async def test_a_cancelled_caller_waits_for_all_jobs_to_end() -> None:
    begun: list[int] = []
    ended: list[int] = []
    make = waiting(begun, ended)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await dispatch(map(make, range(9)), concurrency=3)
    assert begun == sorted(ended) == [1, 2, 3]


async def test_a_job_that_was_cancelled_from_inside_is_one_outcome() -> None:
    async def job() -> None:
        raise asyncio.CancelledError

    async def fine() -> int:
        return 1

    outcomes = await dispatch([job, fine], concurrency=1)
    assert [each.status for each in outcomes] == ["cancelled", "completed"]


async def test_an_error_of_the_progress_callback_is_raised() -> None:
    def broken(update: TaskUpdate[None]) -> None:
        raise LookupError("screen")

    async def job() -> None:
        await asyncio.Event().wait()

    with pytest.raises(ExceptionGroup) as caught:
        await dispatch([job] * 2, on_update=broken)
    assert caught.group_contains(LookupError)
    with pytest.raises(ValueError, match="at least 1"):
        await dispatch([job], concurrency=0)


def test_a_token_keeps_its_first_reason() -> None:
    token = CancellationToken()
    assert (token.is_cancelled(), token.reason, token.cancelled_at) == (False, None, None)
    token.cancel()
    token.cancel("later")
    assert (token.is_cancelled(), token.reason) == (True, "requested")
    assert token.cancelled_at is not None
    assert token.cancelled_at.tzinfo is not None


def test_a_token_calls_back_once_and_forgets() -> None:
    token, called = CancellationToken(), []
    forget = token.on_cancel(lambda: called.append("forgotten"))
    token.on_cancel(lambda: called.append("kept"))
    forget()
    token.cancel()
    token.on_cancel(lambda: called.append("late"))
    assert called == ["kept", "late"]


async def test_a_scope_swallows_its_own_cancellation_and_no_other() -> None:
    token = CancellationToken()
    async with CancelScope(token) as scope:
        token.cancel("stop")
        await asyncio.Event().wait()
    assert scope.cancelled
    assert scope.reason == "stop"
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    async with CancelScope(None) as quiet:
        await asyncio.sleep(0)
    assert not quiet.cancelled

    async def cancelled_by_both() -> None:
        token = CancellationToken()
        async with CancelScope(token):
            token.cancel()
            me.cancel()
            await asyncio.Event().wait()

    me = asyncio.create_task(cancelled_by_both())
    await asyncio.wait([me])
    assert me.cancelled()


async def test_a_scope_that_was_left_is_not_cancelled_later() -> None:
    token = CancellationToken()
    async with CancelScope(token) as scope:
        token.cancel()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not scope.cancelled


async def test_a_poll_ends_the_scope_and_its_error_is_raised(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("paddock.runtime.core.cancellation.POLL_INTERVAL", 0.001)
    answers = iter([None, None, "polled"])
    async with CancelScope(None, poll=lambda: next(answers)) as scope:
        await asyncio.wait_for(asyncio.Event().wait(), PATIENCE)
    assert (scope.cancelled, scope.reason) == (True, "polled")

    def broken() -> str | None:
        raise LookupError("job")

    with pytest.raises(LookupError):
        async with CancelScope(None, poll=broken):
            await asyncio.wait_for(asyncio.Event().wait(), PATIENCE)

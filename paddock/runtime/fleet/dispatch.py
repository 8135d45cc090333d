"""Run many jobs, a bounded number of them at a time: a fleet without ledger and sandboxes.

What is dispatched is any async function, such as one that makes a session and runs a
prompt in it.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Literal, TypeVar

from paddock.runtime.core.cancellation import CancelScope
from paddock.runtime.fleet.results import TaskResult, TaskStatus, judged
from paddock.runtime.fleet.workers import work_off

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from paddock.runtime.core.cancellation import CancellationToken

__all__ = ["TaskUpdate", "dispatch"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskUpdate(Generic[T]):
    """Job number `index` (from 0) of `total` began, or ended with `outcome`."""

    index: int
    total: int
    outcome: TaskResult[T] | None = None

    @property
    def status(self) -> TaskStatus | Literal["running"]:
        return "running" if self.outcome is None else self.outcome.status


async def dispatch(
    jobs: Iterable[Callable[[], Awaitable[T]]],
    *,
    concurrency: int = 8,
    on_update: Callable[[TaskUpdate[T]], None] | None = None,
    token: CancellationToken | None = None,
) -> list[TaskResult[T]]:
    """Run all `jobs`, at most `concurrency` at a time; return their results in the jobs' order.

    A job that raises an `Exception` does not disturb the others. When `token` is
    cancelled, the jobs that run are cancelled and awaited, the others are not begun,
    and what was not finished is ``cancelled``. A cancellation of the caller does the
    same and is raised. An error of `on_update` cancels all and is raised in a group.

    A `Fleet` also makes sandboxes, retries, and resumes after a crash.
    """
    if concurrency < 1:
        raise ValueError("concurrency has to be at least 1")
    work = list(jobs)
    outcomes: list[TaskResult[T]] = [TaskResult(status="cancelled")] * len(work)
    queue = iter(range(len(work)))

    def told(index: int, outcome: TaskResult[T] | None) -> None:
        if on_update is not None:
            on_update(TaskUpdate(index=index, total=len(work), outcome=outcome))

    async def take() -> int | None:
        return next(queue, None)

    async def run(index: int) -> None:
        told(index, None)
        outcomes[index] = await _outcome(work[index])
        told(index, outcomes[index])

    async with CancelScope(token):
        await work_off(take, run, limit=min(concurrency, len(work)))
    return outcomes


async def _outcome(job: Callable[[], Awaitable[T]]) -> TaskResult[T]:
    try:
        result = await job()
    except Exception as error:
        return TaskResult(status="error", error=error)
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        return TaskResult(status="cancelled")  # by somebody inside the job
    try:
        judged(result)
    except Exception as error:
        return TaskResult(status="error", result=result, error=error)
    return TaskResult(status="completed", result=result)

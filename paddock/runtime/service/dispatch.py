"""Run many jobs, a bounded number of them at a time. Knows no agent and no sandbox.

What is dispatched is any async function, such as one that makes a session and runs a
prompt in it.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Literal, Protocol, TypeVar, runtime_checkable

from paddock.runtime.core.cancellation import CancellationToken, CancelScope

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator

__all__ = ["TaskResult", "TaskUpdate", "dispatch"]

T = TypeVar("T")

TaskStatus = Literal["completed", "error", "cancelled"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskResult(Generic[T]):
    """What came of one job: a `result`, or the `error` that it raised, or it was cancelled.

    A `result` that has a `raise_for_status`, such as a `RunResult`, and raises there is an
    error, with the result beside it.
    """

    status: TaskStatus
    result: T | None = None
    error: Exception | None = None


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
    """Run all `jobs`, at most `concurrency` at a time; their outcomes, in the jobs' order.

    A job that raises an `Exception` does not disturb the others. When `token` is
    cancelled, the jobs that run are cancelled and awaited, the others are not begun,
    and what was not finished is ``cancelled``. A cancellation of the caller does the
    same and is raised. An error of `on_update` cancels all and is raised in a group.
    """
    if concurrency < 1:
        raise ValueError("concurrency has to be at least 1")
    work = list(jobs)
    outcomes: list[TaskResult[T]] = [TaskResult(status="cancelled")] * len(work)
    queue = iter(enumerate(work))

    def told(index: int, outcome: TaskResult[T] | None) -> None:
        if on_update is not None:
            on_update(TaskUpdate(index=index, total=len(work), outcome=outcome))

    async with CancelScope(token), asyncio.TaskGroup() as group:
        for _ in range(min(concurrency, len(work))):
            group.create_task(_work(queue, outcomes, told))
    return outcomes


@runtime_checkable
class _Judging(Protocol):
    def raise_for_status(self) -> object: ...


def _judged(result: T) -> TaskResult[T]:
    """The outcome of a job that has returned."""
    if isinstance(result, _Judging):
        try:
            result.raise_for_status()
        except Exception as error:
            return TaskResult(status="error", result=result, error=error)
    return TaskResult(status="completed", result=result)


async def _work(
    queue: Iterator[tuple[int, Callable[[], Awaitable[T]]]],
    outcomes: list[TaskResult[T]],
    told: Callable[[int, TaskResult[T] | None], None],
) -> None:
    for index, job in queue:
        told(index, None)
        try:
            outcome = _judged(await job())
        except Exception as error:
            outcome = TaskResult(status="error", error=error)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            outcome = TaskResult(status="cancelled")  # by somebody inside the job
        outcomes[index] = outcome
        told(index, outcome)

"""How clean-up survives cancellation; knows nothing of sandboxes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

T = TypeVar("T")


async def finish(work: Coroutine[Any, Any, T]) -> T:
    """Run `work` to its end in a task of its own, whatever happens to the caller.

    A cancellation that arrives meanwhile, however often, is remembered and raised
    once `work` has ended (in preference to an error of `work`, which is then its
    context). `work` has to bound its own waits.
    """
    return await acquire(work, _nothing_to_release)


async def acquire(work: Coroutine[Any, Any, T], release: Callable[[T], Awaitable[object]]) -> T:
    """As `finish`, for work whose result has to be released if nobody is there to take it."""
    task = asyncio.ensure_future(work)
    cancelled = await _outlast(task)
    if cancelled is None:
        return task.result()
    if task.cancelled():
        raise cancelled
    if (failure := task.exception()) is not None:
        raise cancelled from failure
    await _outlast(asyncio.ensure_future(release(task.result())))
    raise cancelled


async def _outlast(task: asyncio.Future[Any]) -> asyncio.CancelledError | None:
    """Wait until `task` is done; return the last cancellation that came meanwhile."""
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
    return cancelled


async def _nothing_to_release(result: object) -> None:
    """The work was its own clean-up."""

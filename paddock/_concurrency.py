"""How clean-up survives cancellation; knows nothing of sandboxes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine

T = TypeVar("T")


async def finish(work: Coroutine[Any, Any, T]) -> T:
    """Run `work` to its end in a task of its own, whatever happens to the caller.

    A cancellation that arrives meanwhile, however often, is remembered and raised
    once `work` has ended (in preference to an error of `work`, which is then its
    context). `work` has to bound its own waits.
    """
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is None:
        return task.result()
    if not task.cancelled() and (failure := task.exception()) is not None:
        raise cancelled from failure
    raise cancelled

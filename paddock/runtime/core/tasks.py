"""Work that ends with its caller, or with the owner of what does it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

from paddock._concurrency import cancel

if TYPE_CHECKING:
    from collections.abc import Coroutine

__all__ = ["OwnedTasks"]

T = TypeVar("T")


class OwnedTasks:
    """The tasks of one owner."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    async def run(self, work: Coroutine[Any, Any, T], *, name: str) -> T | None:
        """Return the result of `work`; None if `aclose` ended it. It is cancelled with the caller,
        and has ended then."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        try:
            await asyncio.wait([task])
        finally:
            await cancel(task)
            self._tasks.discard(task)
        return None if task.cancelled() else task.result()

    async def aclose(self) -> None:
        """Cancel the work that is being done, and wait for its end."""
        if self._tasks:
            await cancel(*self._tasks)

"""Workers that take one thing after another until there are no more."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["work_off"]

T = TypeVar("T")


async def work_off(
    take: Callable[[], Awaitable[T | None]], work: Callable[[T], Awaitable[None]], *, limit: int
) -> None:
    """Let `limit` workers do `work` for each thing that `take` returns, until it returns None.

    An error of either cancels the other workers, which are awaited, and is raised in a group.
    """

    async def worker() -> None:
        while (thing := await take()) is not None:
            await work(thing)

    async with asyncio.TaskGroup() as group:
        for _ in range(limit):
            group.create_task(worker())

"""Forks of one sandbox: the ownership of their image, from its writing to its removal.

1. While the image is written and the forks are made, the task that makes them owns it, by a lock.
   If that fails, it removes the image; if its process is killed, the reaper or a sweep does.
2. After that the forks own it together: removing the last of them removes the image. It
   does not matter what becomes of the sandbox that they were made from.
3. What then ends without its owner (by its lease, or on an engine that restarted) leaves the image
   to the next sweep of the same host.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from paddock._concurrency import finish
from paddock.backends.docker.containers import commits
from paddock.backends.docker.containers.plan import ContainerPlan
from paddock.backends.docker.engine.client import Engine
from paddock.sandbox import Sandbox

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Forks", "Make", "Planned"]

Planned = Callable[[str], ContainerPlan]
"""Plans the container of a sandbox of this name; blocks."""
Make = Callable[[Engine, Planned], Awaitable[Sandbox]]
"""Makes a sandbox; if it fails or is cancelled, nothing of it is left."""


class Forks:
    """Makes forks of the container that `plan` describes."""

    def __init__(self, engine: Engine, plan: ContainerPlan, make: Make) -> None:
        self._engine = engine
        self._plan = plan
        self._make = make

    async def make(self, count: int, made: commits.Made) -> list[Sandbox]:
        """Make `count` forks, or none if one of them fails."""
        if not count:
            return []
        async with commits.committed(self._engine, self._plan.container, {}, made) as image:
            planned = functools.partial(self._plan.for_fork, image, guest_is_root=not made.changed)
            making = [
                asyncio.ensure_future(self._make(self._engine, planned)) for _ in range(count)
            ]
            try:
                await asyncio.gather(*making, return_exceptions=True)
                return [task.result() for task in making]
            except BaseException:
                await finish(_close_all(making))
                raise


async def _close_all(making: Sequence[asyncio.Future[Sandbox]]) -> None:
    for task in making:
        task.cancel()
    await asyncio.wait(making)
    made = [task.result() for task in making if not task.cancelled() and not task.exception()]
    await asyncio.gather(*(sandbox.aclose() for sandbox in made), return_exceptions=True)

"""Several sandboxes with one prepared state, each of which can be brought back to it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self

from paddock._concurrency import AsyncResource, finish
from paddock.errors import ConfigError, SandboxClosed
from paddock.sandbox import Capability

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
    from typing import Any

    from paddock.sandbox import Sandbox

__all__ = ["SandboxGroup"]

AT_ONCE = 8
"""Sandboxes that are made at once where each is prepared by itself."""


class SandboxGroup(AsyncResource):
    """`size` sandboxes of one recipe. Made by `Backend.group`; used as ``async with``.

    The recipe is carried out once, and the sandboxes are forks of what it made; where a backend
    cannot fork, each sandbox is prepared by itself. Leaving the block takes all of them down.
    """

    def __init__(self, create: Callable[[], Coroutine[Any, Any, Sandbox]], *, size: int) -> None:
        if size < 1:
            raise ConfigError("size: give at least 1")
        self._create = create
        self._size = size
        self._origin: Sandbox | None = None
        """What the sandboxes are forked from; no command runs in it."""
        self._sandboxes: list[Sandbox] = []
        self._opened = False

    @property
    def sandboxes(self) -> tuple[Sandbox, ...]:
        """The sandboxes. The group owns them; `reset` replaces one at its place."""
        return tuple(self._sandboxes)

    async def reset(self, sandbox: Sandbox) -> Sandbox:
        """Bring one back to the prepared state; return the sandbox that is in its place now.

        What ran in `sandbox` is gone, and it is closed. If making the next one fails, the error is
        raised and `reset` can be called again. Different ones may be reset at the same time.
        """
        self._require(sandbox)
        await sandbox.aclose()
        (fresh,) = await self._make(1)
        try:
            self._require(sandbox)
        except BaseException:  # the group was closed, or the sandbox reset twice, meanwhile
            await fresh.aclose()
            raise
        self._sandboxes[self._sandboxes.index(sandbox)] = fresh
        return fresh

    def _require(self, sandbox: Sandbox) -> None:
        """Raise unless the group is open, and the sandbox has a place in it."""
        if not self._opened or self.closed:
            raise SandboxClosed("the group is not open")
        if sandbox not in self._sandboxes:
            raise ConfigError("the sandbox is not one of the group, or was reset before")

    async def __aenter__(self) -> Self:
        if self._opened:
            raise SandboxClosed("a group is opened once")
        self._opened = True
        try:
            first = await self._create()
            if Capability.FORK in first.capabilities:
                self._origin = first
                self._sandboxes += await self._make(self._size)
            else:
                self._sandboxes.append(first)
                self._sandboxes += await self._make(self._size - 1)
        except BaseException:
            await finish(self.aclose())
            raise
        return self

    async def _make(self, count: int) -> list[Sandbox]:
        """Make `count` sandboxes in the prepared state: all or none."""
        if self._origin is not None:
            return await self._origin.fork(count)
        room = asyncio.Semaphore(AT_ONCE)

        async def one() -> Sandbox:
            async with room:
                return await self._create()

        return await _all_or_none([one for _ in range(count)])

    async def _close(self) -> None:
        ours = [*self._sandboxes, *([] if self._origin is None else [self._origin])]
        await _close_all(ours)


async def _all_or_none(makers: list[Callable[[], Awaitable[Sandbox]]]) -> list[Sandbox]:
    tasks = [asyncio.ensure_future(make()) for make in makers]
    try:
        return list(await asyncio.gather(*tasks))
    except BaseException:
        for task in tasks:
            task.cancel()
        ended = await finish(_settled(tasks))
        await finish(_close_all(each for each in ended if not isinstance(each, BaseException)))
        raise


async def _settled(tasks: Sequence[asyncio.Future[Sandbox]]) -> list[Sandbox | BaseException]:
    return await asyncio.gather(*tasks, return_exceptions=True)


async def _close_all(sandboxes: Iterable[Sandbox]) -> None:
    """Close all, whatever happens with one of them; raise what happened in a group."""
    ended = await asyncio.gather(*(each.aclose() for each in sandboxes), return_exceptions=True)
    errors = [each for each in ended if isinstance(each, BaseException)]
    if errors:
        raise BaseExceptionGroup("sandboxes of a group could not be taken down", errors)

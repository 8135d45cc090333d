"""A sandbox with nothing in it, for a pool."""

from __future__ import annotations

import asyncio
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, NoReturn

from paddock._frozen import FrozenMapping
from paddock.sandbox import Sandbox

if TYPE_CHECKING:
    from paddock.sandbox import Command


__all__ = ["Empty"]


class Empty(Sandbox):
    """A sandbox with nothing in it: what a pool sees of one."""

    def __init__(self, name: str) -> None:
        self.id = name
        self.backend = "none"
        self.working_dir = PurePosixPath("/")
        self.env = self.labels = FrozenMapping()
        self.capabilities = frozenset()
        self.dead = False
        self.down = False

    @property
    def lost(self) -> bool:
        return super().lost or self.dead

    async def _start(self, command: Command) -> NoReturn:
        raise AssertionError("nobody runs anything here")

    async def _close(self) -> None:
        await asyncio.sleep(0)
        self.down = True

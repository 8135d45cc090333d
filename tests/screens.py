"""A terminal of a sandbox as a person sees it: what is typed, and the screen."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pyte

from paddock import Pty

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from paddock.sandbox import Process, Sandbox

SHOWN = 60.0
"""Seconds in which a program shows what it is to show, on a machine that is very busy."""


class Terminal:
    """One process and its screen."""

    def __init__(self, process: Process, pty: Pty) -> None:
        self.process = process
        self.raw = b""
        self._screen = pyte.Screen(pty.cols, pty.rows)
        self._stream = pyte.ByteStream(self._screen)
        self._changed = asyncio.Event()

    async def read(self) -> None:
        async for stream, data in self.process.output():
            assert stream == "stdout"
            self.raw += data
            self._stream.feed(data)
            self._changed.set()

    @property
    def lines(self) -> list[str]:
        return [line.rstrip() for line in self._screen.display]

    @property
    def text(self) -> str:
        """All lines; a prompt's last space is there, as the lines are filled up with spaces."""
        return "\n".join(self._screen.display)

    async def type(self, text: str) -> None:
        await self.process.send(text.encode())

    async def resize(self, rows: int, cols: int) -> None:
        self._screen.resize(rows, cols)
        await self.process.resize(rows, cols)

    async def until(self, seen: str | Callable[[str], bool]) -> None:
        """Wait until the screen shows it."""
        shows = (lambda text: seen in text) if isinstance(seen, str) else seen
        try:
            async with asyncio.timeout(SHOWN):
                while not shows(self.text):
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise AssertionError(f"waited for {seen!r}; the screen shows:\n{self.text}") from None


@contextlib.asynccontextmanager
async def terminal(
    sandbox: Sandbox, command: str | Sequence[str], pty: Pty | None = None
) -> AsyncIterator[Terminal]:
    """Run a command in a terminal of the sandbox; its tree ends with the block."""
    pty = pty or Pty()
    async with await sandbox.start(command, pty=pty) as process:
        shown = Terminal(process, pty)
        reading = asyncio.create_task(shown.read())
        try:
            yield shown
        finally:
            reading.cancel()
            await asyncio.wait([reading])

"""Telling a client that a call is still at work."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from typing import TYPE_CHECKING

from paddock._concurrency import cancel
from paddock.runtime.core.text import clean_text

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from paddock.runtime.mcp.toolbox import Report

__all__ = ["reporting"]

BEAT = 5.0
"""Seconds between two messages of a call that says nothing itself. Clients that count the time
without a message give up after 30 seconds or more."""

MAX_WAITING = 100
"""Reports that wait to be sent; older ones are dropped: a tool may report faster than a client
reads."""

MAX_TEXT = 2000
"""Characters of one report: a line or two for a person."""


@contextlib.asynccontextmanager
async def reporting(
    send: Callable[[float, float | None, str | None], Awaitable[None]],
) -> AsyncIterator[Report]:
    """Yield what takes reports from any thread while the block runs; `send` is called with each,
    and every `BEAT` seconds. Nothing is sent after the block."""
    pump = _Pump(send)
    task = asyncio.create_task(pump.run(), name="progress of a tool")
    try:
        yield pump.report
    finally:
        await cancel(task)


class _Pump:
    def __init__(self, send: Callable[[float, float | None, str | None], Awaitable[None]]) -> None:
        self._send = send
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[str] = deque(maxlen=MAX_WAITING)
        self._news = asyncio.Event()
        self._began = time.monotonic()

    def report(self, text: str) -> None:
        self._waiting.append(clean_text(text[:MAX_TEXT]))
        with contextlib.suppress(RuntimeError):  # the loop was closed: nobody listens
            self._loop.call_soon_threadsafe(self._news.set)

    async def run(self) -> None:
        number = 0  # what MCP calls progress has to grow
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(BEAT):
                    await self._news.wait()
            self._news.clear()
            while True:
                number += 1
                await self._send(number, None, self._next())
                if not self._waiting:
                    break

    def _next(self) -> str:
        if self._waiting:
            return self._waiting.popleft()
        return f"running for {time.monotonic() - self._began:.0f} s"

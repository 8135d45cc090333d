"""What comes from a runtime, read ahead of the callbacks that it is given to."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from typing import TYPE_CHECKING, Any

from paddock._concurrency import cancel
from paddock.runtime.remote.messages import is_terminal

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

__all__ = ["ReadAhead"]

MAX_AHEAD = 16 * 1024 * 1024
"""Bytes of messages, about, that are read before their callbacks have run. One may be larger."""
VALUE_SIZE = 100
"""Bytes that a value takes in memory beside its characters, about."""


class ReadAhead:
    """Messages of a generator that a task reads: a caller that stops waiting ends nothing.

    The task reads `MAX_AHEAD` bytes ahead of the caller and no more.
    """

    def __init__(self, messages: AsyncGenerator[dict[str, Any], None]) -> None:
        self._messages = messages
        self._waiting: deque[tuple[dict[str, Any], int]] = deque()
        self._ahead = 0
        self._changed = asyncio.Event()
        self._room = asyncio.Event()
        self._is_over = False
        self.has_ended_well = False
        """Whether the terminal message was given out."""
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        try:
            async for message in self._messages:
                size = _size(message)
                self._waiting.append((message, size))
                self._ahead += size
                self._changed.set()
                while self._ahead >= MAX_AHEAD:
                    self._room.clear()
                    await self._room.wait()
        finally:
            self._is_over = True
            self._changed.set()

    def wake(self) -> None:
        """Have `next` return now."""
        self._changed.set()

    async def next(self, limit: float | None) -> dict[str, Any] | None:
        """Return the next message; None if none came within `limit` seconds, or after `wake`.

        Raise `StopAsyncIteration` at the end, or what ended the stream.
        """
        if not self._waiting and not self._is_over:
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(limit):
                    await self._changed.wait()
        if self._waiting:
            message, size = self._waiting.popleft()
            self._ahead -= size
            self._room.set()
            if is_terminal(message):
                self.has_ended_well = True
            return message
        if self._is_over:
            await asyncio.wait([self._reading])
            if not self._reading.cancelled() and (error := self._reading.exception()) is not None:
                raise error
            raise StopAsyncIteration
        return None

    async def aclose(self) -> None:
        """Stop reading, and close the generator."""
        await cancel(self._reading)
        await self._messages.aclose()


def _size(message: object) -> int:
    """Return about how many bytes of memory a message takes. Its nesting may be deep."""
    total, found = 0, [message]
    while found:
        value = found.pop()
        total += VALUE_SIZE
        if isinstance(value, str):
            total += len(value)
        elif isinstance(value, dict):
            found.extend(value)
            found.extend(value.values())
        elif isinstance(value, list):
            found.extend(value)
    return total

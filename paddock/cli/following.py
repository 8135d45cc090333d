"""The records of a trace as somebody else appends them.

Reads whole lines only, a bounded piece at a time, takes no lock while anything is written,
and changes nothing. Knows no terminal.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

from paddock.errors import TraceError
from paddock.runtime.trace import read_records

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from paddock.runtime.directory import SessionDirectory
    from paddock.runtime.records import Record

__all__ = ["follow"]

INTERVAL = 0.1
"""Seconds between two looks at the file: at once for a person, and little work."""

QUIET_LOOKS = 5
"""Looks at which nothing was new before it is asked whether anybody still writes."""

CONTEXT = 16 * 1024
"""Bytes of what was there before that are shown first."""

PIECE = 1024 * 1024
"""Bytes read at once."""


async def follow(directory: SessionDirectory) -> AsyncIterator[list[Record]]:
    """The last records of the session, then each that is added, until nobody writes it.

    Raises `TraceError` for what is no record.
    """
    tail = _Tail(directory)
    quiet = QUIET_LOOKS  # a session that has ended is not waited for
    while True:
        if records := await asyncio.to_thread(tail.read):
            quiet = 0
            yield records
        elif quiet < QUIET_LOOKS:
            quiet += 1
            await asyncio.sleep(INTERVAL)
        elif not await asyncio.to_thread(directory.locked):
            break
        else:
            quiet = 0
            await asyncio.sleep(INTERVAL)
    if records := await asyncio.to_thread(tail.read):  # written before the lock was let go
        yield records


class _Tail:
    """How far a trace was read."""

    def __init__(self, directory: SessionDirectory) -> None:
        self._path = directory.trace
        self._at: int | None = None
        self._is_cut = False
        self._rest = b""

    def read(self) -> list[Record]:
        """The records that are new; a piece of them, where there are many."""
        try:
            with self._path.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                if self._at is None:
                    self._begin(size)
                elif size < self._at + len(self._rest):
                    self._rest = b""  # what was torn is cut off by the next writer
                start = self._at or 0
                file.seek(start + len(self._rest))
                data = self._rest + file.read(PIECE)
        except FileNotFoundError:
            return []
        lines, newline, rest = data.rpartition(b"\n")
        self._rest = rest
        if not newline:
            return []
        self._at = start + len(lines) + 1
        return self._decode(lines, start)

    def _begin(self, size: int) -> None:
        self._at = max(0, size - CONTEXT)
        self._is_cut = self._at > 0

    def _decode(self, lines: bytes, start: int) -> list[Record]:
        if self._is_cut:  # in the middle of a line
            self._is_cut = False
            lines = lines.partition(b"\n")[2]
        try:
            return read_records(lines + b"\n").records
        except TraceError as error:
            raise TraceError(f"{self._path}, after byte {start}: {error}") from error

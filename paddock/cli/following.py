"""The records of a trace as somebody else appends them.

Reads whole lines only, a bounded piece at a time, takes no lock while anything is written,
and changes nothing. Knows no terminal.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, BinaryIO

from paddock.errors import TraceError
from paddock.runtime.conversation.directory import TRACE
from paddock.runtime.conversation.trace import MAX_LINE, read_records

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from paddock.runtime.conversation.directory import SessionDirectory
    from paddock.runtime.conversation.records import Record

__all__ = ["follow"]

INTERVAL = 0.1
"""Seconds between two looks at the file: at once for a person, and little work."""

QUIET_LOOKS = 5
"""Looks at which nothing was new before it is asked whether anybody still writes."""

CONTEXT = 16 * 1024
"""Bytes of what was there before that are shown first."""

PIECE = 1024 * 1024
"""Bytes read at once."""


async def follow(directory: SessionDirectory) -> AsyncGenerator[list[Record], None]:
    """The last records of the session, then each that is added, until no process writes it.

    Raises `TraceError` for what is no record.
    """
    tail = _Tail(directory)
    quiet = QUIET_LOOKS  # a session that has ended is not waited for
    ended = False
    while True:
        records = await asyncio.to_thread(tail.read)
        if records is not None:
            quiet = 0
            yield records
        elif ended:
            return
        elif quiet < QUIET_LOOKS:
            quiet += 1
            await asyncio.sleep(INTERVAL)
        else:
            quiet = 0
            # What was written before the lock was let go is there to be read now.
            ended = not await asyncio.to_thread(directory.locked)


class _Tail:
    """How far a trace was read: up to byte `_at`, where a line begins, but for the first."""

    def __init__(self, directory: SessionDirectory) -> None:
        self._directory = directory
        self._at: int | None = None
        self._is_cut = False

    def read(self) -> list[Record] | None:
        """The records that are new, a piece of them where there are many; None if nothing is.

        A line that is not whole yet is read again: a torn one is cut off by the next writer.
        """
        try:
            with self._directory.files.open_reader(TRACE) as file:
                start = self._begin(os.fstat(file.fileno()).st_size)
                file.seek(start)
                lines = _whole_lines(file)
        except FileNotFoundError:
            return None
        if not lines:
            return None
        self._at = start + len(lines)
        if self._is_cut:
            self._is_cut = False
            lines = lines.partition(b"\n")[2]
        try:
            return read_records(lines).records
        except TraceError as error:
            raise TraceError(f"{self._directory.trace}, after byte {start}: {error}") from error

    def _begin(self, size: int) -> int:
        """Where to read from. A trace that became shorter is another one."""
        if self._at is None or self._at > size:
            self._at = max(0, size - CONTEXT)
            self._is_cut = self._at > 0  # in the middle of a line
        return self._at


def _whole_lines(file: BinaryIO) -> bytes:
    """The lines that end in the next piece, or in so many pieces as the first one takes."""
    data = b""
    while piece := file.read(PIECE):
        data += piece
        if b"\n" in piece:
            break
        if len(data) > MAX_LINE:
            raise TraceError(f"a record has no end within {MAX_LINE} bytes")
    return data[: data.rfind(b"\n") + 1]

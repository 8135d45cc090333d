"""Reads lines of files and searches them, for sandboxes that cannot do it inside.

It runs as a process of its own on this machine, because a regular expression may take for
ever and its caller must be able to end it. Its stdin is one line of JSON, the order, and
then the contents of the files; each but a single one is followed by the order's separator,
which holds a NUL and so occurs in no text. Its stdout is JSON, a value a line.
"""

from __future__ import annotations

import io
import json
import re
import sys
from typing import IO, TYPE_CHECKING, Any

from ..guest.inside.jobs import emit, lines_of
from ..guest.inside.search import file_hits, limited

if TYPE_CHECKING:
    from collections.abc import Iterator

    Order = dict[str, Any]

__all__ = ["main"]

PIECE = 256 * 1024


def main() -> None:
    """Do what stdin says."""
    with open(0, "rb", closefd=False) as stream:
        order = json.loads(stream.readline())
        if "pattern" in order:
            emit(limited(_files_with_hits(order, stream), order["limit"]))
        else:
            emit([lines_of(stream, order)])


def _files_with_hits(order: Order, stream: IO[bytes]) -> Iterator[list[Any]]:
    pattern = re.compile(order["pattern"], re.IGNORECASE if order["ignore_case"] else 0)
    contents = _Contents(stream, order["separator"].encode())
    for name in order["names"]:
        file = io.BufferedReader(contents, PIECE)
        yield file_hits(file, name, pattern, order)
        while file.read1(PIECE):
            pass
        file.detach()
        contents.next()


class _Contents(io.RawIOBase):
    """One file after the other; each ends where its separator is."""

    def __init__(self, stream: IO[bytes], separator: bytes) -> None:
        self._stream = stream
        self._separator = separator
        self._buffer = bytearray()
        self._ended = False

    def next(self) -> None:
        self._ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, into: Any) -> int:
        if self._ended:
            return 0
        while True:
            at = self._buffer.find(self._separator)
            ready = at if at >= 0 else len(self._buffer) - len(self._separator) + 1
            if at >= 0 or ready > 0:
                break
            more = self._stream.read1(PIECE)  # type: ignore[attr-defined]
            if not more:
                sys.exit(1)  # the contents were cut off; what was found so far is not all
            self._buffer += more
        if at == 0:
            del self._buffer[: len(self._separator)]
            self._ended = True
            return 0
        size = min(len(into), ready)
        into[:size] = self._buffer[:size]
        del self._buffer[:size]
        return size

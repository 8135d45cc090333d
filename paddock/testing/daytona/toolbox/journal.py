"""What a session's command has written, line by line, each with the mark of its stream.

As in the daemon: NULs are dropped, a last line without its end gets one, and how the streams
mix is a matter of luck. Held in memory for as long as the session lives.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from paddock.testing.daytona.toolbox.pipes import CHUNK

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from paddock.testing.daytona.toolbox.pipes import Outlet

__all__ = ["STDERR", "STDOUT", "Journal"]

STDOUT = b"\x01\x01\x01"
STDERR = b"\x02\x02\x02"


class Journal:
    """Grows until it is closed; any number of readers follow it from its start."""

    def __init__(self) -> None:
        self._content = bytearray()
        self._closed = False
        self._changed = asyncio.Event()

    def append(self, data: bytes) -> None:
        self._content += data
        self._tell()

    def close(self) -> None:
        """Let the followers come to their end."""
        self._closed = True
        self._tell()

    async def label(self, outlet: Outlet, mark: bytes) -> None:
        """Append the lines that come out, until its writers have closed."""
        rest = b""
        while data := await outlet.read():
            *lines, rest = (rest + data.replace(b"\0", b"")).split(b"\n")
            self.append(b"".join(mark + line + b"\n" for line in lines))
        if rest:
            self.append(mark + rest + b"\n")

    async def follow(self) -> AsyncIterator[bytes]:
        """All that was written and will be, by the chunk; ends when the journal is closed."""
        seen = 0
        while True:
            changed = self._changed
            if seen < len(self._content):
                piece = bytes(self._content[seen : seen + CHUNK])
                seen += len(piece)
                yield piece
            elif self._closed:
                return
            else:
                await changed.wait()

    def as_json(self) -> dict[str, str]:
        """The whole, marks included, and each stream without them."""
        content = bytes(self._content)
        lines = [line + b"\n" for line in content.split(b"\n")[:-1]]
        return {
            "output": _text(content),
            "stdout": _text(b"".join(_of(lines, STDOUT))),
            "stderr": _text(b"".join(_of(lines, STDERR))),
        }

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


def _of(lines: list[bytes], mark: bytes) -> list[bytes]:
    return [line.removeprefix(mark) for line in lines if line.startswith(mark)]


def _text(data: bytes) -> str:
    return data.decode(errors="replace")

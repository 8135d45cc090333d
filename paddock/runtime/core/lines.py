"""Lines out of pieces of any size."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["LineBuffer"]


class LineBuffer:
    """Keeps the beginning of a line until its end comes.

    Looks at each byte once: a peer that sends a long line in small pieces costs no more than one
    that sends many lines.
    """

    def __init__(self) -> None:
        self._rest = bytearray()

    def __len__(self) -> int:
        """Return the number of bytes of the line that has not ended."""
        return len(self._rest)

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Take `data`; return the lines that have ended, without their ends."""
        end = data.rfind(b"\n")
        if end < 0:
            self._rest += data
            return iter(())
        lines = bytes(self._rest) + data[:end]
        self._rest = bytearray(data[end + 1 :])
        return iter(lines.split(b"\n"))

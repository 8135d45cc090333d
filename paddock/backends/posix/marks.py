"""A command's output, and between it what its wrapper says; no I/O."""

from __future__ import annotations

__all__ = ["Mark", "Marks"]

Mark = tuple[str, ...]
"""The words of a mark, without the key that makes it one."""

LONGEST = 256
"""Bytes; what begins like a mark and has not ended by then is output."""


class Marks:
    """Bytes of one stream in, output and marks out.

    A mark is a NUL, the key, its words, and a NUL. A command that prints such a thing
    itself deceives only the callers that look at that command.
    """

    def __init__(self, key: str) -> None:
        self._start = b"\0" + key.encode() + b" "
        self._held = b""

    def feed(self, data: bytes) -> list[bytes | Mark]:
        found: list[bytes | Mark] = []
        data = self._held + data
        while True:
            at = data.find(self._start)
            if at < 0:
                at = len(data) - self._begun(data)
                break
            end = data.find(b"\0", at + 1)
            if end < 0 and len(data) - at <= LONGEST:
                break
            if end < 0 or end - at > LONGEST:
                end = at + len(self._start)
                found.append(data[:end])
                data = data[end:]
                continue
            if at:
                found.append(data[:at])
            found.append(tuple(data[at + len(self._start) : end].decode("latin-1").split(" ")))
            data = data[end + 1 :]
        self._held = data[at:]
        if at:
            found.append(data[:at])
        return found

    def rest(self) -> bytes:
        """What was held back because a mark might have begun; the stream has ended."""
        held, self._held = self._held, b""
        return held

    def _begun(self, data: bytes) -> int:
        """How many of the last bytes may be the beginning of a mark."""
        at = data.rfind(b"\0", max(len(data) - len(self._start) + 1, 0))
        return len(data) - at if at >= 0 and self._start.startswith(data[at:]) else 0

"""When the sessions of a store were made, in one file, so that a list reads few of them.

The file only saves time: what it does not tell, or tells wrongly formed, is read from the
session itself. Each line is ``TIME ID``, and is added with one write.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from paddock._directory import PrivateDirectory

__all__ = ["SessionIndex"]

FILE_NAME = ".index"  # no session can have this name

UTC = "+00:00"

MAX_BYTES = 64 << 20
"""Bytes of an index that is read: a million sessions."""


class SessionIndex:
    """The index of the sessions in the directory `files`."""

    def __init__(self, files: PrivateDirectory) -> None:
        self._files = files

    def add(self, session_id: str, created_at: str) -> None:
        """Note a session that was made just now. `created_at` is in UTC, ISO 8601."""
        with contextlib.suppress(OSError):  # the session is there without it
            fd = self._files.open(FILE_NAME, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            try:
                os.write(fd, f"{created_at} {session_id}\n".encode())
            finally:
                os.close(fd)

    def read(self) -> dict[str, str]:
        """When each was made, by its id, as far as it is noted."""
        try:
            lines = self._files.read(FILE_NAME, MAX_BYTES).decode(errors="replace").splitlines()
        except OSError:  # not there, or not ours to read
            return {}
        pairs = (line.split(" ") for line in lines)
        return {pair[1]: pair[0] for pair in pairs if len(pair) == 2 and pair[0].endswith(UTC)}

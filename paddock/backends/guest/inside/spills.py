"""Where output goes that is more than a host keeps: files in a directory of the guest's own."""

from __future__ import annotations

import os
import stat

from .light import suppress
from .wire import STDOUT

TOTAL = 1024 * 1024 * 1024
"""Bytes of all spill files together: they stay until the sandbox ends."""


class Spills:
    """A directory that is there before any command runs, and is held open from then on.

    Its place may be writable for everybody, and commands may run as other users: what is made
    below a name there could be somebody else's directory, or a link.
    """

    def __init__(self) -> None:
        self.room = TOTAL
        self._path = ""
        self._folder: int | None = None
        self._count = 0

    def begin(self, path: str) -> None:
        """Make the directory, under another name where a stranger has taken this one.

        Where it cannot be made, nothing is spilled.
        """
        for place in (path, f"{path}-{os.urandom(8).hex()}"):
            with suppress(OSError):
                if not os.path.isdir(place):
                    os.makedirs(place, mode=0o711, exist_ok=True)
                folder = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
                if is_ours(folder):
                    self._path, self._folder = place, folder
                    return
                os.close(folder)

    def open(self, kind: int, readers: int | None) -> tuple[int, str]:
        """A new file for a stream, and its path; only the group `readers` may read it.

        Raise `OSError`.
        """
        if self._folder is None:
            raise FileNotFoundError("there is no directory for output")
        self._count += 1
        stream = "stdout" if kind == STDOUT else "stderr"
        name = f"{self._count}-{os.urandom(4).hex()}.{stream}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND
        fd = os.open(name, flags, 0o600, dir_fd=self._folder)
        if readers is not None:
            os.fchown(fd, -1, readers)
            os.fchmod(fd, 0o640)
        return fd, os.path.join(self._path, name)


def is_ours(folder: int) -> bool:
    """Whether only this process's user and root can write to a directory."""
    info = os.fstat(folder)
    return info.st_uid == os.geteuid() and not info.st_mode & (stat.S_IWGRP | stat.S_IWOTH)

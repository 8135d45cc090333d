"""What is common to requests and jobs about files. Used on both ends."""

from __future__ import annotations

import errno
import os
import stat

from .wire import INLINE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Body = dict[str, Any]

UNSIZED_MAX = 64 * 1024 * 1024
"""Bytes that are read of a file that says it has none: those of /proc have a few MiB at most."""
EXPECTED_MAX = 100 * 1024 * 1024
"""Bytes of a file that is compared with what was read of it: no call reads more in one piece."""


def write_all(fd: int, data: bytes | bytearray | memoryview) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def write_sparsely(fd: int, data: bytes | bytearray | memoryview) -> None:
    """Write `data`; what is zeros becomes a hole. The writer sets the file's size at the end."""
    if data and not data[0] and not data[-1] and bytes(data) == bytes(len(data)):
        os.lseek(fd, len(data), os.SEEK_CUR)
    else:
        write_all(fd, data)


def describe(error: BaseException) -> Body:
    """An exception as the wire has it."""
    if isinstance(error, OSError) and error.errno is not None:
        path = error.filename
        if isinstance(path, bytes):
            path = os.fsdecode(path)
        return {"errno": error.errno, "text": error.strerror or "", "path": path}
    kind = "ValueError" if isinstance(error, ValueError) else type(error).__name__
    return {"kind": kind, "text": str(error)}


def open_regular(path: str, *, dir_fd: int | None = None) -> int:
    """Open a regular file for reading; never blocks on a pipe, never opens a device."""
    refuse_special(os.stat(path, dir_fd=dir_fd).st_mode, path)
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY, dir_fd=dir_fd)
    try:
        refuse_special(os.fstat(fd).st_mode, path)
    except OSError:
        os.close(fd)
        raise
    return fd


def refuse_special(mode: int, path: str) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "Not a regular file", path)


def length_of(fd: int) -> int:
    """How much of a file is read to its end: what it has now, as it may grow without end."""
    return os.fstat(fd).st_size or UNSIZED_MAX


def digest(path: str, *, dir_fd: int | None = None) -> str | None:
    """SHA-256 of a file's contents; None if it is gone, or larger than any that was read."""
    try:
        fd = open_regular(path, dir_fd=dir_fd)
    except FileNotFoundError:
        return None
    import hashlib  # loads OpenSSL, which a guest's start need not wait for

    total = hashlib.sha256()
    with open(fd, "rb", buffering=0) as file:
        if os.fstat(fd).st_size > EXPECTED_MAX:
            return None
        for piece in iter(lambda: file.read(INLINE), b""):
            total.update(piece)
    return total.hexdigest()


def entry(path: str, info: os.stat_result) -> list[Any]:
    """One file as the wire has it: path, kind, size, mode, time of change, user and group."""
    mode = info.st_mode
    if stat.S_ISREG(mode):
        kind = "file"
    elif stat.S_ISDIR(mode):
        kind = "directory"
    elif stat.S_ISLNK(mode):
        kind = "symlink"
    else:
        kind = "other"
    times = stat.S_IMODE(mode), info.st_mtime
    return [path, kind, info.st_size, *times, info.st_uid, info.st_gid]

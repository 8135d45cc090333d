"""Files by one short request each; runs in the guest's own process, so nothing here may block."""

from __future__ import annotations

import contextlib
import errno
import os
import stat

from .wire import INLINE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Body = dict[str, Any]
    Answer = tuple[Body, bytes]

UNSIZED_MAX = 64 * 1024 * 1024
"""Bytes that are read of a file that says it has none: those of /proc have a few MiB at most."""
EXPECTED_MAX = 100 * 1024 * 1024
"""Bytes of a file that is compared with what was read of it: nobody reads more in one piece."""


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


def read(body: Body, blob: bytes) -> Answer:
    fd = open_regular(body["path"])
    try:
        data = os.pread(fd, min(body["limit"], INLINE), body["offset"])
        return {"size": os.fstat(fd).st_size}, data
    finally:
        os.close(fd)


def write(body: Body, blob: bytes) -> Answer:
    writer = Replacement(body["path"])
    try:
        writer.write(blob)
        writer.commit(exclusive=body["exclusive"], expect=body.get("expect"))
    finally:
        writer.close()
    return {}, b""


class Replacement:
    """A file that takes the place of another in one step, or leaves no trace.

    The directory is opened once, so that a name which is swapped meanwhile leads nowhere.
    A link at `path` stays and what it points to is replaced, unless `follow` is false.
    """

    def __init__(self, path: str, *, follow: bool = True) -> None:
        folder, self._name = os.path.split(os.path.realpath(path) if follow else path)
        os.makedirs(folder or ".", exist_ok=True)
        self._folder: int | None = os.open(folder or ".", os.O_RDONLY | os.O_DIRECTORY)
        self.fd: int | None = None
        self.size = 0
        try:
            self.mode = self._mode_of_old(path, follow)
            # A name of 255 bytes has no room for a suffix, so the stem is not part of it.
            self._temporary: str | None = ".paddock-" + os.urandom(6).hex()
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
            self.fd = os.open(self._temporary, flags, 0o666, dir_fd=self._folder)
        except BaseException:
            os.close(self._folder)
            raise

    def _mode_of_old(self, path: str, follow: bool) -> int | None:
        try:
            old = os.stat(self._name, dir_fd=self._folder, follow_symlinks=False)
        except FileNotFoundError:
            return None
        if stat.S_ISLNK(old.st_mode):
            if follow:  # links that lead in a circle, or one that was just put here
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
            return None
        refuse_special(old.st_mode, path)
        return stat.S_IMODE(old.st_mode) & 0o777

    def write(self, data: bytes | memoryview) -> None:
        assert self.fd is not None, "written to after its end"
        write_sparsely(self.fd, data)
        self.size += len(data)

    def commit(self, *, exclusive: bool = False, expect: str | None = None) -> None:
        """Put the file in its place; `expect` is the SHA-256 of what has to be there."""
        assert self.fd is not None, "committed after its end"
        assert self._temporary is not None, "committed twice"
        os.ftruncate(self.fd, self.size)  # it may end in a hole
        if self.mode is not None:
            os.fchmod(self.fd, self.mode)
        self._close_fd()  # before the rename: some file systems tell of a full disk only now
        folder = self._folder
        if expect is not None and digest(self._name, dir_fd=folder) != expect:
            raise FileChanged(f"{self._name} is not as it was read")
        if exclusive:
            os.link(self._temporary, self._name, src_dir_fd=folder, dst_dir_fd=folder)
            os.unlink(self._temporary, dir_fd=folder)
        else:
            os.rename(self._temporary, self._name, src_dir_fd=folder, dst_dir_fd=folder)
        self._temporary = None

    def close(self) -> None:
        """Leave no trace, unless committed."""
        folder, self._folder = self._folder, None
        if folder is None:
            return
        try:
            self._close_fd()
        finally:
            if self._temporary is not None:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self._temporary, dir_fd=folder)
            os.close(folder)

    def _close_fd(self) -> None:
        fd, self.fd = self.fd, None
        if fd is not None:
            os.close(fd)


class FileChanged(Exception):
    """A file was to be replaced only if still as read, and it was not."""


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
    """One file as the wire has it: path, kind, size, permission bits, time of change."""
    mode = info.st_mode
    if stat.S_ISREG(mode):
        kind = "file"
    elif stat.S_ISDIR(mode):
        kind = "directory"
    elif stat.S_ISLNK(mode):
        kind = "symlink"
    else:
        kind = "other"
    return [path, kind, info.st_size, stat.S_IMODE(mode), info.st_mtime]


def stat_path(body: Body, blob: bytes) -> Answer:
    return {"entry": entry(body["path"], os.stat(body["path"]))}, b""


def make_directory(body: Body, blob: bytes) -> Answer:
    path = body["path"]
    if body["parents"]:
        os.makedirs(os.path.dirname(path), exist_ok=True)
    try:
        os.mkdir(path)
    except FileExistsError:
        if not (body["exist_ok"] and os.path.isdir(path)):
            raise
    return {}, b""


def remove(body: Body, blob: bytes) -> Answer:
    path = body["path"]
    if stat.S_ISDIR(os.lstat(path).st_mode):
        os.rmdir(path)
    else:
        os.unlink(path)
    return {}, b""


def move(body: Body, blob: bytes) -> Answer:
    os.rename(body["path"], body["to"])
    return {}, b""


def ping(body: Body, blob: bytes) -> Answer:
    """An answer, which is all that is asked for."""
    return {}, b""


OPERATIONS: dict[str, Callable[[Body, bytes], Answer]] = {
    "ping": ping,
    "read": read,
    "write": write,
    "stat": stat_path,
    "mkdir": make_directory,
    "remove": remove,
    "move": move,
}

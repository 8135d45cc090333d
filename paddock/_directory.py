"""Files of one directory, opened so that another writer there cannot lead us elsewhere.

Every call opens the directory itself, without following a link in its last component, and
then names files relative to that descriptor. Links, FIFOs, sockets and devices are refused;
nothing waits for a FIFO's other end. Before anything is written, the directory and the file
have to be ours alone. A refusal is a `PermissionError` that says what to do. Blocks, for as
long as the disk takes. Knows no session.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import stat
import time
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["FILE_MODE", "PrivateDirectory", "lock_file"]

FILE_MODE = 0o600
DIRECTORY_MODE = 0o700

_DIRECTORY_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW
_FILE_FLAGS = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
_WRITING = os.O_WRONLY | os.O_RDWR

_SQLITE_SUFFIXES = ("-journal", "-wal", "-shm")

LOCK_TIMEOUT = 10.0
"""Seconds to wait for the lock of a file. It is held for microseconds, so a process that holds it
longer is stopped or hangs, and nothing else ends such a wait."""

LOCK_INTERVAL = 0.01
"""Seconds between two tries to get it."""

_ATTEMPTS = 10
"""Times that an open is tried again because a file appeared or vanished meanwhile. Only
somebody who means to can do that more than once or twice."""


class PrivateDirectory:
    """The files directly below `path`, which need not exist yet.

    To be written, a directory has to be its user's own, and writable by no one else. If
    `shared`, it may be another's, and others may write it as long as they cannot replace
    our files there (as in /tmp, which is sticky): then only the files have to be ours.
    """

    def __init__(self, path: str | os.PathLike[str], *, shared: bool = False) -> None:
        self.path: Path = Path(path)
        self._shared = shared

    def make(self) -> None:
        """Make the directory and its missing parents (mode 0700), and check that it is ours."""
        missing = [each for each in (self.path, *self.path.parents) if not os.path.lexists(each)]
        for folder in reversed(missing):
            with contextlib.suppress(FileExistsError):
                folder.mkdir(mode=DIRECTORY_MODE)
        with self._opened(writing=True):
            pass

    def open(self, name: str, flags: int = os.O_RDONLY) -> int:
        """Open the regular file `name` and return its descriptor. New files have mode 0600.

        `flags` are those of `os.open`. Raises `FileNotFoundError`, and `PermissionError` for
        what is not a regular file, or, to be written, not ours alone.
        """
        writing = bool(flags & _WRITING)
        with self._opened(writing=writing) as directory:
            fd = self._open(name, flags, directory)
        try:
            self._check_file(name, os.fstat(fd), writing=writing)
        except BaseException:
            os.close(fd)
            raise
        return fd

    def open_reader(self, name: str) -> BinaryIO:
        """The regular file `name`, to be read. Raises as `open` does."""
        return os.fdopen(self.open(name), "rb")

    def read(self, name: str, limit: int) -> bytes:
        """The contents of `name`. Raises as `open`, and `OSError` (EFBIG) beyond `limit` bytes."""
        with self.open_reader(name) as file:
            data = file.read(limit + 1)
        if len(data) > limit:
            raise OSError(errno.EFBIG, f"larger than {limit} bytes", str(self.path / name))
        return data

    def exists(self, name: str) -> bool:
        """Whether there is a regular file called `name`. A link does not count."""
        try:
            with self._opened() as directory:
                found = os.stat(name, dir_fd=directory, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return stat.S_ISREG(found.st_mode)

    def touch(self, name: str) -> None:
        """Make the file `name` if there is none."""
        os.close(self.open(name, os.O_WRONLY | os.O_CREAT))

    def remove(self, name: str) -> None:
        """Remove the file `name`, or the link; nothing happens if there is none."""
        with (
            contextlib.suppress(FileNotFoundError),
            self._opened(writing=True) as directory,
        ):
            os.unlink(name, dir_fd=directory)

    def replace(self, name: str, data: bytes) -> None:
        """Write `data` to the file `name`, atomically: a reader sees the old one or the new one."""
        draft = f".{name}.{secrets.token_hex(4)}"
        with self._opened(writing=True) as directory:
            fd = self._open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, directory)
            try:
                with os.fdopen(fd, "wb") as file:
                    file.write(data)
                os.replace(draft, name, src_dir_fd=directory, dst_dir_fd=directory)
            except BaseException:
                os.unlink(draft, dir_fd=directory)
                raise

    def is_locked(self, name: str) -> bool:
        """Whether a process holds the file `name` at this moment; not if that cannot be seen."""
        try:
            fd = self.open(name)
        except OSError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(fd)
        return False

    def directories(self) -> list[str]:
        """The names of the directories in this one, links left out."""
        with self._opened() as directory, os.scandir(directory) as entries:
            return [each.name for each in entries if each.is_dir(follow_symlinks=False)]

    def prepare_database(self, name: str) -> None:
        """Make the file of an SQLite database, or check one that is there.

        SQLite opens it by its name, and the files that it keeps beside it. Raises as `open`.
        """
        with self._opened(writing=True) as directory, contextlib.suppress(FileExistsError):
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | _FILE_FLAGS
            os.close(os.open(name, flags, FILE_MODE, dir_fd=directory))
        self.check_database(name, writing=True)

    def check_database(self, name: str, *, writing: bool = False) -> None:
        """Check the file of an SQLite database, and those beside it. Raises as `open`.

        Opens none of them: closing it would drop the locks that SQLite holds on it in other
        threads of this process (fcntl(2)), and two processes would write at once.
        """
        with self._opened(writing=writing) as directory:
            for suffix in ("", *_SQLITE_SUFFIXES):
                try:
                    found = os.stat(name + suffix, dir_fd=directory, follow_symlinks=False)
                except FileNotFoundError:
                    if not suffix:
                        raise
                else:
                    self._check_file(name + suffix, found, writing=writing)

    def sync(self) -> None:
        """Return when the names of the files are on the disk."""
        with self._opened() as directory:
            os.fsync(directory)

    @contextlib.contextmanager
    def _opened(self, *, writing: bool = False) -> Iterator[int]:
        try:
            # A directory that is shared is a place that the user chose: links lead there.
            flags = _DIRECTORY_FLAGS & ~(os.O_NOFOLLOW if self._shared else 0)
            fd = os.open(self.path, flags)
        except OSError as error:
            # With O_DIRECTORY, a link is not a directory on Linux, and a loop elsewhere.
            if error.errno in (errno.ELOOP, errno.ENOTDIR) and self.path.is_symlink():
                raise self._refused(
                    "it is a symbolic link; give the directory's own path"
                ) from None
            raise
        try:
            if writing:
                self._check_directory(os.fstat(fd))
            yield fd
        finally:
            os.close(fd)

    def _check_directory(self, found: os.stat_result) -> None:
        if self._shared:
            if found.st_mode & stat.S_IWOTH and not found.st_mode & stat.S_ISVTX:
                raise self._refused("anybody can write it; run `chmod o-w` on it or choose another")
        elif found.st_uid != os.geteuid():
            raise self._refused(f"it belongs to user {found.st_uid}; choose one of your own")
        elif found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise self._refused("other users can write it; run `chmod go-w` on it")

    def _open(self, name: str, flags: int, directory: int) -> int:
        """A descriptor of `name`, which was no link and no device when it was looked at."""
        if name in ("", ".", "..") or "/" in name:
            raise ValueError(f"{name!r} is not the name of a file")
        for _ in range(_ATTEMPTS):
            try:
                found = os.stat(name, dir_fd=directory, follow_symlinks=False)
            except FileNotFoundError:
                if not flags & os.O_CREAT:
                    raise
                with contextlib.suppress(FileExistsError):
                    return os.open(
                        name, flags | os.O_EXCL | _FILE_FLAGS, FILE_MODE, dir_fd=directory
                    )
                continue
            if flags & os.O_EXCL:
                raise FileExistsError(errno.EEXIST, "it exists already", str(self.path / name))
            # Opening a device may do something by itself.
            self._check_file(name, found, writing=bool(flags & _WRITING))
            with contextlib.suppress(FileNotFoundError):
                return os.open(name, flags & ~os.O_CREAT | _FILE_FLAGS, dir_fd=directory)
        raise self._refused("it keeps changing while it is opened", name)

    def _check_file(self, name: str, found: os.stat_result, *, writing: bool) -> None:
        if stat.S_ISLNK(found.st_mode):
            raise self._refused("it is a symbolic link; remove it", name)
        if not stat.S_ISREG(found.st_mode):
            raise self._refused("it is not a regular file; remove it", name)
        if writing and found.st_uid != os.geteuid():
            raise self._refused(f"it belongs to user {found.st_uid}; remove it", name)
        if writing and found.st_nlink > 1:
            raise self._refused("it has other names (hard links); remove it", name)

    def _refused(self, why: str, name: str | None = None) -> PermissionError:
        path = self.path if name is None else self.path / name
        return PermissionError(errno.EPERM, f"not used: {why}", str(path))


def lock_file(fd: int, path: Path) -> None:
    """Lock a file whose other users hold it for microseconds; closing it unlocks it.

    Raises `TimeoutError` after `LOCK_TIMEOUT` seconds.
    """
    deadline = time.monotonic() + LOCK_TIMEOUT
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                why = f"another process has kept it locked for {LOCK_TIMEOUT:g} s"
                raise TimeoutError(errno.ETIMEDOUT, why, str(path)) from None
            time.sleep(LOCK_INTERVAL)
        else:
            return

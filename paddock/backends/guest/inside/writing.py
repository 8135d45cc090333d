"""New contents for files, which appear in one step or leave no trace.

Used on both ends. Rights and errors are those of open(2), as pathlib has them: a file that may
not be written is not replaced either.
"""

from __future__ import annotations

import errno
import os
import stat

from .files import digest, refuse_special, write_all, write_sparsely
from .light import contextmanager, suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY
"""A directory that is searched need not be readable."""
OLD = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY
NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
PERMISSIONS = 0o777
TEMPORARY = ".paddock-"
"""How names of files on their way begin."""
COPIED = 1024 * 1024
"""Bytes that are copied at once from one file to another."""
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class FileChanged(Exception):
    """A file was to be replaced only if still as read, and it was not."""


@contextmanager
def about(path: str) -> Iterator[None]:
    """Have errors name `path`, whichever name was used on the way."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, path) from None


def make_directories(path: str) -> None:
    """Make a directory and those above it, as far as they are missing, as pathlib does."""
    missing = []
    while True:
        try:
            os.mkdir(path)
            break
        except FileNotFoundError:
            missing.append(path)
            above = os.path.dirname(path)
            if above in ("", path):
                raise
            path = above
        except OSError:
            if not os.path.isdir(path):
                raise
            break
    for name in reversed(missing):
        with suppress(FileExistsError):  # somebody else made it meanwhile
            os.mkdir(name)


def open_folder(path: str) -> int:
    """Open the directory that a file is written in; make it if it is missing."""
    try:
        return os.open(path, FOLDER)
    except FileNotFoundError:
        make_directories(path)
        return os.open(path, FOLDER)


def spool(folder: str) -> int:
    """Open a file that has no name, for contents on their way, on the disk where they go.

    Where `folder` takes no new file, it is one for what is temporary, or else memory.
    """
    for place in (folder, os.environ.get("TMPDIR", "/tmp")):
        name = os.path.join(place, TEMPORARY + os.urandom(6).hex())
        try:
            fd = os.open(name, NEW, 0o600)
        except OSError as error:
            if error.errno in NO_ROOM:
                raise
        else:
            os.unlink(name)
            return fd
    return os.memfd_create(TEMPORARY)


def copy(source: int, target: int) -> None:
    """Write all that is in one file to another, which stands where it is to go."""
    os.lseek(source, 0, os.SEEK_SET)
    for piece in iter(lambda: os.read(source, COPIED), b""):
        write_all(target, piece)


class Writing:
    """Contents that are collected in `fd`, and go where they belong with `commit`."""

    fd: int
    size = 0

    def write(self, data: bytes | memoryview) -> None:
        write_sparsely(self.fd, data)
        self.size += len(data)


class Replacement(Writing):
    """The whole contents of a file.

    The directory is opened once, so that a name which is swapped meanwhile leads nowhere.
    A link at `path` stays and what it points to is written, unless `follow` is false.

    A file that is there is replaced by a new one of the same owner and mode, in one step. It is
    overwritten instead, at the end, where a new one would lose something or cannot be made: the
    file has other names (hard links), an owner that only root can give, or is mounted by itself,
    or its directory takes no new file.
    """

    def __init__(
        self,
        path: str,
        *,
        follow: bool = True,
        exclusive: bool = False,
        mode: int | None = None,
    ) -> None:
        self._path = path
        self._exclusive = exclusive
        self._temporary: str | None = None
        self._mode = mode
        """The permissions that a new file gets, or those of the one that was there."""
        self._old: int | None = None
        with about(path):
            if exclusive and os.path.lexists(path):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
            folder, self._name = os.path.split(os.path.realpath(path) if follow else path)
            self._folder = open_folder(folder or ".")
            try:
                self._old = self._open_old(follow)
                self.fd = self._open_new()
            except BaseException:
                self._close_folder()
                raise
        self._open = True
        self._in_place = self._old is not None and not self._replaceable()

    def _close_folder(self) -> None:
        os.close(self._folder)
        if self._old is not None:
            os.close(self._old)

    def _open_old(self, follow: bool) -> int | None:
        try:
            info = os.stat(self._name, dir_fd=self._folder, follow_symlinks=False)
        except FileNotFoundError:
            return None
        if stat.S_ISLNK(info.st_mode):
            if follow:  # links that lead in a circle, or one that was just put here
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
            return None
        refuse_special(info.st_mode, self._path)
        fd = os.open(self._name, OLD | os.O_NOFOLLOW, dir_fd=self._folder)
        self._mode = stat.S_IMODE(os.fstat(fd).st_mode) & PERMISSIONS
        return fd

    def _open_new(self) -> int:
        # A name of 255 bytes has no room for a suffix, so the stem is not part of it.
        name = TEMPORARY + os.urandom(6).hex()
        # Never open to more people than the file that it replaces.
        mode = 0o666 if self._mode is None else self._mode
        try:
            fd = os.open(name, NEW, mode, dir_fd=self._folder)
        except OSError as error:
            if self._old is None or error.errno in NO_ROOM:
                raise
            return spool(os.path.dirname(self._path))
        self._temporary = name
        return fd

    def _replaceable(self) -> bool:
        """Whether a new file loses nothing; gives it the old one's owner."""
        assert self._old is not None, "there is nothing to replace"
        old, new = os.fstat(self._old), os.fstat(self.fd)
        if self._temporary is None or old.st_nlink > 1:
            return False
        try:
            if (old.st_uid, old.st_gid) != (new.st_uid, new.st_gid):
                os.fchown(self.fd, old.st_uid, old.st_gid)
        except OSError:
            return False
        return True

    def commit(self, *, expect: str | None = None) -> None:
        """Put the contents in their place; `expect` is the SHA-256 of what has to be there."""
        with about(self._path):
            os.ftruncate(self.fd, self.size)  # it may end in a hole
            if expect is not None and digest(self._name, dir_fd=self._folder) != expect:
                raise FileChanged(f"{self._name} is not as it was read")
            if self._in_place:
                self._overwrite()
            else:
                self._replace()

    def _replace(self) -> None:
        assert self._temporary is not None, "committed twice"
        if self._mode is not None:
            os.fchmod(self.fd, self._mode)
        os.close(os.dup(self.fd))  # some file systems report a full disk only now
        old, new, folder = self._temporary, self._name, self._folder
        if self._exclusive:
            os.link(old, new, src_dir_fd=folder, dst_dir_fd=folder)
            return
        try:
            os.rename(old, new, src_dir_fd=folder, dst_dir_fd=folder)
        except OSError as error:
            if error.errno != errno.EBUSY or self._old is None:  # else it is mounted by itself
                raise
            self._overwrite()
        else:
            self._temporary = None

    def _overwrite(self) -> None:
        assert self._old is not None, "there is nothing to overwrite"
        make_room(self._old, self.size)
        os.lseek(self._old, 0, os.SEEK_SET)
        copy(self.fd, self._old)
        os.ftruncate(self._old, self.size)

    def close(self) -> None:
        """Leave no trace but what was committed."""
        if not self._open:
            return
        self._open = False
        try:
            if self._temporary is not None:
                with suppress(FileNotFoundError):
                    os.unlink(self._temporary, dir_fd=self._folder)
        finally:
            for fd in (self.fd, self._folder, self._old):
                if fd is not None:
                    os.close(fd)


class Addition(Writing):
    """What is added to the end of a file, which is made if it is missing."""

    def __init__(self, path: str, *, exclusive: bool = False, mode: int | None = None) -> None:
        self._path = path
        self._target: int | None = open_to_append(path, exclusive, 0o666 if mode is None else mode)
        try:
            self.fd = spool(os.path.dirname(os.path.realpath(path)))
        except BaseException:
            os.close(self._target)
            raise

    def commit(self, *, expect: str | None = None) -> None:
        assert self._target is not None, "committed after its end"
        with about(self._path):
            os.ftruncate(self.fd, self.size)
            add(self._target, self.fd)

    def close(self) -> None:
        target, self._target = self._target, None
        if target is not None:
            os.close(target)
            os.close(self.fd)


def open_to_append(path: str, exclusive: bool = False, mode: int = 0o666) -> int:
    with about(path):
        # Looked at first: a pipe would be opened, and a device might act on that.
        with suppress(FileNotFoundError):
            refuse_special(os.stat(path).st_mode, path)
        flags = OLD | os.O_APPEND | os.O_CREAT | (os.O_EXCL if exclusive else 0)
        try:
            fd = os.open(path, flags, mode)
        except FileNotFoundError:
            make_directories(os.path.dirname(os.path.realpath(path)))
            fd = os.open(path, flags, mode)
        try:
            refuse_special(os.fstat(fd).st_mode, path)
        except OSError:
            os.close(fd)
            raise
        return fd


def add(target: int, source: int) -> None:
    """Append a file's contents to another; if there is no room for all of them, none stays."""
    before = os.fstat(target).st_size
    try:
        copy(source, target)
    except OSError:
        os.ftruncate(target, before)
        raise


def make_room(fd: int, size: int) -> None:
    """Have the system refuse, before anything is changed, what would not fit."""
    before = os.fstat(fd).st_size
    if size <= before:
        return
    try:
        os.posix_fallocate(fd, before, size - before)
    except OSError as error:
        if error.errno in NO_ROOM:
            os.ftruncate(fd, before)
            raise  # others say that the file system has no such thing

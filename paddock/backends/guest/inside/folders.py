"""Directories by descriptor, so that a name which somebody swaps meanwhile leads nowhere.

Used on both ends. No function follows a link below the directory that it is given.
"""

from __future__ import annotations

import errno
import os
import stat

from .light import contextmanager, deque, suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Self

FOLDER = os.O_RDONLY | os.O_DIRECTORY
SAME = FOLDER | os.O_NOFOLLOW
KEPT = 32
"""Directories that a walk keeps open: few of the 1024 descriptors that a process may have."""


@contextmanager
def opened(path: str) -> Iterator[int]:
    """The directory `path`; links in it are followed, so it is one that the caller chose."""
    fd = os.open(path, FOLDER)
    try:
        yield fd
    finally:
        os.close(fd)


@contextmanager
def opened_below(top: int, path: str) -> Iterator[int]:
    """The directory `path` below `top`, as `open_below` has it."""
    fd = open_below(top, path)
    try:
        yield fd
    finally:
        os.close(fd)


def open_below(top: int, path: str) -> int:
    """Open the directory `path` (``""``, ``"a/b"``) below `top`, name by name.

    Raises `OSError` (ENOENT, ENOTDIR, ELOOP) if one of them is no directory by now.
    """
    folder = os.dup(top)
    for name in filter(None, path.split("/")):
        above = folder
        try:
            folder = os.open(name, SAME, dir_fd=above)
        finally:
            os.close(above)
    return folder


class Descent:
    """A walk through the directories below `top`, each opened from the one before it.

    A step down or up costs the same at any depth: beyond `KEPT` open directories the way up is
    ``..``. What that opens has to be the directory of the way down, by its number.
    """

    def __init__(self, top: int) -> None:
        self._top = top
        self._open: deque[int] = deque()
        """The last directories on the way to the current one, the deepest at the end."""
        self._closed: list[tuple[int, int]] = []
        """Those above it: device and inode."""
        self._names: list[str] = []

    @property
    def folder(self) -> int:
        """A descriptor of the current directory, which the next step may close."""
        return self._open[-1] if self._open else self._top

    def enter(self, folder: int, name: str) -> None:
        """Go on in `folder`, which was opened as `name` in the current directory."""
        self._open.append(folder)
        self._names.append(name)
        if len(self._open) > KEPT:
            oldest = self._open.popleft()
            self._closed.append(identity(oldest))
            os.close(oldest)

    def leave(self) -> str:
        """Go up; return the name of the directory that was left.

        Raise `OSError` (ENOENT) if the directory above is not the one that it was: somebody has
        moved what is below. Then the walk is over.
        """
        child = self._open.pop()
        try:
            if self._closed and not self._open:
                above = os.open("..", SAME, dir_fd=child)
                self._open.append(above)
                if identity(above) != self._closed.pop():
                    raise FileNotFoundError(errno.ENOENT, "The directory was moved meanwhile")
        finally:
            os.close(child)
        return self._names.pop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Go to the top."""
        while self._open:
            os.close(self._open.pop())
        self._closed.clear()
        self._names.clear()


class Trail(Descent):
    """The same by paths: a walk that stays near its last place costs a step each time."""

    def __init__(self, top: int) -> None:
        super().__init__(top)
        self._here = ""

    def at(self, path: str) -> int:
        """Return a descriptor of the directory `path`, which is closed by the next call.

        Raises `OSError` as `open_below` does.
        """
        try:
            while self._here and not f"{path}/".startswith(f"{self._here}/"):
                self._here = self._here[: -len(self.leave()) - 1]
        except OSError:
            self.close()  # begin at the top again, by name
        for name in filter(None, path[len(self._here) :].split("/")):
            self.enter(os.open(name, SAME, dir_fd=self.folder), name)
            self._here = join(self._here, name)
        return self.folder

    def close(self) -> None:
        super().close()
        self._here = ""


def identity(folder: int) -> tuple[int, int]:
    info = os.fstat(folder)
    return info.st_dev, info.st_ino


def join(folder: str, name: str) -> str:
    """Return the path of `name` in `folder`, where the top is ``""``."""
    return f"{folder}/{name}" if folder else name


def remove_tree(path: str, *, dir_fd: int | None = None) -> None:
    """Remove a file, a link, or a directory with all below it; never follows a link.

    Depth costs neither recursion nor descriptors, and no path becomes too long for the system.
    """
    if not stat.S_ISDIR(os.stat(path, dir_fd=dir_fd, follow_symlinks=False).st_mode):
        os.unlink(path, dir_fd=dir_fd)
        return
    top = open_to_empty(path, dir_fd)
    try:
        with Descent(top) as descent:
            empty(descent)
    finally:
        os.close(top)
    os.rmdir(path, dir_fd=dir_fd)


def empty(descent: Descent) -> None:
    """Remove all below the current directory, each directory after what is in it."""
    waiting = [remove_files(descent.folder)]
    while True:
        if waiting[-1]:
            name = waiting[-1].pop()
            descent.enter(open_to_empty(name, descent.folder), name)
            waiting.append(remove_files(descent.folder))
        else:
            waiting.pop()
            if not waiting:
                return
            name = descent.leave()
            os.rmdir(name, dir_fd=descent.folder)


def open_to_empty(name: str, dir_fd: int | None) -> int:
    """Open a directory to be emptied, whatever its permissions, if it is ours."""
    try:
        fd = os.open(name, SAME, dir_fd=dir_fd)
    except PermissionError:
        unlock(name, dir_fd)
        fd = os.open(name, SAME, dir_fd=dir_fd)
    if os.fstat(fd).st_mode & 0o300 != 0o300:
        with suppress(PermissionError):  # what cannot be removed says so itself
            os.fchmod(fd, 0o700)
    return fd


def unlock(name: str, dir_fd: int | None) -> None:
    """Give the owner all rights to a directory that cannot be opened."""
    if os.chmod in os.supports_follow_symlinks:
        os.chmod(name, 0o700, dir_fd=dir_fd, follow_symlinks=False)
        return
    fd = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=dir_fd)
    try:
        os.chmod(f"/proc/self/fd/{fd}", 0o700)  # Linux has no fchmod for such a descriptor
    finally:
        os.close(fd)


def remove_files(folder: int) -> list[str]:
    """Remove all but the directories in `folder`; return their names."""
    with os.scandir(folder) as found:
        entries = [(item.name, item.is_dir(follow_symlinks=False)) for item in found]
    for name, is_folder in entries:
        if not is_folder:
            with suppress(FileNotFoundError):
                os.unlink(name, dir_fd=folder)
    return [name for name, is_folder in entries if is_folder]

"""Directories by descriptor, so that a name which somebody swaps meanwhile leads nowhere.

Used on both ends. No function follows a link below the directory that it is given.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections import deque

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER = os.O_RDONLY | os.O_DIRECTORY
SAME = FOLDER | os.O_NOFOLLOW
KEPT = 32
"""Directories that a `Trail` keeps open: few of the 1024 descriptors that a process may have,
and enough that a walk through the deepest tree seldom begins at the top again."""


@contextlib.contextmanager
def opened(path: str) -> Iterator[int]:
    """The directory `path`; links in it are followed, so it is one that the caller chose."""
    fd = os.open(path, FOLDER)
    try:
        yield fd
    finally:
        os.close(fd)


@contextlib.contextmanager
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


class Trail:
    """Open directories below `top` one after the other, each from its nearest open parent.

    A walk that stays near its last place costs a step each time, however deep the tree is.
    """

    def __init__(self, top: int) -> None:
        self._top = top
        self._open: deque[tuple[str, int]] = deque()
        """The last directories on the way to the current one, the deepest at the end."""

    def at(self, path: str) -> int:
        """Return a descriptor of the directory `path`, which is closed by the next call.

        Raises `OSError` as `open_below` does.
        """
        while self._open and not f"{path}/".startswith(f"{self._open[-1][0]}/"):
            os.close(self._open.pop()[1])
        here, folder = self._open[-1] if self._open else ("", self._top)
        for name in filter(None, path[len(here) :].split("/")):
            folder = os.open(name, SAME, dir_fd=folder)
            here = join(here, name)
            self._open.append((here, folder))
            if len(self._open) > KEPT:
                os.close(self._open.popleft()[1])
        return folder

    def close(self) -> None:
        while self._open:
            os.close(self._open.pop()[1])


def join(folder: str, name: str) -> str:
    """Return the path of `name` in `folder`, where the top is ``""``."""
    return f"{folder}/{name}" if folder else name


def remove_tree(path: str, *, dir_fd: int | None = None) -> None:
    """Remove a file, a link, or a directory with all below it; never follows a link.

    A directory is moved to the top before it is emptied. So depth costs neither
    recursion nor descriptors, and no path becomes too long for the system.
    """
    if not stat.S_ISDIR(os.stat(path, dir_fd=dir_fd, follow_symlinks=False).st_mode):
        os.unlink(path, dir_fd=dir_fd)
        return
    top = open_to_empty(path, dir_fd)
    try:
        prefix = ".paddock-" + os.urandom(6).hex()
        waiting = remove_files(top)
        count = 0
        while waiting:
            name = waiting.pop()
            folder = open_to_empty(name, top)
            try:
                for below in remove_files(folder):
                    count += 1
                    hoist(below, folder, f"{prefix}-{count}", top)
                    waiting.append(f"{prefix}-{count}")
            finally:
                os.close(folder)
            os.rmdir(name, dir_fd=top)
    finally:
        os.close(top)
    os.rmdir(path, dir_fd=dir_fd)


def open_to_empty(name: str, dir_fd: int | None) -> int:
    """Open a directory to be emptied, whatever its permissions, if it is ours."""
    try:
        fd = os.open(name, SAME, dir_fd=dir_fd)
    except PermissionError:
        unlock(name, dir_fd)
        fd = os.open(name, SAME, dir_fd=dir_fd)
    if os.fstat(fd).st_mode & 0o300 != 0o300:
        with contextlib.suppress(PermissionError):  # what cannot be removed says so itself
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
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=folder)
    return [name for name, is_folder in entries if is_folder]


def hoist(name: str, folder: int, new: str, top: int) -> None:
    try:
        os.rename(name, new, src_dir_fd=folder, dst_dir_fd=top)
    except PermissionError:  # a directory must be writable to get another parent
        unlock(name, folder)
        os.rename(name, new, src_dir_fd=folder, dst_dir_fd=top)

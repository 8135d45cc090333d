"""Changes below a directory, as they are made: the kernel wakes us, and a look tells what changed.

So nothing is missed or told twice, however fast it is made, moved or removed: what is told are the
differences between two looks. Where the kernel cannot wake us there is a look every second.
"""

from __future__ import annotations

import ctypes
import errno
import os
import select
import stat
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    Args = dict[str, Any]
    State = tuple[int, int, int, int]
    Look = dict[str, State]

SETTLE = 0.05
"""Seconds to wait for what is made together, before a look."""
INTERVAL = 1.0
"""Seconds between two looks where the kernel does not tell."""
EVENTS = 0x2 | 0x4 | 0x8 | 0x40 | 0x80 | 0x100 | 0x200 | 0x400 | 0x800
"""IN_MODIFY, ATTRIB, CLOSE_WRITE, MOVED_FROM, MOVED_TO, CREATE, DELETE, DELETE_SELF, MOVE_SELF"""
ONLY_DIRECTORIES, NO_LINKS = 0x01000000, 0x02000000
IN_CLOEXEC, IN_NONBLOCK = 0o2000000, 0o4000
READ_BYTES = 64 * 1024


class Bell:
    """Rings when something changes in a directory that was added; it may ring for nothing."""

    def __init__(self) -> None:
        self.added = set()  # type: set[str]
        self.complete = True
        try:
            self.libc = ctypes.CDLL(None, use_errno=True)
            self.fd = self.libc.inotify_init1(IN_CLOEXEC | IN_NONBLOCK)
        except (OSError, AttributeError):
            self.fd = -1

    def add(self, look: Look, root: str) -> bool:
        """Listen to all directories of a look; return whether some are new."""
        folders = {root} | {path for path, state in look.items() if stat.S_ISDIR(state[0])}
        new = folders - self.added
        self.added &= folders
        for path in new:
            mask = EVENTS | ONLY_DIRECTORIES | NO_LINKS
            if self.fd < 0 or self.libc.inotify_add_watch(self.fd, os.fsencode(path), mask) < 0:
                # One that is gone is not missed; of others there are no more, or it is not ours.
                self.complete = self.fd >= 0 and ctypes.get_errno() == errno.ENOENT
            self.added.add(path)
        return bool(new)

    def wait(self) -> None:
        if self.fd < 0:
            time.sleep(INTERVAL)
            return
        select.select([self.fd], [], [], None if self.complete else INTERVAL)
        time.sleep(SETTLE)
        try:
            while os.read(self.fd, READ_BYTES):
                pass
        except BlockingIOError:
            pass


def look_at(root: str, most: int) -> Look:
    """What is below `root`, by path. `OSError` if that is no directory, or has too much in it."""
    found = {}  # type: Look
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        try:
            names = os.listdir(folder)
        except OSError:
            if folder == root:
                raise
            continue  # gone between two looks, or closed to us
        for name in names:
            path = os.path.join(folder, name)
            try:
                info = os.lstat(path)
            except OSError:
                continue
            found[path] = (info.st_mode, info.st_size, info.st_mtime_ns, info.st_ino)
            if stat.S_ISDIR(info.st_mode):
                found[path] = (
                    info.st_mode,
                    0,
                    0,
                    info.st_ino,
                )  # changes inside it are reported on their own
                waiting.append(path)
        if len(found) > most:
            raise OSError(errno.E2BIG, "Too many files to watch", root)
    return found


def differences(before: Look, after: Look) -> list[list[str]]:
    """What happened between two looks, a directory before what is in it, and after at its end."""
    gone = sorted(before.keys() - after.keys(), reverse=True)
    new = sorted(after.keys() - before.keys())
    changed = sorted(path for path in before.keys() & after.keys() if before[path] != after[path])
    told = (("removed", gone), ("created", new), ("changed", changed))
    return [[kind, path] for kind, paths in told for path in paths]


def watch(args: Args, emit: Callable[[Iterable[Any]], None]) -> None:
    """Say when it has begun; then each change, until the directory is gone."""
    root, most = args["path"], args["most"]
    bell = Bell()
    before = look_at(root, most)
    while bell.add(before, root):
        before = look_at(root, most)
    emit([None])
    while True:
        bell.wait()
        try:
            after = look_at(root, most)
            while bell.add(after, root):
                after = look_at(root, most)
        except (FileNotFoundError, NotADirectoryError):
            emit(differences(before, {}))
            return
        emit(differences(before, after))
        before = after

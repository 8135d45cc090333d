"""Copies of files and trees inside a sandbox; after an error or a cancellation, none remains."""

from __future__ import annotations

import errno
import os
import stat

from .archive import entries_below, open_entry
from .files import length_of, open_regular, refuse_special, write_sparsely
from .folders import Trail, opened_below, remove_tree
from .light import signal, suppress
from .writing import PERMISSIONS, TEMPORARY, Replacement, about, open_folder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    Steps = Generator[None, None, None]

PIECE = 1024 * 1024
WRITTEN = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW


def copy(source: str, target: str) -> None:
    """Copy the file or directory `source`, until SIGTERM arrives."""
    ended: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, stack: ended.append(number))
    steps = copy_tree(source, target) if os.path.isdir(source) else copy_file(source, target)
    try:
        for _ in steps:
            if ended:
                raise InterruptedError(errno.EINTR, "The copy was ended", target)
    finally:
        steps.close()


def copy_file(source: str, target: str) -> Steps:
    """Copy contents; a new file gets the permissions of `source`, too, as cp(1) has it."""
    fd = open_regular(source)
    try:
        info = os.fstat(fd)
        with suppress(FileNotFoundError):
            if os.path.samestat(info, os.stat(target)):
                raise OSError(errno.EINVAL, "Source and destination are the same file", target)
        writer = Replacement(target, mode=stat.S_IMODE(info.st_mode) & PERMISSIONS)
        try:
            for piece in pieces(fd):
                writer.write(piece)
                yield
            writer.commit()
        finally:
            writer.close()
    finally:
        os.close(fd)


def copy_tree(source: str, target: str) -> Steps:
    """Copy a directory to a new one, as ``shutil.copytree(symlinks=True)`` does.

    Links are copied and never followed. Permissions and times of change are kept, owners and
    set-id bits are not. All of it appears at once.
    """
    refuse_target(source, target)
    folder, name = os.path.split(target)
    with about(target):
        base = open_folder(folder)
    try:
        yield from copy_by_stage(source, target, base, name)
    finally:
        os.close(base)


def copy_by_stage(source: str, target: str, base: int, name: str) -> Steps:
    """Copy under another name in the directory `base` first."""
    stage = TEMPORARY + os.urandom(6).hex()
    with about(target):
        os.mkdir(stage, 0o700, dir_fd=base)
    try:
        with opened_below(base, stage) as staged:
            yield from fill(source, staged)
        refuse_target(source, target)  # somebody else may have made it meanwhile
        with about(target):
            os.rename(stage, name, src_dir_fd=base, dst_dir_fd=base)
    finally:
        with suppress(FileNotFoundError):  # it was renamed
            remove_tree(stage, dir_fd=base)


def refuse_target(source: str, target: str) -> None:
    if os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target)
    above = os.path.dirname(target)
    while not os.path.lexists(above):  # of the root, which is there, at the latest
        above = os.path.dirname(above)
    top = os.path.realpath(source).rstrip("/")
    if os.path.isdir(above) and f"{os.path.realpath(above)}/".startswith(f"{top}/"):
        raise OSError(errno.EINVAL, "A directory cannot be copied into itself", target)


def fill(source: str, stage: int) -> Steps:
    """Copy what is in the directory `source` into the new directory `stage`, and how it is set."""
    settings = [("", os.stat(source))]
    with Trail(stage) as trail:
        for folder, name, path, info in entries_below(source):
            with about(os.path.join(source, path)):
                there = trail.at(os.path.dirname(path))
                if stat.S_ISDIR(info.st_mode):
                    os.mkdir(name, 0o700, dir_fd=there)
                    settings.append((path, info))
                elif stat.S_ISLNK(info.st_mode):
                    os.symlink(os.readlink(name, dir_fd=folder), name, dir_fd=there)
                else:
                    refuse_special(info.st_mode, path)
                    yield from fill_file(name, folder, there)
            yield
        # Last and from the bottom: what is filled must be open to us, and gets another time.
        for path, info in reversed(settings):
            set_as(trail.at(path), info)


def fill_file(name: str, folder: int, there: int) -> Steps:
    source = open_entry(name, folder)
    if source is None:  # removed since it was listed
        return
    try:
        target = os.open(name, WRITTEN, 0o600, dir_fd=there)
        try:
            size = 0
            for piece in pieces(source):
                write_sparsely(target, piece)
                size += len(piece)
                yield
            os.ftruncate(target, size)  # it may end in a hole
            set_as(target, os.fstat(source))
        finally:
            os.close(target)
    finally:
        os.close(source)


def pieces(fd: int) -> Iterator[bytes]:
    """The contents of a file, of the size that it has now."""
    left = length_of(fd)
    while left and (piece := os.read(fd, min(left, PIECE))):
        yield piece
        left -= len(piece)


def set_as(fd: int, info: os.stat_result) -> None:
    """Set permissions and times as they are in `info`."""
    os.fchmod(fd, stat.S_IMODE(info.st_mode) & PERMISSIONS)
    os.utime(fd, ns=(info.st_atime_ns, info.st_mtime_ns))

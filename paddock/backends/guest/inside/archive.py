"""Trees of files as tar streams, packed without trust; used on both ends."""

from __future__ import annotations

import errno
import os
import stat

from .folders import Trail, join, opened
from .ignored import GITIGNORE, GITIGNORE_MAX
from .selection import KINDS, PATH_MAX
from .tar import DIRECTORY, END, FILE, PIECE, SYMLINK, Member, header, padding

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from typing import Protocol

    from .ignored import IgnoreRules
    from .selection import Selection

    class Names(Protocol):
        """The names that entries have in a stream, instead of their paths."""

        def name(self, path: str, *, is_folder: bool) -> str:
            """A directory is named before what is in it."""

        def last(self) -> Iterator[bytes]:
            """What comes after all entries."""


__all__ = ["MAX_TREE_BYTES", "check_size", "open_entry", "refuse_links", "tar_blocks"]

MAX_TREE_BYTES = 64 * 1024**3
"""Bytes of one tree: above any project, below what would fill a host unnoticed."""
GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EINVAL, errno.ENXIO)
"""What was just listed was removed meanwhile, or replaced by something of another kind."""
BLOCKS = 512 * 1024
"""Bytes of a tar stream that are made before they are handed on."""
READ_FILE = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_NOCTTY


def tar_blocks(
    root: str,
    rules: IgnoreRules | None = None,
    selection: Selection | None = None,
    names: Names | None = None,
) -> Generator[bytes, None, None]:
    """The tree below `root` as pieces of a tar stream, less what `rules` ignore or is removed
    meanwhile.

    A `selection` decides what else is carried. Without one everything is named, special files
    too, for the other end to decide. Entries have the names that `names` gives, or else their
    paths. Raises `ValueError` for a tree of more than `MAX_TREE_BYTES`, which is not extracted.
    """
    pending = bytearray()
    for piece in tar_pieces(root, rules, selection, names):
        pending += piece
        if len(pending) >= BLOCKS:
            yield bytes(pending)
            pending.clear()
    yield bytes(pending) + END


def tar_pieces(
    root: str,
    rules: IgnoreRules | None,
    selection: Selection | None,
    names: Names | None = None,
) -> Iterator[bytes]:
    total = 0
    for folder, name, path, info in entries_below(root, rules):
        kind = KINDS[stat.S_IFMT(info.st_mode)]
        mode, mtime = stat.S_IMODE(info.st_mode), info.st_mtime
        if selection is not None:
            if not selection.takes(path, kind, mode):
                continue
            mode &= 0o777
        shown = names.name(path, is_folder=kind == DIRECTORY) if names is not None else path
        member = Member(shown, kind, mode=mode, mtime=mtime)
        if kind == FILE:
            total += info.st_size
            check_size(total)
            carried = yield from file_pieces(folder, name, member)
            if carried and selection is not None:
                selection.files += 1
                selection.bytes += member.size
            continue
        if kind == SYMLINK:
            try:
                member.target = os.readlink(name, dir_fd=folder)
            except OSError as error:
                if error.errno not in GONE:
                    raise
                continue
        yield header(member)
    if names is not None:
        yield from names.last()


def entries_below(
    root: str, rules: IgnoreRules | None = None
) -> Iterator[tuple[int, str, str, os.stat_result]]:
    """Every entry as (its directory, its name in it, path relative to `root`, what it is).

    Directories come before their entries; one whose path is too long to open is not entered. The
    directory is open until the next is asked for.
    """
    with opened(root) as top, Trail(top) as trail:
        waiting = [""]
        while waiting:
            here = waiting.pop()
            try:
                folder = trail.at(here)
            except OSError as error:
                if error.errno not in GONE:
                    raise
                continue
            if rules is not None and rules.gitignore:
                add_gitignore(rules, folder, here)
            for name in sorted(os.listdir(folder)):
                try:
                    info = os.stat(name, dir_fd=folder, follow_symlinks=False)
                except FileNotFoundError:
                    continue
                path, is_folder = join(here, name), stat.S_ISDIR(info.st_mode)
                if rules is not None and rules.ignores(path, is_folder):
                    continue
                yield folder, name, path, info
                if is_folder and len(path) < PATH_MAX:
                    waiting.append(path)


def refuse_links(root: str, rules: IgnoreRules | None, selection: Selection) -> None:
    """Raise what packing would raise on its way, before anything is sent."""
    for _, _, path, info in entries_below(root, rules):
        if stat.S_ISLNK(info.st_mode):
            selection.takes(path, SYMLINK, 0)


def add_gitignore(rules: IgnoreRules, folder: int, path: str) -> None:
    """Add the .gitignore file of a directory, if it has one; as git, follow no link."""
    fd = open_entry(GITIGNORE, folder)
    if fd is not None:
        with open(fd, "rb", buffering=0) as file:
            rules.add(path, file.read(GITIGNORE_MAX + 1))


def open_entry(name: str, folder: int) -> int | None:
    """Open a regular file for reading; None if there is none of that name, or a link to one."""
    try:
        fd = os.open(name, READ_FILE, dir_fd=folder)
    except OSError as error:
        if error.errno not in GONE:
            raise
        return None
    if stat.S_ISREG(os.fstat(fd).st_mode):
        return fd
    os.close(fd)
    return None


def file_pieces(folder: int, name: str, member: Member) -> Generator[bytes, None, bool]:
    """A file of the size that it has now, without what is appended meanwhile; nothing and False
    if it is gone."""
    fd = open_entry(name, folder)
    if fd is None:
        return False
    with open(fd, "rb", buffering=0) as file:
        member.size = left = os.fstat(fd).st_size
        yield header(member)
        while left:
            piece = file.read(min(left, PIECE))
            if not piece:
                raise OSError(errno.EIO, "The file became shorter while it was read", member.name)
            left -= len(piece)
            yield piece
        yield padding(member.size)
    return True


def check_size(total: int) -> None:
    if total > MAX_TREE_BYTES:
        raise ValueError(f"the tree is too large: more than {MAX_TREE_BYTES} bytes in files")

"""Trees of files as tar streams, packed and extracted without trust; used on both ends.

Nothing is extracted outside the destination, and on an error nothing at all.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat

from .files import refuse_special, write_sparsely
from .folders import Trail, join, opened, opened_below, remove_tree
from .tar import DIRECTORY, END, PIECE, SYMLINK, Member, Reader, header, padding

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from typing import IO

__all__ = ["check_link", "entries_below", "extract", "tar_blocks"]

MAX_MEMBERS = 1_000_000
MAX_TREE_BYTES = 64 * 1024**3
"""Bounds of one archive: above any project, below what would fill a host unnoticed."""
MAX_NAME_BYTES = 256 * 1024**2
"""Characters of all paths in one archive: some of them are kept in memory to its end."""
PATH_MAX = 4096
"""Bytes of a path, with its end, that Linux takes; what is longer nobody could open by name."""
GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
BLOCKS = 512 * 1024
"""Bytes of a tar stream that are made before they are handed on."""


# --------------------------------------------------------------------------- packing


def tar_blocks(root: str, ignore: frozenset[str] = frozenset()) -> Generator[bytes, None, None]:
    """The tree below `root` as pieces of a tar stream.

    Links travel as links; pipes, sockets and devices are left out, and so are
    entries whose name is in `ignore` and what is removed meanwhile. Raises `ValueError`
    for a tree of more than `MAX_TREE_BYTES`, which nobody would extract.
    """
    pending = bytearray()
    for piece in tar_pieces(root, ignore):
        pending += piece
        if len(pending) >= BLOCKS:
            yield bytes(pending)
            pending.clear()
    yield bytes(pending) + END


def tar_pieces(root: str, ignore: frozenset[str]) -> Iterator[bytes]:
    total = 0
    for folder, name, path, info in entries_below(root, ignore):
        mode, mtime = stat.S_IMODE(info.st_mode) & 0o777, info.st_mtime
        if stat.S_ISDIR(info.st_mode):
            yield header(Member(path, DIRECTORY, mode=mode, mtime=mtime))
        elif stat.S_ISLNK(info.st_mode):
            with contextlib.suppress(FileNotFoundError):
                target = os.readlink(name, dir_fd=folder)
                yield header(Member(path, SYMLINK, mode=mode, mtime=mtime, target=target))
        elif stat.S_ISREG(info.st_mode):
            total += info.st_size
            check_size(total)
            yield from file_pieces(folder, name, path)


def entries_below(
    root: str, ignore: frozenset[str]
) -> Iterator[tuple[int, str, str, os.stat_result]]:
    """Every entry as (its directory, its name in it, path relative to `root`, what it is).

    Directories come before their own. The directory is open until the next is asked for.
    """
    with opened(root) as top, contextlib.closing(Trail(top)) as trail:
        waiting = [""]
        while waiting:
            here = waiting.pop()
            try:
                folder = trail.at(here)
            except OSError as error:
                if error.errno not in GONE:
                    raise
                continue  # removed meanwhile, or replaced by a file or a link
            for name in sorted(os.listdir(folder)):
                if name in ignore:
                    continue
                try:
                    info = os.stat(name, dir_fd=folder, follow_symlinks=False)
                except FileNotFoundError:
                    continue
                path = join(here, name)
                yield folder, name, path, info
                if stat.S_ISDIR(info.st_mode):
                    waiting.append(path)


def file_pieces(folder: int, name: str, path: str) -> Iterator[bytes]:
    """A file of the size that it has now; what is appended meanwhile is left out."""
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_NOCTTY
    try:
        fd = os.open(name, flags, dir_fd=folder)
    except FileNotFoundError:
        return
    with open(fd, "rb", buffering=0) as file:
        info = os.fstat(fd)
        refuse_special(info.st_mode, path)
        mode = stat.S_IMODE(info.st_mode) & 0o777
        yield header(Member(path, b"0", mode=mode, mtime=info.st_mtime, size=info.st_size))
        left = info.st_size
        while left:
            piece = file.read(min(left, PIECE))
            if not piece:
                raise OSError(errno.EIO, "The file became shorter while it was read", path)
            left -= len(piece)
            yield piece
        yield padding(info.st_size)


def check_size(total: int) -> None:
    if total > MAX_TREE_BYTES:
        raise ValueError(f"the tree is too large: more than {MAX_TREE_BYTES} bytes in files")


# ------------------------------------------------------------------------ extracting


def extract(stream: IO[bytes], destination: str) -> None:
    """Extract a tar stream below `destination`: all of it, or on an error nothing.

    A stream that is cut off, absolute names, ``..``, hard links, devices, pipes and
    links that lead out are refused with `ValueError`. Existing files are replaced,
    directories merged; a link in the way of a directory is never followed.
    """
    destination = os.path.abspath(destination)
    folder, name = os.path.split(destination)
    os.makedirs(folder, exist_ok=True)
    existed = os.path.isdir(destination)
    with opened(destination if existed else folder) as base:
        stage = ".paddock-" + os.urandom(6).hex()
        os.mkdir(stage, 0o700, dir_fd=base)
        try:
            with opened_below(base, stage) as staged:
                room = PATH_MAX - len(os.fsencode(destination))
                Extraction(staged, room).take_all(Reader(stream))
                if existed:
                    merge(staged, base)
                else:
                    os.mkdir(name, dir_fd=base)
                    with opened_below(base, name) as made:
                        merge(staged, made)
        finally:
            remove_tree(stage, dir_fd=base)


class Extraction:
    """Members of an archive on their way into a directory that nobody else looks at."""

    def __init__(self, stage: int, room: int) -> None:
        self._stage = stage
        self._room = room
        self._folders = {""}
        """Directories of our own making; nothing that was made ever replaces one."""
        self._settings: list[tuple[str, int, float]] = []
        self._made = 0
        self._bytes = 0
        self._name_bytes = 0

    def take_all(self, archive: Reader) -> None:
        with contextlib.closing(Trail(self._stage)) as trail:
            for member in archive:
                self._bytes += member.size
                self._count(member.name)
                self._take(member, archive, trail)
            # Last and from the bottom: a directory that was made read-only or filled later.
            for path, mode, mtime in reversed(self._settings):
                folder = trail.at(path)
                os.fchmod(folder, mode)
                os.utime(folder, (mtime, mtime))

    def _count(self, name: str) -> None:
        self._made += 1
        self._name_bytes += len(name)
        if self._made > MAX_MEMBERS:
            raise ValueError(f"the archive is too large: it has more than {MAX_MEMBERS} entries")
        check_size(self._bytes)
        if self._name_bytes > MAX_NAME_BYTES:
            raise ValueError(f"the archive is too large: more than {MAX_NAME_BYTES} bytes of names")

    def _take(self, member: Member, archive: Reader, trail: Trail) -> None:
        parts = [part for part in member.name.split("/") if part not in ("", ".")]
        if member.name.startswith("/") or ".." in parts or "\0" in member.name:
            raise ValueError(f"the archive has an unsafe name: {member.name!r}")
        if not parts:
            return
        path, above = "/".join(parts), "/".join(parts[:-1])
        if len(os.fsencode(path)) + 1 >= self._room:
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), member.name[:100])
        if member.kind == DIRECTORY:
            self._make(path, trail)
            self._settings.append((path, member.mode | 0o700, member.mtime))
            return
        if path in self._folders:
            raise ValueError(f"the archive has a directory and something else: {member.name!r}")
        self._make(above, trail)
        folder = trail.at(above)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(parts[-1], dir_fd=folder)  # the last of a name stays
        if member.kind == SYMLINK:
            check_link(member, len(parts) - 1)
            os.symlink(member.target, parts[-1], dir_fd=folder)
        else:
            write_file(folder, parts[-1], member, archive)

    def _make(self, path: str, trail: Trail) -> None:
        """Make the directory `path` and those above, where missing; never through a link."""
        missing = []
        while path not in self._folders:
            missing.append(path)
            path = path.rpartition("/")[0]
        for here in reversed(missing):
            self._count(here)
            above, _, name = here.rpartition("/")
            try:
                os.mkdir(name, 0o755, dir_fd=trail.at(above))
            except FileExistsError:
                raise ValueError(
                    f"the archive leads through a link or file: {missing[0]!r}"
                ) from None
            self._folders.add(here)


def write_file(folder: int, name: str, member: Member, archive: Reader) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    fd = os.open(name, flags, 0o600, dir_fd=folder)
    with open(fd, "wb", buffering=0):
        for piece in archive.data():
            write_sparsely(fd, piece)
        os.ftruncate(fd, member.size)
        os.fchmod(fd, member.mode)
        os.utime(fd, (member.mtime, member.mtime))


def check_link(member: Member, depth: int) -> None:
    """Refuse a link, `depth` directories below the top, that leads out.

    ``..`` may only come first. After a name it would go up from wherever a link of
    that name leads to, and not from where the text says.
    """
    parts = [part for part in member.target.split("/") if part not in ("", ".")]
    up = 0
    while up < len(parts) and parts[up] == "..":
        up += 1
    if not member.target or member.target.startswith("/") or up > depth or ".." in parts[up:]:
        raise ValueError(
            f"the archive has a link that leads out: {member.name!r} -> {member.target!r}"
        )


def merge(stage: int, destination: int) -> None:
    """Move what was extracted to its place; what is in the way is found before anything moves."""
    with contextlib.closing(Trail(stage)) as ours, contextlib.closing(Trail(destination)) as theirs:
        for path, names in list(moves(ours, theirs)):
            here, there = ours.at(path), theirs.at(path)
            for name in names:
                os.rename(name, name, src_dir_fd=here, dst_dir_fd=there)


def moves(stage: Trail, destination: Trail) -> Iterator[tuple[str, list[str]]]:
    """What has to move: directories that both have, and the names in each that go as they are."""
    waiting = [""]
    while waiting:
        path = waiting.pop()
        names = []
        here, there = stage.at(path), destination.at(path)
        for name in os.listdir(here):
            if not both_have(name, here, there, path):
                names.append(name)
            else:
                waiting.append(join(path, name))
        yield path, names


def both_have(name: str, here: int, there: int, path: str) -> bool:
    """Whether both have a directory `name`; an error if one of them has something else."""
    is_folder = stat.S_ISDIR(os.stat(name, dir_fd=here, follow_symlinks=False).st_mode)
    try:
        old = os.stat(name, dir_fd=there, follow_symlinks=False)
    except FileNotFoundError:
        return False
    if is_folder and not stat.S_ISDIR(old.st_mode):
        raise FileExistsError(errno.EEXIST, "A file or link is in the way", join(path, name))
    if not is_folder and stat.S_ISDIR(old.st_mode):
        raise IsADirectoryError(errno.EISDIR, "A directory is in the way", join(path, name))
    return is_folder

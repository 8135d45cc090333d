"""Trees of files as tar streams, packed and extracted without trust; used on both ends.

Nothing is extracted outside the destination, and on an error nothing at all.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat

from .files import Replacement, refuse_special, write_all
from .tar import DIRECTORY, END, PIECE, SYMLINK, Member, Reader, header, padding

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from typing import IO

__all__ = ["Replacement", "extract", "remove_tree", "tar_blocks", "write_all"]

MAX_MEMBERS = 1_000_000
MAX_TREE_BYTES = 64 * 1024**3
"""Bounds of one archive: above any project, below what would fill a host unnoticed."""
BLOCKS = 512 * 1024
"""Bytes of a tar stream that are made before they are handed on."""


# --------------------------------------------------------------------------- packing


def tar_blocks(root: str, ignore: frozenset[str] = frozenset()) -> Generator[bytes, None, None]:
    """The tree below `root` as pieces of a tar stream.

    Links travel as links; pipes, sockets and devices are left out, and so are
    entries whose name is in `ignore` and what is removed meanwhile.
    """
    pending = bytearray()
    for piece in tar_pieces(root, ignore):
        pending += piece
        if len(pending) >= BLOCKS:
            yield bytes(pending)
            pending.clear()
    yield bytes(pending) + END


def tar_pieces(root: str, ignore: frozenset[str]) -> Iterator[bytes]:
    for folder, name, path, info in entries_below(root, ignore):
        mode, mtime = stat.S_IMODE(info.st_mode) & 0o777, info.st_mtime
        if stat.S_ISDIR(info.st_mode):
            yield header(Member(path, DIRECTORY, mode=mode, mtime=mtime))
        elif stat.S_ISLNK(info.st_mode):
            with contextlib.suppress(FileNotFoundError):
                target = os.readlink(name, dir_fd=folder)
                yield header(Member(path, SYMLINK, mode=mode, mtime=mtime, target=target))
        elif stat.S_ISREG(info.st_mode):
            yield from file_pieces(folder, name, path)


def entries_below(
    root: str, ignore: frozenset[str]
) -> Iterator[tuple[int, str, str, os.stat_result]]:
    """Every entry as (its directory, its name in it, path relative to `root`, what it is).

    Directories come before their own. The directory is open until the next is asked for;
    it was reached without following a link, so what somebody swaps meanwhile leads nowhere.
    """
    top = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        waiting = [""]
        while waiting:
            prefix = waiting.pop()
            folder = open_below(top, prefix)
            if folder is None:
                continue
            try:
                for name in sorted(os.listdir(folder)):
                    if name in ignore:
                        continue
                    try:
                        info = os.stat(name, dir_fd=folder, follow_symlinks=False)
                    except FileNotFoundError:
                        continue
                    yield folder, name, prefix + name, info
                    if stat.S_ISDIR(info.st_mode):
                        waiting.append(prefix + name + "/")
            finally:
                os.close(folder)
    finally:
        os.close(top)


def open_below(top: int, path: str) -> int | None:
    """The directory `path` below `top`, opened name by name; None if one of them is none by now."""
    folder = os.dup(top)
    for name in path.split("/")[:-1]:
        above = folder
        try:
            folder = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=above)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                raise
            return None  # removed meanwhile, or replaced by a file or a link
        finally:
            os.close(above)
    return folder


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


# ------------------------------------------------------------------------ extracting


def extract(stream: IO[bytes], destination: str) -> None:
    """Extract a tar stream below `destination`: all of it, or on an error nothing.

    A stream that is cut off, absolute names, ``..``, hard links, devices, pipes and
    links that lead out are refused with `ValueError`. Existing files are replaced,
    directories merged; a link in the way of a directory is never followed.
    """
    destination = os.path.abspath(destination)
    existed = os.path.isdir(destination)
    folder = destination if existed else os.path.dirname(destination)
    os.makedirs(folder, exist_ok=True)
    stage = os.path.join(folder, ".paddock-" + os.urandom(6).hex())
    os.mkdir(stage, 0o700)
    try:
        Extraction(stage).take_all(Reader(stream))
        if not existed:
            os.mkdir(destination)
        merge(stage, destination)
    finally:
        remove_tree(stage)


class Extraction:
    """Members of an archive on their way into a directory that nobody else looks at."""

    def __init__(self, stage: str) -> None:
        self._stage = stage
        self._folders = {stage}
        """Directories of our own making; nothing that was made ever replaces one."""
        self._settings: list[tuple[str, int, float]] = []
        self._made = 0
        self._bytes = 0

    def take_all(self, archive: Reader) -> None:
        for member in archive:
            self._bytes += member.size
            self._count()
            self._take(member, archive)
        # Last and from the bottom: a directory that was made read-only or filled later.
        for path, mode, mtime in reversed(self._settings):
            os.chmod(path, mode)
            os.utime(path, (mtime, mtime))

    def _count(self) -> None:
        self._made += 1
        if self._made > MAX_MEMBERS or self._bytes > MAX_TREE_BYTES:
            raise ValueError("the archive is too large")

    def _take(self, member: Member, archive: Reader) -> None:
        parts = [part for part in member.name.split("/") if part not in ("", ".")]
        if member.name.startswith("/") or ".." in parts or "\0" in member.name:
            raise ValueError(f"the archive has an unsafe name: {member.name!r}")
        if not parts:
            return
        folder = self._folder(parts[:-1], member.name)
        path = os.path.join(folder, parts[-1])
        if member.kind == DIRECTORY:
            self._folder(parts, member.name)
            self._settings.append((path, member.mode | 0o700, member.mtime))
            return
        if path in self._folders:
            raise ValueError(f"the archive has a directory and something else: {member.name!r}")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)  # the last of a name stays
        if member.kind == SYMLINK:
            check_link(member, len(parts) - 1)
            os.symlink(member.target, path)
        else:
            write_file(path, member, archive)

    def _folder(self, parts: list[str], name: str) -> str:
        """The directory `parts`, made if missing; never through a link."""
        path = self._stage
        for part in parts:
            path = os.path.join(path, part)
            if path not in self._folders:
                self._count()
                try:
                    os.mkdir(path, 0o755)
                except FileExistsError:
                    raise ValueError(
                        f"the archive leads through a link or file: {name!r}"
                    ) from None
                self._folders.add(path)
        return path


def write_file(path: str, member: Member, archive: Reader) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with open(fd, "wb", buffering=0):
        for piece in archive.data():
            write_all(fd, piece)
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


def merge(stage: str, destination: str) -> None:
    """Move what was extracted to its place; what is in the way is found before anything moves."""
    for source, target in list(moves(stage, destination)):
        os.rename(source, target)


def moves(stage: str, destination: str) -> Iterator[tuple[str, str]]:
    waiting = [(stage, destination)]
    while waiting:
        here, there = waiting.pop()
        for name in os.listdir(here):
            source, target = os.path.join(here, name), os.path.join(there, name)
            is_folder = stat.S_ISDIR(os.lstat(source).st_mode)
            in_the_way = os.path.isdir(target) and not os.path.islink(target)
            if is_folder and in_the_way:
                waiting.append((source, target))
            elif is_folder and os.path.lexists(target):
                raise FileExistsError(errno.EEXIST, "A file or link is in the way", target)
            elif in_the_way:
                raise IsADirectoryError(errno.EISDIR, "A directory is in the way", target)
            else:
                yield source, target


# -------------------------------------------------------------------------- removing


def remove_tree(path: str) -> None:
    """Remove a file, a link, or a directory with all below it; never follows a link.

    A directory is moved to the top before it is emptied. So depth costs neither
    recursion nor descriptors, and no path becomes too long for the system.
    """
    if not stat.S_ISDIR(os.lstat(path).st_mode):
        os.unlink(path)
        return
    top = open_folder(path)
    try:
        prefix = ".paddock-" + os.urandom(6).hex()
        waiting = remove_files(top)
        count = 0
        while waiting:
            name = waiting.pop()
            folder = open_folder(name, dir_fd=top)
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
    os.rmdir(path)


def open_folder(name: str, *, dir_fd: int | None = None) -> int:
    """Open a directory to be emptied, whatever its permissions, if it is ours."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
    try:
        fd = os.open(name, flags, dir_fd=dir_fd)
    except PermissionError:
        os.chmod(name, 0o700, dir_fd=dir_fd)
        fd = os.open(name, flags, dir_fd=dir_fd)
    if os.fstat(fd).st_mode & 0o300 != 0o300:
        with contextlib.suppress(PermissionError):  # what cannot be removed says so itself
            os.fchmod(fd, 0o700)
    return fd


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
        os.chmod(name, 0o700, dir_fd=folder)
        os.rename(name, new, src_dir_fd=folder, dst_dir_fd=top)

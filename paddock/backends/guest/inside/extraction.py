"""Tar streams to trees of files, extracted without trust; used on both ends.

Nothing is extracted outside the destination, and on an error nothing at all.
"""

from __future__ import annotations

import errno
import os
import stat

from .archive import check_size, open_entry
from .files import write_sparsely
from .folders import Trail, join, opened, opened_below, remove_tree
from .light import contextmanager, suppress
from .selection import PATH_MAX, TOO_LONG
from .symlinks import goes_up_late, stays_within, within
from .tar import DIRECTORY, FILE, HARD_LINK, PIECE, SYMLINK, Member, Reader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import IO

    from .selection import Selection

__all__ = ["extract"]

MAX_MEMBERS = 1_000_000
MAX_NAME_BYTES = 256 * 1024**2
"""Bytes of all paths in one archive: some of them are kept in memory to its end."""
UNFIT = {
    errno.ENAMETOOLONG: TOO_LONG,
    errno.EILSEQ: "the file system does not take its name",
}
"""Why the file system refuses an entry, though not those beside it."""
LEADS_OUT = "a link that leads out of the tree, to "


def extract(stream: IO[bytes], destination: str, selection: Selection | None = None) -> None:
    """Extract a tar stream below `destination`: all of it, or on an error nothing.

    Raises `ValueError` for a stream that is cut off, absolute names, ``..`` and names that lead
    through a link or a file. Existing files are replaced, directories merged; a link in the way
    of a directory is never followed.

    A `selection` decides what else is left out. Without one all links are kept, and anything
    but files, directories and links is an error.
    """
    destination = os.path.abspath(destination)
    folder, name = os.path.split(destination)
    os.makedirs(folder, exist_ok=True)
    existed = os.path.isdir(destination)
    stage = ".paddock-" + os.urandom(6).hex()
    with opened(destination if existed else folder) as base, _about(destination, stage):
        os.mkdir(stage, 0o700, dir_fd=base)
        try:
            with opened_below(base, stage) as staged:
                room = PATH_MAX - len(os.fsencode(destination)) - 1
                Extraction(staged, room, selection).take_all(Reader(stream))
                if existed:
                    merge(staged, base)
                else:
                    os.mkdir(name, dir_fd=base)
                    with opened_below(base, name) as made:
                        merge(staged, made)
        finally:
            remove_tree(stage, dir_fd=base)


@contextmanager
def _about(destination: str, stage: str) -> Iterator[None]:
    """Have errors of the `stage`, and those that name nothing, name the `destination`."""
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename not in (None, stage):
            raise
        raise OSError(error.errno, error.strerror, destination) from None


class Extraction:
    """Members of an archive on their way into a private directory."""

    def __init__(self, stage: int, room: int, selection: Selection | None) -> None:
        self._stage = stage
        self._room = room
        self._selection = selection
        self._folders = {""}
        """Directories of our own making; nothing that was made ever replaces one."""
        self._unsure: dict[str, str] = {}
        """Links that were made, and whose target is judged when all directories are known."""
        self._settings: list[tuple[str, int, float]] = []
        self._made = 0
        self._bytes = 0
        self._name_bytes = 0

    def take_all(self, archive: Reader) -> None:
        with Trail(self._stage) as trail:
            for member in archive:
                self._count(member)
                self._take(member, archive, trail)
            for path, target in self._unsure.items():
                if not stays_within(path, target, self._folders):
                    above, _, name = path.rpartition("/")
                    os.unlink(name, dir_fd=trail.at(above))
                    self._leave_out(path, LEADS_OUT + repr(target))
            # Last and from the bottom: a directory that was made read-only or filled later.
            for path, mode, mtime in reversed(self._settings):
                folder = trail.at(path)
                os.fchmod(folder, mode)
                os.utime(folder, (mtime, mtime))

    def _count(self, member: Member) -> None:
        # Names too: the stream ends, even if nothing of it is kept.
        self._bytes += member.size + len(member.name) + len(member.target)
        check_size(self._bytes)
        self._count_one()

    def _count_one(self) -> None:
        self._made += 1
        if self._made > MAX_MEMBERS:
            raise ValueError(f"the archive is too large: it has more than {MAX_MEMBERS} entries")

    def _keep_name(self, size: int) -> None:
        self._name_bytes += size
        if self._name_bytes > MAX_NAME_BYTES:
            raise ValueError(f"the archive is too large: more than {MAX_NAME_BYTES} bytes of names")

    def _take(self, member: Member, archive: Reader, trail: Trail) -> None:
        path = path_below(member.name)
        if path is None:
            raise ValueError(f"the archive has an unsafe name: {member.name[:PATH_MAX]!r}")
        if not path or not self._takes(path, member):
            return
        self._keep_name(len(path) + len(member.target))
        try:
            if len(os.fsencode(path)) >= self._room:
                raise OSError(errno.ENAMETOOLONG, TOO_LONG, path)
            self._place(path, member, archive, trail)
        except OSError as error:
            if error.errno not in UNFIT or self._selection is None:
                raise
            self._leave_out(path, UNFIT[error.errno])

    def _takes(self, path: str, member: Member) -> bool:
        if self._selection is not None:
            return not self._selection.ignores(
                path, member.kind == DIRECTORY
            ) and self._selection.takes(path, member.kind, member.mode)
        if member.kind not in (FILE, DIRECTORY, SYMLINK):
            raise ValueError(f"the archive has something that is no file: {member.name!r}")
        return True

    def _leave_out(self, path: str, reason: str) -> None:
        if self._selection is not None:
            self._selection.leave_out(path, reason)

    def _place(self, path: str, member: Member, archive: Reader, trail: Trail) -> None:
        mode = member.mode & 0o777
        if member.kind == DIRECTORY:
            self._make(path, trail)
            self._settings.append((path, mode | 0o700, member.mtime))
            return
        if path in self._folders:
            raise ValueError(f"the archive has a directory and something else: {member.name!r}")
        above = path.rpartition("/")[0]
        self._make(above, trail)
        if member.kind == SYMLINK:
            self._link(path, member.target, trail.at(above))
        elif member.kind == HARD_LINK:
            self._copy(path, member, trail)
        else:
            self._write(path, member, archive.data(), trail)

    def _write(self, path: str, member: Member, data: Iterable[bytes], trail: Trail) -> None:
        above, _, name = path.rpartition("/")
        folder = trail.at(above)
        self._replace(path, name, folder)
        write_file(folder, name, member, data)
        if self._selection is not None:
            self._selection.files += 1
            self._selection.bytes += member.size

    def _replace(self, path: str, name: str, folder: int) -> None:
        """Remove what an earlier member of the same name has made: the last one stays."""
        self._unsure.pop(path, None)
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=folder)

    def _link(self, path: str, target: str, folder: int) -> None:
        confined = self._selection is not None and self._selection.root is not None
        if self._selection is not None:
            target = within(path, target, self._selection.root)
        if not target or "\0" in target or (confined and not self._may_stay(path, target)):
            self._leave_out(path, LEADS_OUT + repr(target[:PATH_MAX]))
            return
        name = path.rpartition("/")[2]
        self._replace(path, name, folder)
        os.symlink(target, name, dir_fd=folder)
        if confined and goes_up_late(target):
            self._unsure[path] = target

    def _may_stay(self, path: str, target: str) -> bool:
        return goes_up_late(target) or stays_within(path, target, self._folders)

    def _copy(self, path: str, member: Member, trail: Trail) -> None:
        """Copy the file that a hard link names, if this archive had it."""
        source = path_below(member.target)
        above, _, name = (source or "").rpartition("/")
        fd = open_entry(name, trail.at(above)) if name and above in self._folders else None
        if fd is None:
            self._leave_out(path, "a hard link to no file of the tree")
            return
        with open(fd, "rb", buffering=0) as file:
            member.size = os.fstat(fd).st_size
            self._bytes += member.size
            check_size(self._bytes)
            self._write(path, member, iter(lambda: file.read(PIECE), b""), trail)

    def _make(self, path: str, trail: Trail) -> None:
        """Make the directory `path` and those above, where missing; never through a link."""
        missing = []
        while path not in self._folders:
            missing.append(path)
            path = path.rpartition("/")[0]
        for here in reversed(missing):
            self._count_one()
            self._keep_name(len(here))
            above, _, name = here.rpartition("/")
            try:
                os.mkdir(name, 0o755, dir_fd=trail.at(above))
            except FileExistsError:
                raise ValueError(
                    f"the archive leads through a link or file: {missing[0]!r}"
                ) from None
            self._folders.add(here)


def path_below(name: str) -> str | None:
    """The path of a member below the top, which is ``""``; None if the name leads out."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or ".." in parts or "\0" in name:
        return None
    return "/".join(parts)


def write_file(folder: int, name: str, member: Member, data: Iterable[bytes]) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    fd = os.open(name, flags, 0o600, dir_fd=folder)
    with open(fd, "wb", buffering=0):
        for piece in data:
            write_sparsely(fd, piece)
        os.ftruncate(fd, member.size)
        os.fchmod(fd, member.mode & 0o777)
        os.utime(fd, (member.mtime, member.mtime))


def merge(stage: int, destination: int) -> None:
    """Move what was extracted to its place; what is in the way is found before anything moves."""
    with Trail(stage) as ours, Trail(destination) as theirs:
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

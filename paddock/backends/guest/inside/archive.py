"""Trees of files as tar streams, packed and extracted without trust; used on both ends.

Nothing is extracted outside the destination, and on an error nothing at all.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import sys
import tarfile

from .files import Replacement, open_regular, write_all
from .wire import INLINE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import IO

    from typing_extensions import Self

__all__ = ["Replacement", "extract", "remove_tree", "tar_blocks", "write_all"]

MAX_MEMBERS = 1_000_000
MAX_TREE_BYTES = 64 * 1024**3
"""Bounds of one archive: above any project, below what would fill a host unnoticed."""
MAX_HEADER = 1024 * 1024
"""Bytes of one extended header; tarfile would read any size into memory."""


def tar_blocks(root: str, ignore: frozenset[str] = frozenset()) -> Iterator[bytes]:
    """The tree below `root` as pieces of a tar stream; used on both ends of the wire.

    Links travel as links; pipes, sockets and devices are left out, and so are
    entries whose name is in `ignore`.
    """
    pending = bytearray()
    for path, name, info in tar_entries(root, ignore):
        member = tarfile.TarInfo(name)
        member.mode = stat.S_IMODE(info.st_mode) & 0o777
        member.mtime = int(info.st_mtime)
        fd = None
        if stat.S_ISDIR(info.st_mode):
            member.type = tarfile.DIRTYPE
        elif stat.S_ISLNK(info.st_mode):
            member.type = tarfile.SYMTYPE
            member.linkname = os.readlink(path)
        else:
            fd = open_regular(path)
            member.size = os.fstat(fd).st_size
        pending += member.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")
        if fd is not None:
            with open(fd, "rb", buffering=0) as file:
                for piece in file_blocks(file, member.size, path):
                    pending += piece
                    if len(pending) >= INLINE // 2:
                        yield bytes(pending)
                        pending.clear()
    yield bytes(pending) + bytes(2 * tarfile.BLOCKSIZE)


def tar_entries(root: str, ignore: frozenset[str]) -> Iterator[tuple[str, str, os.stat_result]]:
    waiting = [("", root)]
    while waiting:
        prefix, folder = waiting.pop()
        for name in sorted(os.listdir(folder)):
            if name in ignore:
                continue
            path = os.path.join(folder, name)
            info = os.lstat(path)
            if stat.S_ISDIR(info.st_mode):
                waiting.append((prefix + name + "/", path))
            elif not (stat.S_ISREG(info.st_mode) or stat.S_ISLNK(info.st_mode)):
                continue
            yield path, prefix + name, info


def file_blocks(file: IO[bytes], size: int, path: str) -> Iterator[bytes]:
    """Exactly `size` bytes of a file, padded to a tar block; what was appended since is left."""
    left = size
    while left:
        piece = file.read(min(left, INLINE // 4))
        if not piece:
            raise OSError(errno.EIO, "The file became shorter while it was read", path)
        left -= len(piece)
        yield piece
    if size % 512:
        yield bytes(512 - size % 512)


def extract(stream: IO[bytes], destination: str) -> None:
    """Extract a tar stream below `destination`: all of it, or on an error nothing.

    Absolute names, ``..``, hard links, devices, pipes and links that lead out are
    refused with `ValueError`. Existing files are replaced, directories merged; a
    link in the way is never followed.
    """
    os.makedirs(destination, exist_ok=True)
    stage = os.path.join(destination, ".paddock-" + os.urandom(6).hex())
    os.mkdir(stage, 0o700)
    try:
        extract_members(stream, stage)
        merge(stage, destination)
    finally:
        remove_tree(stage)


def extract_members(stream: IO[bytes], stage: str) -> None:
    class Bounded(tarfile.TarInfo):
        @classmethod
        def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
            member = super().frombuf(buf, encoding, errors)
            if member.type not in tarfile.SUPPORTED_TYPES or member.type in tarfile.REGULAR_TYPES:
                return member
            if member.size > MAX_HEADER:
                raise ValueError("an archive header is too large")
            return member

    count = total = 0
    times: list[tuple[str, int, float]] = []
    try:
        with tarfile.open(
            fileobj=stream,
            mode="r|",
            tarinfo=Bounded,
            encoding="utf-8",
            errors="surrogateescape",
        ) as archive:
            for member in archive:
                archive.members = []  # type: ignore[attr-defined]  # tarfile remembers every member; a stream needs none
                count += 1
                total += member.size
                if count > MAX_MEMBERS or total > MAX_TREE_BYTES:
                    raise ValueError("the archive is too large")
                extract_member(archive, member, stage, times)
    except tarfile.TarError as error:
        raise ValueError(f"not a whole tar stream: {error}") from None
    for path, mode, mtime in reversed(times):
        os.chmod(path, mode)
        os.utime(path, (mtime, mtime))


def extract_member(
    archive: tarfile.TarFile,
    member: tarfile.TarInfo,
    stage: str,
    times: list[tuple[str, int, float]],
) -> None:
    parts = [part for part in member.name.split("/") if part not in ("", ".")]
    if member.name.startswith("/") or ".." in parts or "\0" in member.name:
        raise ValueError(f"the archive has an unsafe name: {member.name!r}")
    if not parts:
        return
    # Nothing below `stage` is a link yet that a later name could lead through: links
    # are checked here, and a name below one is refused by `real_directory`.
    folder = real_directory(stage, parts[:-1], member.name)
    path = os.path.join(folder, parts[-1])
    mode = member.mode & 0o777
    if member.isdir():
        if not os.path.isdir(path):
            os.mkdir(path, 0o700)
        times.append((path, mode | 0o700, member.mtime))
    elif member.issym():
        check_link(member, parts)
        clear_way(path)
        os.symlink(member.linkname, path)
    elif member.isreg() and not member.issparse():
        clear_way(path)
        source = archive.extractfile(member)
        assert source is not None
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with open(fd, "wb", buffering=0) as file:
            for piece in iter(lambda: source.read(INLINE // 4), b""):
                write_all(file.fileno(), piece)
            os.fchmod(file.fileno(), mode)
            os.utime(file.fileno(), (member.mtime, member.mtime))
    else:
        raise ValueError(f"the archive has something that is no file: {member.name!r}")


def real_directory(stage: str, parts: list[str], name: str) -> str:
    path = stage
    for part in parts:
        path = os.path.join(path, part)
        try:
            mode = os.lstat(path).st_mode
        except FileNotFoundError:
            os.mkdir(path, 0o755)
            continue
        if not stat.S_ISDIR(mode):
            raise ValueError(f"the archive leads through a link or file: {name!r}")
    return path


def check_link(member: tarfile.TarInfo, parts: list[str]) -> None:
    target = os.path.normpath(os.path.join("/".join(parts[:-1]), member.linkname))
    if os.path.isabs(member.linkname) or target == ".." or target.startswith("../"):
        raise ValueError(
            f"the archive has a link that leads out: {member.name!r} -> {member.linkname!r}"
        )


def clear_way(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return


def merge(stage: str, destination: str) -> None:
    """Move what was extracted to its place."""
    for name in os.listdir(stage):
        source, target = os.path.join(stage, name), os.path.join(destination, name)
        if stat.S_ISDIR(os.lstat(source).st_mode) and os.path.lexists(target):
            if not stat.S_ISDIR(os.lstat(target).st_mode):
                raise FileExistsError(errno.EEXIST, "A file or link is in the way", target)
            merge(source, target)
        else:
            os.rename(source, target)


def remove_tree(path: str) -> None:
    """Remove a directory and all below it; never follows a link."""
    sys.setrecursionlimit(100_000)
    shutil.rmtree(path)

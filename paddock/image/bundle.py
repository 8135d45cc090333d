"""A Dockerfile with its context, as it was when it was read: what a build sends.

Owners, times and the places of files on this machine are no part of its digest, names,
modes and contents are. It does not know what a Dockerfile means.
"""

from __future__ import annotations

import functools
import hashlib
import os
import stat
import tarfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

from paddock.errors import ConfigError
from paddock.image.ignore import IgnoreRules

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from collections.abc import Set as AbstractSet
    from pathlib import Path

    from paddock.image.steps import FromDockerfile

__all__ = ["Bundle", "Member", "bytes_member", "directory_member", "read_member", "read_tree"]

FORMAT = b"paddock image 1"
"""Begins what is hashed; another one whenever the same steps come to mean something else."""
DIGITS = 32
REPOSITORY = "paddock-image"
PIECE = 1 << 20
BLOCK = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A file, link or directory of a context.

    `content` is what is in it: a hash of a file's bytes, where a link leads, empty for
    a directory.
    """

    name: str
    mode: int
    content: str
    source: Path | bytes
    size: int = 0
    modified: float = 0.0

    @property
    def record(self) -> bytes:
        """What of it is the image's."""
        kind = stat.S_IFMT(self.mode)
        mode = kind if kind == stat.S_IFLNK else self.mode
        return f"{self.name}\0{mode:o}\0{self.content}".encode(errors="surrogateescape")

    def tar(self) -> Iterator[bytes]:
        """The member as part of a tar stream; `ConfigError` if the file is another by now."""
        info = tarfile.TarInfo(self.name)
        info.mode, info.mtime = stat.S_IMODE(self.mode), int(self.modified)
        if stat.S_ISLNK(self.mode):
            info.type, info.linkname = tarfile.SYMTYPE, self.content
        elif stat.S_ISDIR(self.mode):
            info.type = tarfile.DIRTYPE
        else:
            info.size = self.size
        yield info.tobuf(tarfile.PAX_FORMAT, errors="surrogateescape")
        if stat.S_ISREG(self.mode):
            yield from self._data()
            yield bytes(-self.size % BLOCK)

    def write(self, path: Path) -> None:
        """Make it at `path`; `ConfigError` if the file is another by now. Raises OSError.

        The permissions of a directory are left to `settle`: it has to be filled first.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        if stat.S_ISLNK(self.mode):
            path.symlink_to(self.content)
        elif stat.S_ISDIR(self.mode):
            path.mkdir(exist_ok=True)
        else:
            with path.open("wb") as file:
                file.writelines(self._data())
            self.settle(path)

    def settle(self, path: Path) -> None:
        """Give what was written to `path` its permissions and time."""
        if not stat.S_ISLNK(self.mode):
            path.chmod(stat.S_IMODE(self.mode))
            os.utime(path, (self.modified, self.modified))

    def _data(self) -> Iterator[bytes]:
        sent, digest = 0, hashlib.sha256()
        for data in _pieces(self.source):
            sent += len(data)
            if sent > self.size:
                break
            digest.update(data)
            yield data
        if sent != self.size or digest.hexdigest() != self.content:
            raise ConfigError(f"{self.source!s} was changed while the image was being built")


@dataclass(frozen=True)
class Bundle:
    """`dockerfile` is its text, `name` what it is called in the context, where it is too.

    `base` is the image that steps are done on, and None for a Dockerfile of the user's, whose step
    is `origin`. The members called `ignored` are only there because the classic builder wants them.
    """

    dockerfile: str
    members: tuple[Member, ...]
    name: str
    base: str | None = None
    origin: FromDockerfile | None = None
    ignored: AbstractSet[str] = frozenset()

    @functools.cached_property
    def digest(self) -> str:
        """32 hex digits that stand for the content."""
        digest = hashlib.sha256(FORMAT)
        members = sorted(member.record for member in self.members)
        chosen = self.origin.digested if self.origin is not None else {}
        options = sorted(f"{name}={value}".encode() for name, value in chosen.items())
        for record in (self.dockerfile.encode(), *members, *options):
            digest.update(len(record).to_bytes(8) + record)
        return digest.hexdigest()[:DIGITS]

    @property
    def reference(self) -> str:
        """What an engine calls the image."""
        return f"{REPOSITORY}:{self.digest}"

    def tar(self) -> Iterator[bytes]:
        """The context as the engine takes it; blocks."""
        for member in self.members:
            yield from member.tar()
        yield bytes(2 * BLOCK)

    def write_context(self, folder: Path) -> None:
        """Make the context as a directory; blocks. Raises as `Member.write`."""
        members = [member for member in self.members if member.name not in self.ignored]
        for member in members:
            member.write(folder / member.name)
        for member in reversed(members):  # what is in a directory comes after it
            if stat.S_ISDIR(member.mode):
                member.settle(folder / member.name)


def directory_member(name: str) -> Member:
    """A directory that is on no disk."""
    return Member(name=name, mode=stat.S_IFDIR | 0o755, content="", source=b"")


def bytes_member(name: str, data: bytes) -> Member:
    """A file that is on no disk."""
    return Member(
        name=name,
        mode=stat.S_IFREG | 0o644,
        content=hashlib.sha256(data).hexdigest(),
        source=data,
        size=len(data),
    )


def read_member(name: str, path: Path, *, follow: bool = False) -> Member | None:
    """What `path` is now, under another name; None for what an image cannot hold.

    `follow` packs the target of a link instead of the link. Raises OSError.
    """
    info = path.stat() if follow else path.lstat()
    content, size = "", 0
    if stat.S_ISREG(info.st_mode):
        digest = hashlib.sha256()
        for data in _pieces(path):
            digest.update(data)
            size += len(data)
        content = digest.hexdigest()
    elif stat.S_ISLNK(info.st_mode):
        content = os.readlink(path)
    elif not stat.S_ISDIR(info.st_mode):
        return None
    return Member(
        name=name,
        mode=info.st_mode,
        content=content,
        source=path,
        size=size,
        modified=info.st_mtime,
    )


def read_tree(prefix: str, root: Path, ignore: Iterable[str]) -> Iterator[Member]:
    """What is below `root` and not ignored, see `IgnoreRules`. Raises OSError."""
    if not root.is_dir():
        raise NotADirectoryError(20, "not a directory", str(root))
    for name in IgnoreRules(ignore).walk(root):
        member = read_member(prefix + name, root / name)
        if member is not None:
            yield member


def _pieces(source: Path | bytes) -> Iterator[bytes]:
    if isinstance(source, bytes):
        yield source
        return
    with source.open("rb") as file:
        while data := file.read(PIECE):
            yield data

"""A file system in memory, with the errors of Linux for root. Knows no sandbox."""

from __future__ import annotations

import errno
import os
import posixpath
import time
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["File", "Folder", "Link", "Node", "Special", "Tree", "fail"]

NAME_MAX = 255
LINKS_MAX = 40
"""Symbolic links that Linux follows in one path."""


def fail(number: int, path: object) -> NoReturn:
    """Raise the builtin error of this number."""
    raise OSError(number, os.strerror(number), str(path))


@dataclass(slots=True, kw_only=True, eq=False)
class Node:
    """What a name leads to."""

    mode: int
    modified: float = field(default_factory=time.time)
    uid: int = 0
    gid: int = 0


@dataclass(slots=True, kw_only=True, eq=False)
class File(Node):
    data: bytes = b""
    names: int = 1


@dataclass(slots=True, kw_only=True, eq=False)
class Folder(Node):
    entries: dict[str, Node] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True, eq=False)
class Link(Node):
    target: str


@dataclass(slots=True, kw_only=True, eq=False)
class Special(Node):
    """A named pipe or a device, which nothing here can open."""


class Tree:
    """All files of a sandbox. Paths are absolute and normal."""

    def __init__(self) -> None:
        self.root = Folder(mode=0o755)

    def find(self, path: PurePosixPath, *, follow: bool = True) -> Node:
        """Return what `path` leads to; with `follow` not a link."""
        try:
            return self._walk(path, follow=follow)[2]
        except _Absent:
            fail(errno.ENOENT, path)

    def place(self, path: PurePosixPath, *, follow: bool = True) -> tuple[Folder, str]:
        """Return the folder and the name at which `path` is, or can be made."""
        try:
            folder, name, _ = self._walk(path, follow=follow)
        except _Absent as error:
            if error.rest:
                fail(errno.ENOENT, path)
            return error.folder, error.name
        return folder, name

    def _walk(self, path: PurePosixPath, *, follow: bool) -> tuple[Folder, str, Node]:
        """Return what `path` leads to, and the folder and the name that it has there."""
        trail = [self.root]
        found: tuple[Folder, str, Node] = self.root, "", self.root
        waiting = _names(str(path))
        links = 0
        while waiting:
            folder = found[2]
            if not isinstance(folder, Folder):
                fail(errno.ENOTDIR, path)
            name = waiting.pop()
            if name == "..":  # of a link's target only
                del trail[max(1, len(trail) - 1) :]
                found = trail[-1], "", trail[-1]
                continue
            if len(os.fsencode(name)) > NAME_MAX:
                fail(errno.ENAMETOOLONG, path)
            entry = folder.entries.get(name)
            if entry is None:
                raise _Absent(folder, name, waiting)
            if isinstance(entry, Link) and (follow or waiting):
                links += 1
                if links > LINKS_MAX:
                    fail(errno.ELOOP, path)
                trail = [self.root] if entry.target.startswith("/") else trail
                found = trail[-1], "", trail[-1]
                waiting += _names(entry.target)
                continue
            found = folder, name, entry
            if isinstance(entry, Folder):
                trail.append(entry)
        return found

    def folder(self, path: PurePosixPath) -> Folder:
        """Return the folder at `path`."""
        found = self.find(path)
        if not isinstance(found, Folder):
            fail(errno.ENOTDIR, path)
        return found

    def file(self, path: PurePosixPath) -> File:
        """Return the regular file at `path`."""
        found = self.find(path)
        if isinstance(found, Folder):
            fail(errno.EISDIR, path)
        if not isinstance(found, File):
            raise OSError(errno.EINVAL, "Not a regular file", str(path))
        return found

    def make_folder(self, path: PurePosixPath, *, parents: bool, exist_ok: bool) -> None:
        """Make a folder, as `pathlib.Path.mkdir` does."""
        if parents and path != path.parent:
            self.make_parents(path)
        try:
            found = self.find(path)
        except FileNotFoundError:
            pass
        except OSError as error:
            fail(errno.EEXIST if error.errno == errno.ELOOP else error.errno or 0, path)
        else:
            if not (exist_ok and isinstance(found, Folder)):
                fail(errno.EEXIST, path)
            return
        folder, name = self.place(path, follow=False)
        if name in folder.entries:  # a link that leads nowhere
            fail(errno.EEXIST, path)
        folder.entries[name] = Folder(mode=0o755)

    def write(
        self, path: PurePosixPath, data: bytes, *, exclusive: bool = False, mode: int = 0o644
    ) -> File:
        """Write a file, whose parents are made; one that is there keeps its mode and its names."""
        self.make_parents(path)
        folder, name = self.place(path, follow=not exclusive)
        found = folder.entries.get(name)
        if exclusive and found is not None:
            fail(errno.EEXIST, path)
        if found is None and name:
            found = folder.entries[name] = File(mode=mode)
        if isinstance(found, Folder) or not name:
            fail(errno.EISDIR, path)
        if not isinstance(found, File):
            raise OSError(errno.EINVAL, "Not a regular file", str(path))
        found.data, found.modified = data, time.time()
        return found

    def make_parents(self, path: PurePosixPath) -> None:
        """Make the parents of `path` that are missing."""
        try:
            self.folder(path.parent)
        except FileNotFoundError:
            self.make_folder(path.parent, parents=True, exist_ok=True)

    def remove(self, path: PurePosixPath, *, recursive: bool) -> None:
        """Remove what is at `path`; a link and not what it leads to."""
        folder, name = self.place(path, follow=False)
        found = folder.entries.get(name)
        if found is None:
            fail(errno.ENOENT if name else errno.EBUSY, path)
        if isinstance(found, Folder) and found.entries and not recursive:
            fail(errno.ENOTEMPTY, path)
        if isinstance(found, File):
            found.names -= 1
        del folder.entries[name]

    def move(self, source: PurePosixPath, destination: PurePosixPath) -> None:
        """Rename, as rename(2) does."""
        old, old_name = self.place(source, follow=False)
        if old_name not in old.entries:
            fail(errno.ENOENT, source)
        moved = old.entries[old_name]
        new, new_name = self.place(destination, follow=False)
        there = new.entries.get(new_name)
        if isinstance(moved, Folder) and destination.is_relative_to(source):
            if destination == source:
                return
            fail(errno.EINVAL, destination)
        if isinstance(there, Folder):
            if source.is_relative_to(destination):
                fail(errno.ENOTEMPTY, destination)
            if not isinstance(moved, Folder):
                fail(errno.EISDIR, destination)
            if there.entries:
                fail(errno.ENOTEMPTY, destination)
        elif there is not None and isinstance(moved, Folder):
            fail(errno.ENOTDIR, destination)
        if there is not moved:
            new.entries[new_name] = moved
            del old.entries[old_name]

    def entries(
        self, folder: Folder, at: PurePosixPath, depth: int
    ) -> Iterator[tuple[PurePosixPath, Node]]:
        """Yield what is below `folder`, down to `depth` levels, in the order of the paths."""
        for name in sorted(folder.entries, key=os.fsencode):
            entry = folder.entries[name]
            yield at / name, entry
            if isinstance(entry, Folder) and depth > 1:
                yield from self.entries(entry, at / name, depth - 1)

    def real(self, path: PurePosixPath) -> PurePosixPath:
        """Return `path` without links, as far as it is there."""
        return _real(self, str(path), LINKS_MAX)


class _Absent(Exception):
    """A name on the way of a path is missing; `rest` are the names after it, the next one last."""

    def __init__(self, folder: Folder, name: str, rest: list[str]) -> None:
        super().__init__(name)
        self.folder = folder
        self.name = name
        self.rest = rest


def _names(path: str) -> list[str]:
    """Return the names of a path, the first one last."""
    return [name for name in reversed(path.split("/")) if name not in ("", ".")]


def _real(tree: Tree, path: str, links: int) -> PurePosixPath:
    done = PurePosixPath("/")
    for part in PurePosixPath(path).parts[1:]:
        try:
            entry = tree.find(done / part, follow=False)
        except OSError:
            done = done / part
            continue
        if isinstance(entry, Link) and links:
            target = posixpath.normpath(posixpath.join(str(done), entry.target))
            done = _real(tree, target, links - 1)
        else:
            done = done / part
    return done

"""What is in a folder, and what of it changed. Blocks; follows no link."""

from __future__ import annotations

import os
import posixpath
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from paddock.backends.guest.inside.ignored import IgnoreRules

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = ["IGNORE_FILE", "Change", "FileState", "Reading", "changes", "read_folder"]

IGNORE_FILE = ".artifactignore"
DEFAULT_IGNORE = (
    "node_modules/",
    ".venv/",
    ".env/",
    "env/",
    "venv/",
    "dist/",
    "__pycache__/",
    "__pytest_cache__/",
    ".pytest_cache/",
)
MAX_ENTRIES = 200_000
"""Entries of a folder that are looked at: a tree with more takes seconds to read."""
MAX_RULES = 256 * 1024
"""Bytes of an ignore file: the longest that people write have a few thousand."""


@dataclass(frozen=True, slots=True)
class FileState:
    """What tells two states of a file apart."""

    size: int
    mtime: int
    ctime: int
    inode: int

    @classmethod
    def of(cls, info: os.stat_result) -> FileState:
        return cls(info.st_size, info.st_mtime_ns, info.st_ctime_ns, info.st_ino)


Reading = dict[str, FileState]
"""The regular files of a folder, by their paths in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What became of a file of a folder; `size` is 0 for one that is gone."""

    folder: str
    relative_path: str
    kind: Literal["added", "modified", "deleted"]
    size: int

    @property
    def path(self) -> str:
        return posixpath.join(self.folder, self.relative_path)


def read_folder(folder: str, ignore: str | None = None, *, most: int = MAX_ENTRIES) -> Reading:
    """Return the files of `folder` that its rules do not ignore.

    The rules are `ignore`, in the syntax of a .gitignore file, or else the folder's own
    ``.artifactignore``, or else `DEFAULT_IGNORE`. A folder that is not there has no files. Raises
    `OSError` and, for a folder with more entries than `most`, `ValueError`.
    """
    rules = IgnoreRules(_patterns(folder, ignore))
    found: Reading = {}
    for count, (path, entry) in enumerate(_walk(folder, rules), 1):
        if count > most:
            raise ValueError(f"{folder} has more than {most} entries")
        info = entry.stat(follow_symlinks=False)
        if stat.S_ISREG(info.st_mode):
            found[path] = FileState.of(info)
    return found


def _patterns(folder: str, ignore: str | None) -> Sequence[str]:
    if ignore is None:
        ignore = _ignore_file(folder)
    if ignore is None:
        return (*DEFAULT_IGNORE, IGNORE_FILE)
    lines = (line.removesuffix("\r") for line in ignore.split("\n"))
    return [*(line for line in lines if not line.startswith("#")), f"/{IGNORE_FILE}"]


def _ignore_file(folder: str) -> str | None:
    path = os.path.join(folder, IGNORE_FILE)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    with open(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return None
        return file.read(MAX_RULES).decode(errors="replace")


def _walk(folder: str, rules: IgnoreRules) -> Iterator[tuple[str, os.DirEntry[str]]]:
    waiting = [""]
    while waiting:
        here = waiting.pop()
        try:
            with os.scandir(os.path.join(folder, here)) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            continue  # gone meanwhile, or not readable by this user
        for entry in entries:
            path = f"{here}/{entry.name}" if here else entry.name
            is_folder = entry.is_dir(follow_symlinks=False)
            if rules.ignores(path, is_folder):
                continue
            if is_folder:
                waiting.append(path)
            else:
                try:
                    entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                yield path, entry


def changes(folder: str, before: Mapping[str, FileState], after: Reading) -> list[Change]:
    """Return what is new, changed and gone in `after`, by path."""
    found = [
        Change(folder=folder, relative_path=path, kind="deleted", size=0)
        for path in before.keys() - after.keys()
    ]
    for path, state in after.items():
        known = before.get(path)
        if known != state:
            kind: Literal["added", "modified"] = "added" if known is None else "modified"
            found.append(Change(folder=folder, relative_path=path, kind=kind, size=state.size))
    return sorted(found, key=lambda change: change.relative_path)

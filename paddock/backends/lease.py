"""Who owns a directory of this machine, and what is left of owners that are gone.

A sandbox's directory has a lock file beside it, which its owner holds with flock(2)
for as long as it lives; the kernel lets go when the process ends, however it ends.
What no process holds is abandoned: `sweep` removes it. Age plays no part.

The lock file holds a record: what its owner says of the directory, for others to read,
and the control groups that go with it. It is there before they are and goes after them,
so no group is ever without a record.

No record is trusted. No sandbox gets a directory that contains them, and if something has
written one all the same, then it names at most groups of a sandbox of that very name.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import json
import operator
import os
import re
import secrets
import stat
import subprocess
import tempfile
import time
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from paddock.backends.isolation import cgroups, mounts
from paddock.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = [
    "OwnedDirectory",
    "Record",
    "check_outside",
    "held",
    "own_directory",
    "records",
    "remove",
    "sweep",
]

LOCK = ".lock"


NAME = re.compile(r"[0-9a-f]{12}")
"""What a sandbox is called. No other file is taken for a record."""
FEW_LEVELS, FEW_ENTRIES = 4, 32
"""Levels of a tree, and entries of each of its directories, that are removed without rm."""
RECORD_BYTES = 64 * 1024
"""A record is far smaller, labels included; a longer one is not ours."""
OPEN_LOCK = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def base_directory() -> Path:
    """Return where this user's sandboxes live on this machine; see `own_directory`."""
    path = Path(tempfile.gettempdir()) / f"paddock-{os.getuid()}"
    own_directory(path)
    return path


def own_directory(path: Path) -> None:
    """Make `path` a directory that is ours and that others can only pass through.

    Raise `ConfigError` if it is a link, not a directory, or somebody else's.
    """
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=0o700)
    os.close(_opened_own(path))


def _opened_own(path: Path) -> int:
    """Open a directory, having checked that it is ours; close it to what others could do there."""
    try:
        fd = os.open(path, OPEN_FOLDER)
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.ENOTDIR, errno.EACCES):
            raise
        raise _not_ours(path) from None
    info = os.fstat(fd)
    if info.st_uid != os.getuid():
        os.close(fd)
        raise _not_ours(path)
    if info.st_mode & 0o066:
        os.fchmod(fd, 0o700)
    return fd


def _not_ours(path: Path) -> ConfigError:
    return ConfigError(f"{path} is not a directory of ours; remove it or set TMPDIR elsewhere")


def check_outside(name: str, directory: str) -> None:
    """Raise `ConfigError` naming `name` if a sandbox that has `directory` could write our records.

    That is so if it contains them, or is among them, by whatever links and mounts.
    """
    base = base_directory().resolve()
    path = Path(os.path.realpath(directory))
    there = next(each for each in (path, *path.parents) if each.exists())
    refused = _same(base) in {_same(each) for each in (there, *there.parents)}
    if there == path:  # what is not there yet contains nothing
        refused = refused or _same(path) in {_same(each) for each in base.parents}
        refused = refused or mounts.shows(path, base)
    if refused:
        raise ConfigError(
            f"{name}={directory!r} contains Paddock's own records ({base}); "
            "choose another directory, or set TMPDIR to one that is not below it"
        )


def _same(path: Path) -> tuple[int, int]:
    info = path.stat()
    return info.st_dev, info.st_ino


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What a lock file says. `created` is in seconds since the epoch, `groups` are paths."""

    pid: int = 0
    created: float = 0.0
    working_dir: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    groups: tuple[str, ...] = ()


@dataclass(eq=False, slots=True)
class OwnedDirectory:
    """A fresh directory that goes with its owner: by `remove()`, or by a later `sweep`."""

    path: Path
    _lock: int | None

    @classmethod
    def create(
        cls, *, labels: Mapping[str, str] | None = None, working_dir: str | None = None
    ) -> Self:
        base = base_directory()
        while True:
            path = base / secrets.token_hex(6)
            lock = take(path.with_suffix(LOCK), create=True)
            if lock is not None:
                break
        about = Record(
            pid=os.getpid(),
            created=time.time(),
            working_dir=working_dir,
            labels=dict(labels or {}),
        )
        try:
            _write(lock, about)
            path.mkdir(mode=0o700)
        except BaseException:
            path.with_suffix(LOCK).unlink()
            os.close(lock)
            raise
        return cls(path, lock)

    def record(self, groups: Iterable[cgroups.Group]) -> None:
        """Let these control groups, which are not made yet, go with the directory."""
        paths = tuple(str(group.path) for group in groups)
        if not paths:
            return
        assert self._lock is not None, "the directory was removed"
        _write(self._lock, replace(_read(self._lock), groups=paths))

    def remove(self) -> None:
        """End what runs in its control groups, remove them, it, and all below, whatever its modes.

        What cannot be removed is left to a later `sweep`, and the error is raised. Called again,
        this removes what is left, unless a sweep does so already.
        """
        lock, self._lock = self._lock, None
        if lock is None and (lock := take(self.path.with_suffix(LOCK), create=False)) is None:
            return
        try:
            groups = [Path(name) for name in _read(lock).groups]
            cgroups.remove([path for path in groups if cgroups.belongs_to(path, self.path.name)])
            remove_tree(self.path)
            self.path.with_suffix(LOCK).unlink(missing_ok=True)
        finally:
            os.close(lock)

    def abandon(self) -> None:
        """Let go of the directory as if this process had ended."""
        lock, self._lock = self._lock, None
        if lock is not None:
            os.close(lock)


def _write(lock: int, record: Record) -> None:
    os.ftruncate(lock, 0)
    os.pwrite(lock, json.dumps(asdict(record)).encode(), 0)


def _read(lock: int) -> Record:
    """What a record says. One that is not whole (yet), or not as we write it, says nothing.

    Nothing that it says is believed where that would matter: see `cgroups.belongs_to`.
    """
    try:
        told: dict[str, Any] = json.loads(os.pread(lock, RECORD_BYTES, 0))
        found = Record(**{**told, "groups": tuple(told["groups"])})
        datetime.fromtimestamp(found.created, UTC)  # it is a number, and a time
        operator.index(found.pid)
        texts = (found.working_dir or "", *found.groups, *found.labels, *found.labels.values())
        whole = all(isinstance(text, str) for text in texts)
    except (
        ValueError,
        TypeError,
        KeyError,
        AttributeError,
        OverflowError,
        OSError,
        RecursionError,
    ):
        return Record()
    return found if whole else Record()


def remove_tree(path: Path) -> None:
    """Remove a directory of any depth; never follows a link.

    The system's rm does not recurse by name, so no depth of directories that a
    sandbox has made is too deep for it. Starting it takes longer than removing what most
    sandboxes leave.
    """
    if path.is_symlink():  # which chmod would follow
        path.unlink()
        return
    with contextlib.suppress(OSError):
        folder = os.open(path, OPEN_FOLDER)
        try:
            _remove_few(folder, FEW_LEVELS)
        finally:
            os.close(folder)
        path.rmdir()
        return
    command = ["rm", "-rf", "--", str(path)]
    if subprocess.run(command, check=False, stderr=subprocess.DEVNULL).returncode:
        subprocess.run(["chmod", "-R", "u+rwX", "--", str(path)], check=False, capture_output=True)
        subprocess.run(command, check=True, capture_output=True)


def _remove_few(folder: int, levels: int) -> None:
    """Remove what is in an open directory; raise `OSError` if that is more than a few entries."""
    if not levels:
        raise OSError(errno.ENOTEMPTY, "too deep for this")
    with os.scandir(folder) as found:
        entries = list(itertools.islice(found, FEW_ENTRIES + 1))
    if len(entries) > FEW_ENTRIES:
        raise OSError(errno.ENOTEMPTY, "too many for this")
    for entry in entries:
        if not entry.is_dir(follow_symlinks=False):
            os.unlink(entry.name, dir_fd=folder)
            continue
        below = os.open(entry.name, OPEN_FOLDER, dir_fd=folder)
        try:
            _remove_few(below, levels - 1)
        finally:
            os.close(below)
        os.rmdir(entry.name, dir_fd=folder)


def take(path: Path, *, create: bool) -> int | None:
    """The lock, held; None if somebody else has it, it is gone, or it is not ours.

    Raise `ConfigError` if its directory is not ours.
    """
    folder = _opened_own(path.parent)
    try:
        return _taken(folder, path.name, OPEN_LOCK | (os.O_CREAT | os.O_EXCL if create else 0))
    finally:
        os.close(folder)


def _taken(folder: int, name: str, flags: int) -> int | None:
    try:
        fd = os.open(name, flags, 0o600, dir_fd=folder)
    except OSError as error:
        if error.errno in NOT_A_LOCK:
            return None
        raise
    try:
        if _is_ours(fd):
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # A sweeper may have removed the name between the two calls.
            if os.stat(name, dir_fd=folder, follow_symlinks=False).st_ino == os.fstat(fd).st_ino:
                return fd
    except (BlockingIOError, FileNotFoundError):
        pass
    os.close(fd)
    return None


NOT_A_LOCK = (errno.ENOENT, errno.EEXIST, errno.ELOOP, errno.EACCES, errno.EISDIR, errno.ENXIO)
"""It is gone or there already, or it is a link, somebody else's, a directory or a socket."""


def _is_ours(fd: int) -> bool:
    """Whether an open file is one that only we can have written."""
    info = os.fstat(fd)
    ours = stat.S_ISREG(info.st_mode) and info.st_uid == os.getuid()
    return ours and not info.st_mode & 0o022 and info.st_nlink <= 1


def held(path: Path) -> bool:
    """Whether somebody has the lock at `path`.

    Only for one that has been taken before: this takes it for a moment, at which its
    first owner would fail.
    """
    fd = take(path, create=False)
    if fd is None:
        return path.exists()
    os.close(fd)
    return False


def records() -> list[tuple[Path, Record]]:
    """The directories there are, with what their owners say of them."""
    found = []
    for name in _locks():
        # A directory is made after its lock was taken, and goes before it.
        if name.with_suffix("").is_dir():
            with contextlib.suppress(OSError):
                fd = os.open(name, OPEN_LOCK & ~os.O_RDWR)
                try:
                    if _is_ours(fd):
                        found.append((name.with_suffix(""), _read(fd)))
                finally:
                    os.close(fd)
    return found


def _locks() -> list[Path]:
    return [path for path in base_directory().glob(f"*{LOCK}") if NAME.fullmatch(path.stem)]


def remove(path: Path) -> bool:
    """Remove a directory that has no owner, and what goes with it; False if it has one."""
    lock = take(path.with_suffix(LOCK), create=False)
    if lock is None:
        return False
    OwnedDirectory(path, lock).remove()
    return True


def sweep() -> list[Path]:
    """Remove the directories whose owner is gone, and what goes with them; return them.

    What cannot be removed yet stays for the next sweep.
    """
    swept = []
    for name in _locks():
        lock = take(name, create=False)
        if lock is None:
            continue
        path = name.with_suffix("")
        there = path.exists()
        with contextlib.suppress(OSError, subprocess.CalledProcessError):
            OwnedDirectory(path, lock).remove()
            if there:
                swept.append(path)
    return swept

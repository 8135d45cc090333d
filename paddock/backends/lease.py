"""Who owns a directory of this machine, and what is left of owners that are gone.

A sandbox's directory has a lock file beside it, which its owner holds with flock(2)
for as long as it lives; the kernel lets go when the process ends, however it ends.
What nobody holds is nobody's: `sweep` removes it. Age plays no part.

The lock file holds a record: what its owner says of the directory, for others to read,
and the control groups that go with it. It is there before they are and goes after them,
so no group is ever without a record.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import stat
import subprocess
import tempfile
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from paddock.backends.isolation import cgroups
from paddock.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["OwnedDirectory", "Record", "held", "records", "remove", "sweep"]

LOCK = ".lock"


def base_directory() -> Path:
    """Where sandboxes of this user live on this machine; made if missing, checked if not."""
    path = Path(tempfile.gettempdir()) / f"paddock-{os.getuid()}"
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=0o700)
    info = path.lstat()
    if not stat.S_ISDIR(info.st_mode) or info.st_uid != os.getuid() or info.st_mode & 0o077:
        raise ConfigError(f"{path} is not a directory of ours; remove it or set TMPDIR elsewhere")
    return path


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What a lock file says. `created` is in seconds since the epoch, `groups` are paths."""

    pid: int = 0
    created: float = 0.0
    working_dir: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    groups: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class OwnedDirectory:
    """A fresh directory that goes with its owner: by `remove()`, or by a later `sweep`."""

    path: Path
    _lock: int

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
        _write(self._lock, replace(_read(self._lock), groups=paths))

    def remove(self) -> None:
        """End what runs in its control groups, remove them, it, and all below, whatever its modes.

        What cannot be removed is left to a later `sweep`, and the error is raised.
        """
        try:
            cgroups.remove([Path(name) for name in _read(self._lock).groups])
            remove_tree(self.path)
            self.path.with_suffix(LOCK).unlink(missing_ok=True)
        finally:
            os.close(self._lock)


def _write(lock: int, record: Record) -> None:
    os.ftruncate(lock, 0)
    os.pwrite(lock, json.dumps(asdict(record)).encode(), 0)


def _read(lock: int) -> Record:
    try:
        told: dict[str, Any] = json.loads(os.pread(lock, os.fstat(lock).st_size, 0))
        return Record(**{**told, "groups": tuple(told["groups"])})
    except (ValueError, TypeError, KeyError):
        return Record()  # it is not whole (yet): its groups are made after it


def remove_tree(path: Path) -> None:
    """Remove a directory of any depth; never follows a link.

    The system's rm does not recurse by name, so no depth of directories that a
    sandbox has made is too deep for it.
    """
    command = ["rm", "-rf", "--", str(path)]
    if subprocess.run(command, check=False, stderr=subprocess.DEVNULL).returncode:
        subprocess.run(["chmod", "-R", "u+rwX", "--", str(path)], check=False, capture_output=True)
        subprocess.run(command, check=True, capture_output=True)


def take(path: Path, *, create: bool) -> int | None:
    """The lock, held; None if somebody else has it or it is gone."""
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        fd = os.open(path, flags | (os.O_CREAT | os.O_EXCL if create else 0), 0o600)
    except (FileNotFoundError, FileExistsError):
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # A sweeper may have removed the name between the two calls.
        if path.stat().st_ino == os.fstat(fd).st_ino:
            return fd
    except (BlockingIOError, FileNotFoundError):
        pass
    os.close(fd)
    return None


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
    for name in base_directory().glob(f"*{LOCK}"):
        # A directory is made after its lock was taken, and goes before it.
        if name.with_suffix("").is_dir():
            with contextlib.suppress(FileNotFoundError), open(name, "rb") as file:
                found.append((name.with_suffix(""), _read(file.fileno())))
    return found


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
    for name in base_directory().glob(f"*{LOCK}"):
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

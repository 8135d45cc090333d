"""Who owns a directory of this machine, and what is left of owners that are gone.

A sandbox's directory has a lock file beside it, which its owner holds with flock(2)
for as long as it lives; the kernel lets go when the process ends, however it ends.
What nobody holds is nobody's: `sweep` removes it. Age plays no part.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import stat
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from paddock.errors import ConfigError

__all__ = ["OwnedDirectory", "sweep"]

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


@dataclass(frozen=True, slots=True)
class OwnedDirectory:
    """A fresh directory that goes with its owner: by `remove()`, or by a later `sweep`."""

    path: Path
    _lock: int

    @classmethod
    def create(cls) -> Self:
        base = base_directory()
        while True:
            path = base / secrets.token_hex(6)
            lock = _take(path.with_suffix(LOCK), create=True)
            if lock is not None:
                break
        try:
            path.mkdir(mode=0o700)
        except BaseException:
            _drop(path, lock)
            raise
        return cls(path, lock)

    def remove(self) -> None:
        """Remove it and all below, whatever its modes."""
        remove_tree(self.path)
        _drop(self.path, self._lock)


def remove_tree(path: Path) -> None:
    """Remove a directory of any depth; never follows a link.

    The system's rm does not recurse by name, so no depth of directories that a
    sandbox has made is too deep for it.
    """
    command = ["rm", "-rf", "--", str(path)]
    if subprocess.run(command, check=False, stderr=subprocess.DEVNULL).returncode:
        subprocess.run(["chmod", "-R", "u+rwX", "--", str(path)], check=False, capture_output=True)
        subprocess.run(command, check=True, capture_output=True)


def _take(path: Path, *, create: bool) -> int | None:
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


def _drop(path: Path, lock: int) -> None:
    path.with_suffix(LOCK).unlink(missing_ok=True)
    os.close(lock)


def sweep() -> list[Path]:
    """Remove the directories whose owner is gone; return them."""
    swept = []
    for name in base_directory().glob(f"*{LOCK}"):
        lock = _take(name, create=False)
        if lock is None:
            continue
        path = name.with_suffix("")
        if path.exists():
            remove_tree(path)
            swept.append(path)
        _drop(path, lock)
    return swept

"""Who owns a sandbox that is not on this machine's own disk, and which owners are gone.

Such a sandbox carries, from its creation on, the name of a lock file that its owner holds
with flock(2), and where that file is. A sweep removes a sandbox whose lock nobody holds; it
judges only those whose lock file would be in its own directory, on its own boot: others it
cannot see, and the lease of a sandbox is enough.
"""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from paddock.backends import lease

__all__ = ["OwnerLock", "folder", "forget_dead", "is_alive", "is_owned", "place"]


def folder() -> Path:
    """Where the locks of this user's processes are."""
    path = lease.base_directory() / "owners"
    path.mkdir(mode=0o700, exist_ok=True)
    return path


def place() -> str:
    """This machine since it was started, and the directory of our lock files on it."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    info = folder().stat()
    return f"{boot.read_text().strip() if boot.exists() else ''}:{info.st_dev}:{info.st_ino}"


@dataclass(frozen=True, slots=True)
class OwnerLock:
    """The lock of one sandbox; held until `release`, or until this process ends."""

    path: Path
    _fd: int

    @classmethod
    def take(cls) -> Self:
        """The lock of a new name, which is `name`."""
        while True:
            path = folder() / f"paddock-{secrets.token_hex(6)}{lease.LOCK}"
            # None: somebody's sweep found it in the moment in which nobody held it.
            if (fd := lease.take(path, create=True)) is not None:
                return cls(path, fd)

    @property
    def name(self) -> str:
        return self.path.name.removesuffix(lease.LOCK)

    def release(self) -> None:
        self.path.unlink(missing_ok=True)
        os.close(self._fd)


def forget_dead() -> bool:
    """Remove the lock files of owners that are gone; whether there were any."""
    found = False
    for path in folder().glob(f"*{lease.LOCK}"):
        fd = lease.take(path, create=False)
        if fd is not None:
            OwnerLock(path, fd).release()
            found = True
    return found


def is_alive(name: str) -> bool:
    """Whether the owner of a sandbox of this place still holds it."""
    return lease.held(folder() / f"{name}{lease.LOCK}")


def is_owned(name: str) -> bool:
    """The same, after `forget_dead`."""
    return (folder() / f"{name}{lease.LOCK}").exists()

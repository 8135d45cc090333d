"""Who owns a sandbox that is not on this machine's own disk, and which owners are gone.

Such a sandbox carries, from its creation on, the name of a lock file that its maker holds
with flock(2), and where that file is. Who joins it holds another one beside that. A sweep
removes a sandbox that has no lock which anybody holds; it judges only those whose lock files
would be in its own directory, on its own boot: others it cannot see, and the lease of a
sandbox is enough.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import quote

from paddock.backends import lease

__all__ = ["OwnerLock", "folder", "forget_dead", "host_digest", "host_id", "is_alive", "is_owned"]

JOINED = "+"
"""Between a sandbox's name and the suffix of a lock of a process that joined it."""


def folder() -> Path:
    """Where the locks of this user's processes are."""
    path = lease.base_directory() / "owners"
    lease.own_directory(path)
    return path


def host_id() -> str:
    """Identify this boot of this machine, and the directory of our lock files on it."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    info = folder().stat()
    return f"{boot.read_text().strip() if boot.exists() else ''}:{info.st_dev}:{info.st_ino}"


def host_digest() -> str:
    """Return the digest of `host_id`, for names that cannot hold all of it."""
    return hashlib.sha256(host_id().encode()).hexdigest()[:12]


@dataclass(eq=False, slots=True)
class OwnerLock:
    """A lock of one sandbox; held until `release` or `abandon`, or until this process ends."""

    name: str
    """The sandbox's."""
    path: Path
    _fd: int | None

    @classmethod
    def take(cls, prefix: str = "paddock-") -> Self:
        """Return the lock of a new sandbox's maker; the sandbox's name begins with `prefix`."""
        while (lock := cls._try(f"{prefix}{secrets.token_hex(6)}")) is None:
            continue
        return lock

    @classmethod
    def join(cls, name: str) -> Self:
        """Take one more lock of the sandbox `name`, of any owner."""
        while (lock := cls._try(name, f"{JOINED}{secrets.token_hex(6)}")) is None:
            continue
        return lock

    @classmethod
    def _try(cls, name: str, suffix: str = "") -> Self | None:
        """None if a sweep found the file in the moment in which it was not locked."""
        path = _path(name, suffix)
        fd = lease.take(path, create=True)
        return None if fd is None else cls(name, path, fd)

    @property
    def is_makers(self) -> bool:
        """Whether the holder made the sandbox, and did not join it."""
        return JOINED not in self.path.name

    @property
    def is_held(self) -> bool:
        """Whether it was neither released nor abandoned."""
        return self._fd is not None

    def release(self) -> None:
        """Let go of the sandbox, which is gone or has other owners; idempotent."""
        self.path.unlink(missing_ok=True)
        self.abandon()

    def abandon(self) -> None:
        """Let go as if this process had ended: a sweep finds the sandbox; idempotent."""
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)


def forget_dead() -> bool:
    """Remove the lock files of owners that are gone; whether there were any."""
    found = False
    for path in folder().glob(f"*{lease.LOCK}"):
        fd = lease.take(path, create=False)
        if fd is not None:
            path.unlink(missing_ok=True)
            os.close(fd)
            found = True
    return found


def is_alive(name: str) -> bool:
    """Whether a sandbox of this place is held: by its maker, or by a process that joined it."""
    return any(lease.held(path) for path in _locks(name))


def is_owned(name: str) -> bool:
    """The same, after `forget_dead`."""
    return any(path.exists() for path in _locks(name))


def _locks(name: str) -> list[Path]:
    return [_path(name), *folder().glob(_path(name, f"{JOINED}*").name)]


def _path(name: str, suffix: str = "") -> Path:
    """A name may be anybody's text: what it has of slashes, stars and the like is quoted."""
    return folder() / f"{quote(name, safe='')}{suffix}{lease.LOCK}"

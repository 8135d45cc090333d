"""Who owns a container, and what is left on an engine of owners that are gone.

A container carries, from its creation on, the name of a lock file that its owner holds
with flock(2), and where that file is. A sweep removes a container whose lock nobody
holds; it judges only those whose lock file would be in its own directory, on its own
boot: others it cannot see, and the lease inside them is enough.
"""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from paddock.backends import lease

if TYPE_CHECKING:
    from collections.abc import Mapping

    from docker import APIClient

__all__ = ["LABEL", "PLACE_LABEL", "OwnerLock", "abandoned", "is_alive", "is_ours"]

LABEL = "dev.paddock.sandbox"
"""Holds a sandbox's id, which is its container's name; see `is_ours`."""
PLACE_LABEL = "dev.paddock.place"
"""Where its owner's lock file is, see `place`."""

WORD_LABEL = "dev.paddock.word"
"""What a host has to say to the guest to join it: whoever may look at a container may join."""
LEASE_LABEL = "dev.paddock.lease"
"""Seconds, or nothing for a sandbox that outlives its owners."""
FORK_LABEL = "dev.paddock.fork"
"""On an image that forks were made from: the place of their owner."""
IMAGE_LABEL = "dev.paddock.image"
"""On an image that a user of ours made: its name."""


def _folder() -> Path:
    path = lease.base_directory() / "docker"
    path.mkdir(mode=0o700, exist_ok=True)
    return path


def place() -> str:
    """This machine since it was started, and the directory of our lock files on it."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    info = _folder().stat()
    return f"{boot.read_text().strip() if boot.exists() else ''}:{info.st_dev}:{info.st_ino}"


@dataclass(frozen=True, slots=True)
class OwnerLock:
    """The lock of one container; held until `release`, or until this process ends."""

    path: Path
    _fd: int

    @classmethod
    def take(cls) -> Self:
        """The lock of a new name, which is `name`."""
        while True:
            path = _folder() / f"paddock-{secrets.token_hex(6)}{lease.LOCK}"
            # None: somebody's sweep found it in the moment in which nobody held it.
            if (fd := lease.take(path, create=True)) is not None:
                return cls(path, fd)

    @property
    def name(self) -> str:
        return self.path.name.removesuffix(lease.LOCK)

    def release(self) -> None:
        self.path.unlink(missing_ok=True)
        os.close(self._fd)


def abandoned(client: APIClient) -> list[str]:
    """The containers of this place whose owner is gone; their lock files go with this."""
    for path in _folder().glob(f"*{lease.LOCK}"):
        fd = lease.take(path, create=False)
        if fd is not None:
            OwnerLock(path, fd).release()
    ours = client.containers(all=True, filters={"label": f"{PLACE_LABEL}={place()}"})
    names = [found["Labels"][LABEL] for found in ours if is_ours(found)]
    return [name for name in names if not _is_owned(name)]


def is_ours(found: Mapping[str, Any]) -> bool:
    """Whether a container, as a listing tells it, bears the name that its label tells.

    One that somebody started from an image of a sandbox has only inherited the label.
    """
    return f"/{found['Labels'][LABEL]}" in found["Names"]


def is_alive(name: str) -> bool:
    """Whether the owner of a container of this place still holds it."""
    return lease.held(_folder() / f"{name}{lease.LOCK}")


def _is_owned(name: str) -> bool:
    return (_folder() / f"{name}{lease.LOCK}").exists()

"""Which directories of this machine a sandbox may write to besides its own."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import PurePosixPath

from paddock._arguments import check_local_path
from paddock.errors import ConfigError

__all__ = ["checked_dirs", "require_dirs"]

SYSTEM = tuple(
    map(
        PurePosixPath,
        (
            *("/bin", "/boot", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/libx32", "/proc"),
            *("/run/paddock", "/sbin", "/sys", "/usr", "/home/sandbox", "/workspace"),
        ),
    )
)
"""What a sandbox has of its own, or sees read-only: none of it is replaced."""


def checked_dirs(dirs: object) -> tuple[str, ...]:
    """Return absolute paths in their shortest form. Raise `ConfigError`."""
    if isinstance(dirs, str | bytes) or not isinstance(dirs, Iterable):
        raise ConfigError(f"dirs={dirs!r}: give a list of absolute paths of this machine")
    found = [_checked(at, path) for at, path in enumerate(dirs)]
    return tuple(sorted(dict.fromkeys(found)))  # a directory comes before those in it


def _checked(at: int, given: object) -> str:
    path = os.path.normpath(check_local_path(f"dirs[{at}]", given))
    pure = PurePosixPath(path)
    if not pure.is_absolute():
        raise ConfigError(f"dirs[{at}]={given!r}: give an absolute path")
    if any(pure.is_relative_to(own) or own.is_relative_to(pure) for own in SYSTEM):
        raise ConfigError(f"dirs[{at}]={given!r}: a sandbox has this directory of its own")
    return path


def require_dirs(dirs: Iterable[str]) -> None:
    """Raise `ConfigError` for a directory that is not there."""
    for path in dirs:
        if not os.path.isdir(path):
            raise ConfigError(f"dirs: {path!r} is no directory of this machine; make it first")

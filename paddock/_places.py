"""Where the user's files are kept, also for a user without a home or with one of somebody else's.

Without a home directory platformdirs raises an error, or leaves the ``~`` in its paths, which then
begin in the current directory: in a project that somebody else wrote. A container that runs as
any number (OpenShift, ``docker run -u``) has ``/`` for a home, where its user can make nothing.
"""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path
from typing import Literal

from paddock.errors import ConfigError

__all__ = ["cache_directory", "config_directory", "state_directory"]

Kind = Literal["cache", "config", "state"]


def config_directory() -> Path:
    """Return the user's configuration directory, or a temporary one if it has none.

    Raise `ConfigError` if another user has made the temporary one. Makes nothing.
    """
    return _own("config") or _temporary("config")


def cache_directory() -> Path:
    """Return the user's directory for what can be made again; see `config_directory`."""
    return _own("cache") or _temporary("cache")


def state_directory() -> Path | None:
    """Return the user's state directory, or None if there is no such directory."""
    return _own("state")


def _own(kind: Kind) -> Path | None:
    """Return the directory that is there, or that the user can make; None for none such."""
    import platformdirs

    find = getattr(platformdirs, f"user_{kind}_path")
    try:
        path: Path = find("paddock")
    except RuntimeError:
        return None
    if not path.is_absolute():
        return None
    try:
        nearest = next(place for place in (path, *path.parents) if place.exists())
    except OSError:
        return None  # a home that may not even be looked at
    return path if nearest == path or os.access(nearest, os.W_OK | os.X_OK) else None


def _temporary(kind: Kind) -> Path:
    path = Path(tempfile.gettempdir()) / f"paddock-{kind}-{os.geteuid()}"
    try:
        found = path.lstat()
    except FileNotFoundError:
        return path
    private = not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    if stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and private:
        return path
    raise ConfigError(
        f"there is no home directory that can be written, and {path} is not yours alone; set HOME "
        f"or XDG_{kind.upper()}_HOME"
    )

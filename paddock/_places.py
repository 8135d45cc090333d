"""Where the user's files are kept, also for a user without a home.

Without a home directory platformdirs leaves the ``~`` in its paths, which then begin in the
current directory: in a project that somebody else wrote.
"""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

from paddock.errors import ConfigError

__all__ = ["config_directory"]


def config_directory() -> Path:
    """Return the user's configuration directory, or a temporary one where there is no home.

    Raise `ConfigError` if another user has made the temporary one. Makes nothing.
    """
    import platformdirs

    path = platformdirs.user_config_path("paddock")
    if path.is_absolute():
        return path
    path = Path(tempfile.gettempdir()) / f"paddock-config-{os.geteuid()}"
    try:
        found = path.lstat()
    except FileNotFoundError:
        return path
    private = not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    if stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and private:
        return path
    raise ConfigError(
        f"there is no home directory, and {path} is not yours alone; set HOME or XDG_CONFIG_HOME"
    )

"""Trees of files for tests: made so deep that no path is enough, and told as a value."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["deep", "tree_of"]


def tree_of(root: Path) -> dict[bytes, object]:
    """Everything below a directory: contents, targets, permission bits."""
    found: dict[bytes, object] = {}
    for name, folders, files in os.walk(os.fsencode(root)):
        for entry in (*folders, *files):
            path = os.path.join(name, entry)
            mode = os.lstat(path).st_mode
            key = os.path.relpath(path, os.fsencode(root))
            if stat.S_ISLNK(mode):
                found[key] = os.readlink(path)
            elif stat.S_ISDIR(mode):
                found[key] = stat.S_IMODE(mode)
            else:
                with open(path, "rb") as file:
                    found[key] = (file.read(), stat.S_IMODE(mode))
    return found


def deep(root: Path, levels: int) -> None:
    """Directories so deep that no path names the lowest."""
    here = os.open(root, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir("directory", dir_fd=here)
        with open(os.open("f", os.O_CREAT | os.O_WRONLY, dir_fd=here), "wb"):
            pass
        below = os.open("directory", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)

"""What guests leave on this machine, where in Daytona the sandbox's own machine goes with it."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from paddock.backends.daytona.making import FOLDERS

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["remove_leftovers"]


def remove_leftovers(since: float) -> None:
    """Remove the directories of guests that have ended, as far as they changed after `since`, in
    seconds since 1970. A guest that lives holds its directory open."""
    changed = [each for each in _folders() if _changed(each) >= since]
    held = set(_open()) if changed else set()
    for folder in changed:
        if str(folder) not in held:
            shutil.rmtree(folder, ignore_errors=True)


def _folders() -> Iterator[Path]:
    parent, prefix = os.path.split(FOLDERS)
    for found in Path(parent).glob(f"{prefix}*"):
        with contextlib.suppress(FileNotFoundError):
            if found.lstat().st_uid == os.geteuid() and found.is_dir():
                yield found


def _changed(folder: Path) -> float:
    try:
        return folder.lstat().st_ctime
    except FileNotFoundError:
        return 0.0


def _open() -> Iterator[str]:
    """The paths that processes hold open, as far as we may know."""
    for process in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):  # it has gone meanwhile, or is somebody else's
            for descriptor in os.scandir(f"/proc/{process}/fd"):
                with contextlib.suppress(OSError):
                    yield os.readlink(descriptor.path)

"""The disk that a batch is written to, and what to do when it takes no more. Blocks."""

from __future__ import annotations

import errno
import shutil
import sqlite3
import tempfile
from typing import TYPE_CHECKING

from paddock.runtime.fleet.faults import BatchGaveUp

if TYPE_CHECKING:
    from pathlib import Path

    from paddock.runtime.fleet.ledger_file import LedgerError

__all__ = ["cannot_write", "has_room", "is_full"]

PROBE = 64 * 1024
"""Bytes that a disk has to take, or it counts as full: about what the end of an attempt writes."""

_FULL = (errno.ENOSPC, errno.EDQUOT)


def is_full(error: BaseException) -> bool:
    """Return whether a disk, or what the user may have of it, is full."""
    cause = error if isinstance(error, OSError) else error.__cause__
    if isinstance(cause, OSError):
        return cause.errno in _FULL
    # SQLite says SQLITE_FULL, and SQLITE_IOERR where it could not enlarge one of its files.
    codes = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)
    return isinstance(cause, sqlite3.Error) and _primary(cause) in codes


def _primary(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def has_room(folder: Path, size: int = 0) -> bool:
    """Return whether `folder` takes a small file, and `size` more bytes fit on its disk."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(PROBE))
    except OSError as error:
        return error.errno not in _FULL
    return shutil.disk_usage(folder).free >= size


def cannot_write(error: OSError | LedgerError) -> BatchGaveUp:
    """Return the end of a batch of which nothing more can be kept."""
    what = f"cannot write the results: {error}" if isinstance(error, OSError) else str(error)
    return BatchGaveUp(f"{what}; make space on that disk first" if is_full(error) else what)

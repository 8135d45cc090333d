"""An SQLite file that many processes use, each for a moment."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from paddock._concurrency import finish
from paddock._directory import PrivateDirectory
from paddock.errors import SessionError

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator

__all__ = ["PrivateDatabase", "database_stamp", "file_stamp", "use_wal"]

T = TypeVar("T")

BUSY_TIMEOUT = 10.0
"""Seconds to wait for another process that writes the file: its transactions are some rows."""

WAL_INTERVAL = 0.01
"""Seconds between two tries to change the mode of a file: others do it in some milliseconds."""


class PrivateDatabase:
    """A database file that is its owner's alone (mode 0600), with the tables of `schema`.

    The file is made when it is first used, with its directories. `what` names it in errors.
    """

    def __init__(self, path: str | os.PathLike[str], schema: str, *, what: str) -> None:
        self.path: Path = Path(path).expanduser()
        self._schema = schema
        self._what = what

    def stamp(self) -> object:
        """See `database_stamp`."""
        return database_stamp(self.path)

    async def do(self, work: Callable[[sqlite3.Connection], T], *, writing: bool = True) -> T:
        """Do `work` in one transaction, in a thread, to its end if cancelled.

        Raises `SessionError` when the file cannot be read or written.
        """
        return await finish(asyncio.to_thread(self.transact, work, writing=writing))

    def transact(self, work: Callable[[sqlite3.Connection], T], *, writing: bool = True) -> T:
        """Do the same in this thread."""
        with self._connection(writing) as connection:
            return work(connection)

    @contextlib.contextmanager
    def _connection(self, writing: bool) -> Iterator[sqlite3.Connection]:
        """A connection whose transaction is committed if the block does not raise."""
        try:
            files = PrivateDirectory(self.path.parent, shared=True)
            files.make()
            files.prepare_database(self.path.name)
            with contextlib.closing(sqlite3.connect(self.path, timeout=BUSY_TIMEOUT)) as connection:
                self._prepare(connection)
                connection.execute("BEGIN IMMEDIATE" if writing else "BEGIN")
                with connection:
                    yield connection
        except (OSError, sqlite3.Error) as error:
            raise SessionError(f"cannot use the {self._what} {self.path}: {error}") from error

    def _prepare(self, connection: sqlite3.Connection) -> None:
        """Make what of the schema is missing."""
        use_wal(connection)
        connection.executescript(self._schema)


def use_wal(connection: sqlite3.Connection) -> None:
    """Let readers and one writer use the file at the same time, from now on.

    SQLite does not wait for other connections that do the same, as a new file's first ones do.
    """
    deadline = time.monotonic() + BUSY_TIMEOUT
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
            if not busy or time.monotonic() >= deadline:
                raise
            time.sleep(WAL_INTERVAL)
        else:
            return


def database_stamp(path: Path) -> object:
    """Return what changes when a database in WAL mode is written, or made."""
    return file_stamp(path), file_stamp(path.with_name(f"{path.name}-wal"))


def file_stamp(path: Path) -> object:
    """Return what changes when the file is written, or made."""
    try:
        found = path.stat()
    except OSError:
        return "missing"
    return found.st_ino, found.st_size, found.st_mtime_ns

"""The file of a ledger: one SQLite database, its schema, and its transactions. Blocks."""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING, Any, TypeVar

from paddock._directory import PrivateDirectory
from paddock.errors import SessionError
from paddock.runtime.core.database import use_wal
from paddock.runtime.fleet.filesystems import is_on_network

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

__all__ = ["LedgerError", "LedgerFile"]

T = TypeVar("T")

APPLICATION = 0x50414446
"""Marks the file as a ledger (`PRAGMA application_id`): the letters PADF."""

VERSION = 1

_SCHEMA = """
CREATE TABLE tasks (
    position INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,
    body TEXT NOT NULL,
    state TEXT NOT NULL DEFAULT 'pending',
    attempt INTEGER NOT NULL DEFAULT 0,
    rank INTEGER NOT NULL DEFAULT 0,
    lane TEXT NOT NULL DEFAULT ''
);
CREATE INDEX tasks_by_state ON tasks (state, lane, rank);
CREATE TABLE attempts (
    key TEXT NOT NULL,
    number INTEGER NOT NULL,
    state TEXT NOT NULL,
    began REAL NOT NULL,
    ended REAL,
    sandbox TEXT,
    fault TEXT,
    message TEXT,
    result TEXT,
    details TEXT,
    counted INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (key, number)
) WITHOUT ROWID;
"""


class LedgerError(SessionError):
    """The ledger of a batch cannot be read or written; nothing more is accepted."""


class LedgerFile:
    """The database at `path`, made if it is not there. `journal` is ``WAL``, or ``DELETE`` on a
    network file system."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.journal = "DELETE" if is_on_network(path.parent) else "WAL"
        self._connection = self._open()

    def close(self) -> None:
        self._connection.close()

    def write(
        self, transition: str, work: Callable[[sqlite3.Connection], T], *, durable: bool = True
    ) -> T:
        """Do `work` in one transaction called `transition`.

        One that is `durable` is on the disk when this returns, even if the power fails; the others
        survive the end of this process.
        """
        with self._reported(), self._transaction(durable):
            return work(self._connection)

    @contextlib.contextmanager
    def _transaction(self, durable: bool) -> Iterator[None]:
        db = self._connection
        db.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
        db.execute("BEGIN IMMEDIATE")
        with db:
            yield

    def _read(self, query: str, values: tuple[Any, ...] = ()) -> list[Any]:
        with self._reported():
            return self._connection.execute(query, values).fetchall()

    @contextlib.contextmanager
    def _reported(self) -> Iterator[None]:
        try:
            yield
        except (OSError, sqlite3.Error) as error:
            raise LedgerError(f"cannot use the ledger {self.path}: {error}") from error

    def _open(self) -> sqlite3.Connection:
        with self._reported():
            files = PrivateDirectory(self.path.parent)
            files.make()
            files.prepare_database(self.path.name)
            connection = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
            try:
                self._prepare(connection)
            except BaseException:
                connection.close()
                raise
            return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if (application, version) == (APPLICATION, VERSION):
            return
        if application == APPLICATION:
            raise LedgerError(
                f"cannot use the ledger {self.path}: it has format {version}, and this version of "
                f"Paddock reads format {VERSION}; resume it with the version named in run.json"
            )
        if tables or application:
            raise LedgerError(f"cannot use the ledger {self.path}: another program made it")
        if self.journal == "WAL":
            use_wal(connection)
        connection.executescript(
            f"BEGIN; {_SCHEMA} PRAGMA application_id = {APPLICATION}; "
            f"PRAGMA user_version = {VERSION}; COMMIT"
        )

"""What the multi-agent runtime keeps, in an SQLite file that any number of processes share."""

from __future__ import annotations

import contextlib
import functools
import sqlite3
from typing import TYPE_CHECKING, TypeVar

from paddock.errors import SessionError
from paddock.runtime.core.database import PrivateDatabase, use_wal
from paddock.runtime.orchestration.stores.base import Rows, RuntimeStore, from_bytes
from paddock.runtime.orchestration.stores.sql import TENANTS, SqlRows

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence
    from pathlib import Path

__all__ = ["SqliteRuntimeStore", "is_runtime_store"]

T = TypeVar("T")

APPLICATION = 0x5041444B
"""Marks a file as ours in its header (`PRAGMA application_id`): the letters PADK."""

VERSION = 1
"""Of the tables (`PRAGMA user_version`)."""

_HEADER = """
SELECT count(*), (SELECT * FROM pragma_application_id), (SELECT * FROM pragma_user_version)
FROM sqlite_master
"""
_TABLE = "kept"
_CREATE = """
CREATE TABLE kept (
    number INTEGER PRIMARY KEY,
    tenant BLOB NOT NULL,
    name TEXT NOT NULL,
    key BLOB NOT NULL,
    family BLOB NOT NULL,
    value BLOB NOT NULL,
    UNIQUE (tenant, name, key)
)
"""
_INDEX = "CREATE INDEX kept_by_family ON kept (tenant, name, family, number)"


def is_runtime_store(path: Path) -> bool:
    """Return whether `path` is the file of a `SqliteRuntimeStore`. Blocks."""
    try:
        with contextlib.closing(sqlite3.connect(path)) as connection:
            (application,) = connection.execute("PRAGMA application_id").fetchone()
    except sqlite3.Error:  # another opener of the file reports what is wrong
        return False
    return bool(application == APPLICATION)


class SqliteRuntimeStore(RuntimeStore):
    """Rows in a database file of its own, which is its owner's alone (mode 0600).

    The file is made when it is first used, with its directories; without `ensure_schema` it has
    to be there. A file that another program made is not touched.
    """

    def __init__(self, path: str | os.PathLike[str], *, ensure_schema: bool = True) -> None:
        self._database = _Database(path, _CREATE, what="store of the runtime")
        self._ensure = ensure_schema

    @property
    def path(self) -> Path:
        return self._database.path

    def transact(self, tenant: str, work: Callable[[Rows], T], *, writing: bool) -> T:
        return self._do(
            lambda found: work(SqlRows(functools.partial(_run, found), tenant)), writing=writing
        )

    def tenants(self) -> Sequence[str]:
        return self._do(
            lambda found: sorted(from_bytes(tenant) for (tenant,) in _run(found, TENANTS, ())),
            writing=False,
        )

    def _do(self, work: Callable[[sqlite3.Connection], T], *, writing: bool) -> T:
        if not self._ensure and not self.path.exists():
            reason = "there is no such file; make it once with ensure_schema"
            raise SessionError(f"cannot use the store of the runtime {self.path}: {reason}")
        return self._database.transact(work, writing=writing)

    def stamp(self) -> object:
        return self._database.stamp()


class _Database(PrivateDatabase):
    def _prepare(self, connection: sqlite3.Connection) -> None:
        if self._is_made(connection):
            return
        use_wal(connection)
        with contextlib.closing(connection.cursor()) as cursor, connection:
            cursor.execute("BEGIN IMMEDIATE")
            if not self._is_made(connection):  # no other process was faster
                for statement in (_CREATE, _INDEX):
                    cursor.execute(statement)
                cursor.execute(f"PRAGMA application_id = {APPLICATION}")
                cursor.execute(f"PRAGMA user_version = {VERSION}")

    def _is_made(self, connection: sqlite3.Connection) -> bool:
        """Return whether the file has our tables; False if it is empty, else raise."""
        tables, application, version = connection.execute(_HEADER).fetchone()
        if (application, version) == (APPLICATION, VERSION):
            return True
        if application == APPLICATION:
            reason = f"it has version {version} of the tables, and this Paddock reads {VERSION}"
        elif tables or application or version:
            reason = "it is the database of another program; give the store a file of its own"
        else:
            return False
        raise SessionError(f"cannot use the {self._what} {self.path}: {reason}")


def _run(
    connection: sqlite3.Connection, statement: str, values: tuple[object, ...]
) -> sqlite3.Cursor:
    return connection.execute(statement.format(table=_TABLE), values)

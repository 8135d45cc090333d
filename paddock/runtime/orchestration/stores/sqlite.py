"""What the multi-agent runtime keeps, in an SQLite file that any number of processes share."""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING, TypeVar

from paddock.errors import SessionError
from paddock.runtime.approvals.stores import stamp_of
from paddock.runtime.core.database import PrivateDatabase, use_wal
from paddock.runtime.orchestration.stores.base import Rows, RuntimeStore, from_bytes, to_bytes

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Sequence
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
_GET = "SELECT value FROM kept WHERE tenant = ? AND name = ? AND key = ?"
_ALL = """
SELECT key, value FROM kept WHERE tenant = ? AND name = ? ORDER BY number LIMIT -1 OFFSET ?
"""
_GROUP = """
SELECT key, value FROM kept WHERE tenant = ? AND name = ? AND family = ?
ORDER BY number LIMIT -1 OFFSET ?
"""
_PUT = """
INSERT INTO kept (tenant, name, key, family, value) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (tenant, name, key) DO UPDATE SET value = excluded.value
"""
_DELETE = "DELETE FROM kept WHERE tenant = ? AND name = ? AND key = ?"
_ELSEWHERE = "SELECT 1 FROM kept WHERE tenant <> ? AND name = ? AND key = ? LIMIT 1"
_TENANTS = "SELECT DISTINCT tenant FROM kept ORDER BY tenant"


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
        return self._do(lambda found: work(_SqliteRows(found, tenant)), writing=writing)

    def tenants(self) -> Sequence[str]:
        return self._do(
            lambda found: [from_bytes(tenant) for (tenant,) in found.execute(_TENANTS)],
            writing=False,
        )

    def _do(self, work: Callable[[sqlite3.Connection], T], *, writing: bool) -> T:
        if not self._ensure and not self.path.exists():
            reason = "there is no such file; make it once with ensure_schema"
            raise SessionError(f"cannot use the store of the runtime {self.path}: {reason}")
        return self._database.transact(work, writing=writing)

    def stamp(self) -> object:
        return stamp_of(self.path), stamp_of(self.path.with_name(f"{self.path.name}-wal"))


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


class _SqliteRows:
    def __init__(self, connection: sqlite3.Connection, tenant: str) -> None:
        self._connection = connection
        self._tenant = to_bytes(tenant)

    def get(self, table: str, key: str) -> bytes | None:
        row = self._connection.execute(_GET, (self._tenant, table, to_bytes(key))).fetchone()
        return None if row is None else row[0]

    def all(
        self, table: str, group: str | None = None, *, skip: int = 0
    ) -> Iterable[tuple[str, bytes]]:
        if group is None:
            found = self._connection.execute(_ALL, (self._tenant, table, skip))
        else:
            found = self._connection.execute(_GROUP, (self._tenant, table, to_bytes(group), skip))
        return [(from_bytes(key), value) for key, value in found]

    def put(self, table: str, key: str, value: bytes, *, group: str = "") -> None:
        row = (self._tenant, table, to_bytes(key), to_bytes(group), value)
        self._connection.execute(_PUT, row)

    def delete(self, table: str, key: str) -> None:
        self._connection.execute(_DELETE, (self._tenant, table, to_bytes(key)))

    def is_elsewhere(self, table: str, key: str) -> bool:
        row = (self._tenant, table, to_bytes(key))
        return self._connection.execute(_ELSEWHERE, row).fetchone() is not None

"""Approvals in an SQLite file, for any number of sessions and processes."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from paddock.runtime.approvals.records import approval_json, read_approval
from paddock.runtime.approvals.stores import Rows, TransactionalStore
from paddock.runtime.core.database import PrivateDatabase

if TYPE_CHECKING:
    import os
    import sqlite3
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from paddock.runtime.core.approval import Approval

__all__ = ["SqliteApprovalStore"]

T = TypeVar("T")

_CREATE = """
CREATE TABLE IF NOT EXISTS approvals (
    number INTEGER PRIMARY KEY,
    approval_id TEXT NOT NULL UNIQUE,
    session_id TEXT NOT NULL,
    approval TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS approvals_by_session ON approvals (session_id);
"""
_PUT = """
INSERT INTO approvals (approval_id, session_id, approval) VALUES (?, ?, ?)
ON CONFLICT (approval_id) DO UPDATE SET approval = excluded.approval
"""
_GET = "SELECT approval FROM approvals WHERE approval_id = ?"
_ALL = "SELECT approval FROM approvals WHERE ?1 IS NULL OR session_id = ?1 ORDER BY number"


class SqliteApprovalStore(TransactionalStore):
    """Approvals in a database file, which is its owner's alone (mode 0600).

    The file is made when it is first used, with its directories. It may be that of a
    `SqliteRunStore`.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__()
        self._database = PrivateDatabase(path, _CREATE, what="approval store")

    @property
    def path(self) -> Path:
        return self._database.path

    def _stamp(self) -> object:
        return self._database.stamp()

    async def _do(self, work: Callable[[Rows], T], *, writing: bool) -> T:
        return await self._database.do(lambda found: work(_Rows(found)), writing=writing)


class _Rows:
    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def get(self, approval_id: str) -> Approval | None:
        row = self._connection.execute(_GET, (approval_id,)).fetchone()
        return None if row is None else read_approval(row[0])

    def all(self, session_id: str | None) -> Iterable[Approval]:
        return [read_approval(text) for (text,) in self._connection.execute(_ALL, (session_id,))]

    def put(self, approval: Approval) -> None:
        request = approval.request
        row = (request.id, request.session_id, approval_json(approval))
        self._connection.execute(_PUT, row)

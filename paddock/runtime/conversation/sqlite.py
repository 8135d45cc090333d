"""Conversations in an SQLite file, for any number of workers."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from paddock.runtime.conversation.claimed import ClaimedConversationStore
from paddock.runtime.conversation.store import range_below
from paddock.runtime.core.claims import Claim
from paddock.runtime.core.database import PrivateDatabase

if TYPE_CHECKING:
    import os
    import sqlite3
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from paddock.runtime.conversation.claimed import ConversationRows

__all__ = ["SqliteConversationRows", "SqliteConversationStore"]

T = TypeVar("T")

_CREATE = """
CREATE TABLE IF NOT EXISTS conversation_records (
    conversation_id TEXT NOT NULL,
    number INTEGER NOT NULL,
    record BLOB NOT NULL,
    PRIMARY KEY (conversation_id, number)
);
CREATE TABLE IF NOT EXISTS conversation_claims (
    conversation_id TEXT PRIMARY KEY,
    token TEXT NOT NULL,
    holder TEXT NOT NULL,
    until REAL NOT NULL
);
"""
_ADD = "INSERT INTO conversation_records (conversation_id, number, record) VALUES (?, ?, ?)"
_READ = """
SELECT record FROM conversation_records
WHERE conversation_id = ? AND number >= ? ORDER BY number
"""
_COUNT = "SELECT count(*) FROM conversation_records WHERE conversation_id = ?"
_DELETE = """
DELETE FROM conversation_records
WHERE conversation_id = ?1 OR (conversation_id >= ?2 AND conversation_id < ?3)
"""
_CLAIM = """
INSERT OR REPLACE INTO conversation_claims (conversation_id, token, holder, until)
VALUES (?, ?, ?, ?)
"""
_CLAIMED = "SELECT token, holder, until FROM conversation_claims WHERE conversation_id = ?"
_RELEASE = "DELETE FROM conversation_claims WHERE conversation_id = ?"


class SqliteConversationStore(ClaimedConversationStore):
    """Conversations in a database file, which is its owner's alone (mode 0600).

    The file is made when it is first used, with its directories.
    """

    schema: str = _CREATE

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.database: PrivateDatabase = PrivateDatabase(
            path, self.schema, what="conversation store"
        )

    @property
    def path(self) -> Path:
        return self.database.path

    def transact(self, work: Callable[[ConversationRows], T], *, writing: bool = True) -> T:
        return self.database.transact(
            lambda connection: work(SqliteConversationRows(connection)), writing=writing
        )


class SqliteConversationRows:
    """`ConversationRows` of a transaction of `connection`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection

    def claim(self, conversation_id: str) -> Claim | None:
        row = self.connection.execute(_CLAIMED, (conversation_id,)).fetchone()
        return None if row is None else Claim(token=row[0], holder=row[1], until=row[2])

    def set_claim(self, conversation_id: str, claim: Claim | None) -> None:
        if claim is None:
            self.connection.execute(_RELEASE, (conversation_id,))
        else:
            row = (conversation_id, claim.token, claim.holder, claim.until)
            self.connection.execute(_CLAIM, row)

    def count(self, conversation_id: str) -> int:
        (count,) = self.connection.execute(_COUNT, (conversation_id,)).fetchone()
        return int(count)

    def lines(self, conversation_id: str, start: int) -> Iterable[bytes]:
        return (line for (line,) in self.connection.execute(_READ, (conversation_id, start)))

    def add(self, conversation_id: str, number: int, lines: Sequence[bytes]) -> None:
        rows = [(conversation_id, number + n, line) for n, line in enumerate(lines)]
        self.connection.executemany(_ADD, rows)

    def delete(self, conversation_id: str) -> None:
        self.connection.execute(_DELETE, (conversation_id, *range_below(conversation_id)))

"""Conversations in an SQLite file, for any number of workers.

Who writes a conversation claims it for a while, and renews the claim while it works. When that
worker dies, another one claims the conversation and continues it.
"""

from __future__ import annotations

import asyncio
import secrets
import threading
import time
from typing import TYPE_CHECKING

from paddock._concurrency import finish
from paddock.errors import RunClaimed, SessionError, TraceWriteError
from paddock.runtime.conversation.state import State
from paddock.runtime.conversation.store import ConversationLog
from paddock.runtime.conversation.trace import encode_record, read_records
from paddock.runtime.core.database import PrivateDatabase

if TYPE_CHECKING:
    import os
    import sqlite3
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from paddock.runtime.conversation.records import Record
    from paddock.runtime.conversation.trace import TraceContent

__all__ = ["CLAIM", "SqliteConversationStore", "load", "store"]

CLAIM = 60.0
"""Seconds for which a claim holds: longer than a worker's event loop is ever held up, and short
enough to wait for when a worker has died."""

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
    until REAL NOT NULL
);
"""
_ADD = "INSERT INTO conversation_records (conversation_id, number, record) VALUES (?, ?, ?)"
_READ = """
SELECT record FROM conversation_records
WHERE conversation_id = ? AND number >= ? ORDER BY number
"""
_COUNT = "SELECT count(*) FROM conversation_records WHERE conversation_id = ?"
_DELETE = "DELETE FROM conversation_records WHERE conversation_id = ?"
_CLAIM = """
INSERT OR REPLACE INTO conversation_claims (conversation_id, token, until) VALUES (?, ?, ?)
"""
_CLAIMED = "SELECT token, until FROM conversation_claims WHERE conversation_id = ?"
_RELEASE = "DELETE FROM conversation_claims WHERE conversation_id = ?"


class SqliteConversationStore:
    """Conversations in a database file, which is its owner's alone (mode 0600).

    The file is made when it is first used, with its directories. Positions are numbers of
    records. A conversation that another worker has claimed raises `RunClaimed`. All methods
    raise `SessionError` if the file cannot be read or written.
    """

    schema: str = _CREATE

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.database: PrivateDatabase = PrivateDatabase(
            path, self.schema, what="conversation store"
        )

    @property
    def path(self) -> Path:
        return self.database.path

    def open(self, conversation_id: str, *, start: int = 0) -> ConversationLog:
        """See `ConversationStore.open`."""
        log = _SqliteLog(self, conversation_id)
        self.database.transact(lambda connection: log.claim(connection, start))
        return log

    def pieces(self, conversation_id: str, *, start: int = 0) -> Iterator[TraceContent] | None:
        """See `ConversationStore.pieces`: `open` is called in a thread, and reads all."""
        return None

    def read(self, conversation_id: str) -> State | None:
        """See `ConversationStore.read`."""
        return self.database.transact(lambda found: load(found, conversation_id), writing=False)

    def on_close(self, connection: sqlite3.Connection, conversation_id: str) -> None:
        """Note, in the same transaction, that a writer let go of a conversation."""


class _SqliteLog(ConversationLog):
    """Records wait in memory until `sync`, which adds them in one transaction."""

    renewal = CLAIM

    def __init__(self, store: SqliteConversationStore, conversation_id: str) -> None:
        self._store = store
        self._id = conversation_id
        self._token = secrets.token_hex(8)
        self._end = 0
        self._kept = 0
        self._waiting: list[bytes] = []
        self._writing = threading.Lock()
        self._closed = False

    def claim(self, connection: sqlite3.Connection, start: int) -> None:
        row = connection.execute(_CLAIMED, (self._id,)).fetchone()
        left = 0.0 if row is None else row[1] - time.time()
        if left > 0:
            raise RunClaimed(self._id, seconds=left)
        (self._kept,) = connection.execute(_COUNT, (self._id,)).fetchone()
        self._end = self._kept
        self.found = _read(connection, self._id, start if self._kept else 0)
        self._hold(connection)

    @property
    def end(self) -> int:
        return self._end

    def append(self, record: Record) -> None:
        self._waiting.append(encode_record(record))
        self._end += 1

    async def sync(self) -> None:
        await finish(asyncio.to_thread(self._write))

    def close(self, *, delete: bool = False) -> None:
        if self._closed:
            return
        self._closed = True

        def release(connection: sqlite3.Connection) -> None:
            self._add(connection)
            connection.execute(_RELEASE, (self._id,))
            if delete:
                connection.execute(_DELETE, (self._id,))
            self._store.on_close(connection, self._id)

        with self._writing:
            self._store.database.transact(release)

    def _write(self) -> None:
        with self._writing:
            try:
                added = self._store.database.transact(self._add)
            except RunClaimed:
                raise
            except SessionError as error:
                raise TraceWriteError(str(error)) from error
            # Only now: the transaction is committed. The loop's thread may have appended more.
            del self._waiting[:added]
            self._kept += added

    def _add(self, connection: sqlite3.Connection) -> int:
        """Return how many of the waiting records were added."""
        self._renew(connection)
        lines = tuple(self._waiting)
        rows = [(self._id, self._kept + number, line) for number, line in enumerate(lines)]
        connection.executemany(_ADD, rows)
        return len(rows)

    def _renew(self, connection: sqlite3.Connection) -> None:
        """A claim that has expired holds as well as before, as long as nobody else has one."""
        row = connection.execute(_CLAIMED, (self._id,)).fetchone()
        if row is None or row[0] != self._token:
            raise RunClaimed(self._id, seconds=0.0)
        self._hold(connection)

    def _hold(self, connection: sqlite3.Connection) -> None:
        connection.execute(_CLAIM, (self._id, self._token, time.time() + CLAIM))


def load(connection: sqlite3.Connection, conversation_id: str) -> State | None:
    """Return a conversation; None if there is none."""
    records = _read(connection, conversation_id)
    if not records:
        return None
    state = State()
    state.replay(records)
    state.trace_end = len(records)
    return state


def store(connection: sqlite3.Connection, conversation_id: str, records: Iterable[Record]) -> None:
    """Replace a conversation by `records`."""
    connection.execute(_DELETE, (conversation_id,))
    rows = [(conversation_id, n, encode_record(record)) for n, record in enumerate(records)]
    connection.executemany(_ADD, rows)


def _read(connection: sqlite3.Connection, conversation_id: str, start: int = 0) -> list[Record]:
    rows = connection.execute(_READ, (conversation_id, start))
    return read_records(b"".join(line for (line,) in rows)).records

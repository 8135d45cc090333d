"""A SQLite session that does what it may and no more: SQLite asks us, statement by statement.

The authorizer is asked while a statement is compiled, about each thing that the
statement would do, however it is written. Knows nothing of how statements are parsed.
"""

from __future__ import annotations

import itertools
import sqlite3
from typing import TYPE_CHECKING, Any, Final

from paddock.runtime.tools.sql.policy import READING_PRAGMAS, forbidden_function

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["guard_session"]

MAX_WAIT: Final = 5.0
"""Seconds to wait for another writer's lock: that wait cannot be interrupted."""

MAX_VALUE: Final = 128 * 1024
"""Bytes of one text or blob. What a function does with them cannot be interrupted, and for
`instr` and `replace` it grows with the square: a tenth of a second here. A larger value in a
table does not disturb others, but cannot be read."""

MAX_SLOW: Final = 32
"""Calls of those functions in a statement: within one row nothing is interrupted."""

_SLOW: Final = frozenset({"instr", "replace"})

MAX_PATTERN: Final = 200
"""Bytes of a LIKE or GLOB pattern: matching a long one cannot be interrupted, and may be slow."""

_READS: Final = frozenset({sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_RECURSIVE})
_CHANGES: Final = frozenset({
    sqlite3.SQLITE_ALTER_TABLE, sqlite3.SQLITE_ANALYZE, sqlite3.SQLITE_CREATE_INDEX,
    sqlite3.SQLITE_CREATE_TABLE, sqlite3.SQLITE_CREATE_VIEW, sqlite3.SQLITE_DELETE,
    sqlite3.SQLITE_DROP_INDEX, sqlite3.SQLITE_DROP_TABLE, sqlite3.SQLITE_DROP_VIEW,
    sqlite3.SQLITE_INSERT, sqlite3.SQLITE_REINDEX, sqlite3.SQLITE_SAVEPOINT,
    sqlite3.SQLITE_TRANSACTION, sqlite3.SQLITE_UPDATE,
})  # fmt: skip


def guard_session(raw: Any, *, mutations: bool, wait: float) -> None:
    """Bind the `sqlite3.Connection` `raw` to reading, or to changing rows and tables.

    `wait` bounds the seconds that it waits for a lock.
    """
    connection: sqlite3.Connection = raw
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_VALUE)
    connection.setlimit(sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH, MAX_PATTERN)
    connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
    for name, trim in (("trim", str.strip), ("ltrim", str.lstrip), ("rtrim", str.rstrip)):
        connection.create_function(name, 2, _trimmer(trim), deterministic=True)
    connection.execute(f"PRAGMA busy_timeout = {int(min(wait, MAX_WAIT) * 1000)}")
    connection.execute("PRAGMA trusted_schema = OFF")
    if not mutations:
        connection.execute("PRAGMA query_only = ON")
    allowed = _READS | _CHANGES if mutations else _READS
    slow = itertools.count(1)

    def judge(action: int, first: str | None, second: str | None, *_: str | None) -> int:
        if action == sqlite3.SQLITE_FUNCTION:
            name = (second or "").lower()
            permitted = not forbidden_function("sqlite", name)
            if name in _SLOW:
                permitted = permitted and next(slow) <= MAX_SLOW
        elif action == sqlite3.SQLITE_PRAGMA:
            takes_argument = READING_PRAGMAS.get((first or "").lower())
            permitted = takes_argument is not None and (takes_argument or second is None)
        else:
            # A virtual table that is read, as json_each, declares its columns so. SQLite
            # itself lets no statement change the schema table.
            declares = action == sqlite3.SQLITE_UPDATE and first == "sqlite_master"
            permitted = action in allowed or declares
        return sqlite3.SQLITE_OK if permitted else sqlite3.SQLITE_DENY

    connection.set_authorizer(judge)


def _trimmer(trim: Callable[[str, str], str]) -> Callable[[object, object], str | None]:
    """`trim` of SQLite with what is to be trimmed; its own takes minutes for long values."""

    def trimmed(value: object, given: object) -> str | None:
        if value is None or given is None:
            return None
        return trim(_text(value), "".join(set(_text(given))))

    return trimmed


def _text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)

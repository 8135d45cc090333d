"""One connection for one call: opened, used in a thread, and stopped from outside if need be.

Knows nothing of tools and of what is asked.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

from paddock.runtime.tools.sql.policy import NAMES
from paddock.runtime.tools.sql.servers import FETCHED
from paddock.runtime.tools.sql.statement import StatementRefused
from paddock.runtime.tools.worker import run_in_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Connection, CursorResult

    from paddock.runtime.tools.sql.bounds import Shortened
    from paddock.runtime.tools.sql.config import DatabaseConfig
    from paddock.runtime.tools.sql.servers import Server
    from paddock.runtime.tools.sql.statement import Statement

__all__ = ["Line", "Rows", "said_by_database", "told_to_model", "use_line"]

T = TypeVar("T")

GRACE: Final = 0.5
"""Seconds for a server to end a statement by itself, before we have it cancelled."""


class Stopped(Exception):
    """The call was asked to end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """What a statement gave: `columns` and batches of rows, or else how many rows it `changed`."""

    columns: tuple[str, ...]
    batches: Iterator[list[tuple[Any, ...]]]
    changed: int | None = None


class Line:
    """A `Stop` for the work that uses it. Serves one call."""

    def __init__(self, server: Server[Any], *, timeout: float) -> None:
        self._server = server
        self._timeout = timeout
        self._lock = threading.Lock()
        self._raw: Any = None
        self._stopped = False
        self._rows_left = False

    @contextlib.contextmanager
    def open(self) -> Iterator[Connection]:
        """A connection in its one transaction; rolled back and closed in the end."""
        with self._server.engine.connect() as connection:
            with self._lock:
                self._raw = connection.connection.driver_connection
            try:
                self.check()
                self._server.begin(connection, timeout=self._timeout)
                yield connection
            finally:
                try:
                    connection.rollback()
                finally:
                    with self._lock:  # from here on it cannot be cancelled: it is being closed
                        self._raw = None

    @contextlib.contextmanager
    def execute(self, connection: Connection, statement: Statement) -> Iterator[Rows]:
        """Send it, and commit a change when the block has ended well.

        A query's rows come as they are asked for; those that are not are never sent, or
        thrown away by the driver.
        """
        self.check()
        self._server.check(connection, statement)
        sending = connection.execution_options(
            # Without parameters, a percent sign is a percent sign.
            no_parameters=statement.values is None,
            stream_results=statement.streams,
            max_row_buffer=FETCHED,
        )
        shortened = self._server.shortened(connection, statement) if statement.streams else None
        self.check()
        sql = statement.sql if shortened is None else shortened.sql
        result = sending.exec_driver_sql(sql, statement.values)
        try:
            if result.returns_rows:
                self._rows_left = statement.streams
                columns = tuple(result.keys()) if shortened is None else shortened.columns
                yield Rows(columns=columns, batches=self._batches(result, shortened))
            else:
                yield Rows(columns=(), batches=iter(()), changed=max(result.rowcount, 0))
            if self._rows_left:
                self._server.abandon(connection.connection.driver_connection, result)
        finally:
            result.close()
        if statement.changes:
            self.check()
            connection.commit()

    def _batches(
        self, result: CursorResult[Any], shortened: Shortened | None
    ) -> Iterator[list[tuple[Any, ...]]]:
        full = True
        row = self._server.row if shortened is None else shortened.row
        while full:
            batch = [row(values) for values in result.fetchmany(FETCHED)]
            if full := len(batch) == FETCHED:
                self.check()
            else:
                self._rows_left = False
            yield batch

    def check(self) -> None:
        """Raise if the call was asked to end."""
        if self._stopped:
            raise Stopped

    def ask(self) -> None:
        with self._lock:
            self._stopped = True
            if self._raw is not None:
                self._server.cancel(self._raw)

    def force(self) -> None:
        raw = self._raw  # a lock would wait for a statement that does not end
        if raw is not None:
            self._server.cut(raw)


async def use_line(server: Server[Any], work: Callable[[Line], T], *, limit: float) -> T:
    """Do `work` with a line of its own, in a thread.

    When it takes longer than `limit` seconds or the caller is cancelled, the server ends its
    query, and the connection is closed, before this returns. Raises `TimeoutError`.
    """
    line = Line(server, timeout=limit)
    return await run_in_thread(lambda: work(line), stop=line, limit=limit + GRACE)


def said_by_database(error: Exception) -> str | None:
    """What a database or its driver says, without the statement; None if it is another error."""
    from sqlalchemy.exc import SQLAlchemyError

    if not isinstance(error, SQLAlchemyError | sqlite3.Error | ConnectionError):
        return None
    return str(getattr(error, "orig", None) or error)


def told_to_model(error: Exception, config: DatabaseConfig) -> str | None:
    """Return why a query of `config` failed, for a model; None if the fault is not the query's nor
    the database's."""
    match error:
        case StatementRefused():
            return f"Query blocked: {error}"
        case TimeoutError():
            return f"Stopped after {config.timeout:g} s: it took too long"
    said = said_by_database(error)
    return None if said is None else f"{NAMES[config.type]} says: {said}"

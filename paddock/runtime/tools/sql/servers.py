"""What differs between databases: how a session is opened that can't write, and how it is stopped.

Everything here blocks and is called in threads; `cancel` and `cut` from other threads
than the session's own. Drivers and SQLAlchemy are imported when a database is used.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import socket
from abc import ABC, abstractmethod
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar
from urllib.parse import quote

from paddock.errors import MissingDependency
from paddock.runtime.tools.sql.bounds import (
    MAX_ROW_BYTES,
    Shortened,
    opened,
    shortened_for_postgres,
)
from paddock.runtime.tools.sql.config import (
    DatabaseConfig,
    OracleDatabase,
    ServerDatabase,
    SqliteDatabase,
)
from paddock.runtime.tools.sql.effects import refuse_effects
from paddock.runtime.tools.sql.privileges import refuse_writers
from paddock.runtime.tools.sql.sqlite_process import SqliteConnection

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import URL, Connection, CursorResult, Engine

    from paddock.runtime.tools.sql.statement import Statement

__all__ = ["Server", "require_sql", "server_for"]

Config = TypeVar("Config", bound=DatabaseConfig)

CONNECTING: Final = 10
"""Seconds to connect: a server that is there answers at once, a far one within a few."""

CANCELLING: Final = 2
"""Seconds that a request to cancel a query may take; another follows if it was lost."""

MYSQL_MODE: Final = "STRICT_TRANS_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION"
"""The default of MySQL, as far as strings and quoted names go: as they were read before."""


FETCHED: Final = 10
"""Rows that are in memory at once, since each may be large."""

LOST: Final = 2013
"""The number by which SQLAlchemy knows that a connection to MySQL is no more."""

TOO_LONG: Final = (
    f"a row has {MAX_ROW_BYTES} bytes or more; ask for a part of it, as with left(name, 1000)"
)


class Server(ABC, Generic[Config]):
    """One database of a configuration. Holds no connection; any thread may use it."""

    def __init__(self, config: Config, *, mutations: bool) -> None:
        self._config = config
        self.mutations = mutations

    @cached_property
    def engine(self) -> Engine:
        """SQLAlchemy's engine. Raises `MissingDependency` where it or the driver is missing."""
        try:
            return self._make_engine()
        except ModuleNotFoundError as error:
            raise MissingDependency(error.name or "SQLAlchemy", "sql") from error

    @abstractmethod
    def _make_engine(self) -> Engine: ...

    @abstractmethod
    def begin(self, connection: Connection, *, timeout: float) -> None:
        """Begin the one transaction of a fresh connection, read only without `mutations`.

        `timeout` is in seconds, for a statement; the server itself ends it then.
        """

    @abstractmethod
    def cancel(self, raw: Any) -> None:
        """Have the server end what runs on the driver's connection `raw`, if anything does."""

    @abstractmethod
    def cut(self, raw: Any) -> None:
        """Break the connection: the server does not answer."""

    def check(self, connection: Connection, statement: Statement) -> None:
        """Raise `StatementRefused` for what only the server knows to have effects."""
        return

    def shortened(self, connection: Connection, query: Statement) -> Shortened | None:
        """What to send instead of `query`, so that no long value comes; None where it will do.
        Asks the server what columns there would be."""
        return None

    def row(self, values: Sequence[Any]) -> tuple[Any, ...]:
        """A row as it was fetched, as values."""
        return tuple(values)

    def abandon(self, raw: Any, result: CursorResult[Any]) -> None:
        """Close a result of which rows are left, without having them sent."""
        result.close()


def require_sql() -> None:
    """Raise `MissingDependency` where what all databases need is not installed."""
    for package in ("sqlalchemy", "sqlglot"):
        if importlib.util.find_spec(package) is None:
            raise MissingDependency(package, "sql")


def server_for(
    config: DatabaseConfig, *, mutations: bool, refuse_writers: bool = False
) -> Server[Any]:
    """The server of `config`; nothing is connected. Its sessions write only with `mutations`.

    With `refuse_writers`, no session is opened for a role of PostgreSQL that could write.
    """
    match config:
        case SqliteDatabase():
            return _Sqlite(config, mutations=mutations)
        case ServerDatabase(type="postgres"):
            return _Postgres(config, mutations=mutations, refuse_writers=refuse_writers)
        case ServerDatabase():
            return _MySql(config, mutations=mutations)
        case OracleDatabase():
            return _Oracle(config, mutations=mutations)


def _engine(url: str | URL, arguments: Mapping[str, Any], **options: Any) -> Engine:
    """An engine that keeps no connections: each call has its own."""
    import sqlalchemy

    return sqlalchemy.create_engine(
        url,
        **options,
        connect_args=dict(arguments),
        poolclass=sqlalchemy.NullPool,
        pool_reset_on_return=None,  # `Line` has done that, where it can be stopped
        hide_parameters=True,
    )


def _shut(descriptor: int) -> None:
    """End a socket's traffic, so that a read that waits for it fails."""
    with contextlib.suppress(OSError), socket.socket(fileno=os.dup(descriptor)) as shared:
        shared.shutdown(socket.SHUT_RDWR)


class _Sqlite(Server[SqliteDatabase]):
    def _make_engine(self) -> Engine:
        import sqlalchemy

        mode = "rw" if self.mutations else "ro"  # neither makes a file
        target = f"file:{quote(str(self._config.path))}?mode={mode}"
        return sqlalchemy.create_engine(
            "sqlite://",
            creator=lambda: SqliteConnection(target, timeout=self._config.timeout),
            poolclass=sqlalchemy.NullPool,
            pool_reset_on_return=None,
        )

    def begin(self, connection: Connection, *, timeout: float) -> None:
        raw: Any = connection.connection.driver_connection
        raw.guard(mutations=self.mutations, wait=timeout)

    def cancel(self, raw: Any) -> None:
        raw.end()

    def cut(self, raw: Any) -> None:
        raw.kill()


class _Postgres(Server[ServerDatabase]):
    def __init__(self, config: ServerDatabase, *, mutations: bool, refuse_writers: bool) -> None:
        super().__init__(config, mutations=mutations)
        self._refuse_writers = refuse_writers

    def _make_engine(self) -> Engine:
        import psycopg  # noqa: F401 - its absence is told apart from that of SQLAlchemy
        import sqlalchemy

        config = self._config
        arguments: dict[str, Any] = {
            "connect_timeout": CONNECTING,
            # The extended protocol from the first statement on: it takes one at a time.
            "prepare_threshold": 0,
            "application_name": "paddock",
            "keepalives_idle": 30,
            **config.parameters,
        }
        if config.tls_ca is not None:
            arguments |= {"sslmode": "verify-full", "sslrootcert": config.tls_ca}
        url = sqlalchemy.URL.create(
            "postgresql+psycopg",
            username=config.user,
            password=config.password,
            database=config.database,
        )
        return _engine(url, arguments | {"host": config.host, "port": config.port})

    def begin(self, connection: Connection, *, timeout: float) -> None:
        raw: Any = connection.connection.driver_connection
        raw.server_cursor_factory = _quiet_cursor()
        connection.execution_options(postgresql_readonly=not self.mutations)
        # After a first query a transaction can't be made one that writes.
        connection.exec_driver_sql(
            "SELECT set_config('statement_timeout', %s, true),"
            " set_config('lock_timeout', %s, true),"
            " set_config('standard_conforming_strings', 'on', true)",
            (str(int(timeout * 1000)), str(int(timeout * 1000))),
        )
        if self._config.schema is not None:
            path = connection.dialect.identifier_preparer.quote_identifier(self._config.schema)
            connection.exec_driver_sql("SELECT set_config('search_path', %s, true)", (path,))
        if self._refuse_writers:
            refuse_writers(connection)

    def check(self, connection: Connection, statement: Statement) -> None:
        refuse_effects(connection, statement.calls)

    def shortened(self, connection: Connection, query: Statement) -> Shortened | None:
        # SQLAlchemy fetches a first row of what it streams, and that may be too long already.
        asking = connection.execution_options(no_parameters=query.values is None)
        empty = asking.exec_driver_sql(f"SELECT * FROM ({query.sql}\n) AS q LIMIT 0", query.values)
        columns: Any = empty.cursor.description
        empty.close()
        return shortened_for_postgres(query.sql, [(each.name, each.type_code) for each in columns])

    def cancel(self, raw: Any) -> None:
        raw.cancel_safe(timeout=CANCELLING)

    def cut(self, raw: Any) -> None:
        _shut(raw.fileno())


def _quiet_cursor() -> type[Any]:
    import psycopg

    class QuietCursor(psycopg.ServerCursor[Any]):
        """Ends with its connection: where that broke, SQLAlchemy closes no cursor of it."""

        def __del__(self, *_: object) -> None:
            """Do not warn."""

    return QuietCursor


class _MySql(Server[ServerDatabase]):
    @cached_property
    def _arguments(self) -> dict[str, Any]:
        config = self._config
        where: dict[str, Any] = {"host": config.host, "port": config.port}
        if config.host.startswith("/"):
            where = {"unix_socket": config.host}
        if config.tls_ca is not None:
            where |= {"ssl_ca": config.tls_ca, "ssl_verify_identity": True}
        return {
            **where,
            "user": config.user,
            "password": config.password or "",
            "database": config.database,
            "charset": "utf8mb4",
            "connect_timeout": CONNECTING,
        }

    def _make_engine(self) -> Engine:
        return _engine("mysql+pymysql://", self._arguments)

    def begin(self, connection: Connection, *, timeout: float) -> None:
        raw: Any = connection.connection.driver_connection
        raw._rfile = _ShortRows(raw)
        run = connection.exec_driver_sql
        run(f"SET SESSION sql_mode = '{MYSQL_MODE}'")
        run(f"SET SESSION lock_wait_timeout = {max(1, int(timeout))}")
        if getattr(connection.dialect, "is_mariadb", False):
            run(f"SET SESSION max_statement_time = {timeout:.3f}")
        else:
            run(f"SET SESSION max_execution_time = {int(timeout * 1000)}")
        if not self.mutations:
            run("SET SESSION TRANSACTION READ ONLY")
        run("START TRANSACTION")

    def cancel(self, raw: Any) -> None:
        import pymysql

        limits = {"connect_timeout": CANCELLING, "read_timeout": CANCELLING}
        with pymysql.connect(**{**self._arguments, **limits}) as other, other.cursor() as cursor:
            cursor.execute(f"KILL QUERY {int(raw.thread_id())}")

    def cut(self, raw: Any) -> None:
        if (opened := raw._sock) is not None:  # the driver has no other way
            _shut(opened.fileno())

    def abandon(self, raw: Any, result: CursorResult[Any]) -> None:
        """The driver reads to the end what it closes, so the server has to end it."""
        import pymysql
        from sqlalchemy.exc import DBAPIError

        try:
            self.cancel(raw)
        except pymysql.MySQLError:  # no more connections are let in, for one
            self.cut(raw)
        with contextlib.suppress(DBAPIError):  # the query was interrupted
            while result.fetchmany(1000):
                pass
        if raw._sock is None:  # cut, and yet the driver would read on
            raw._result.unbuffered_active = False


class _ShortRows:
    """What the driver reads of the connection `raw`: no packet as long as a packet can be, since
    that is the beginning of a longer row, which the driver would read to its end."""

    def __init__(self, raw: Any) -> None:
        self._raw = raw
        self._file = raw._rfile

    def read(self, size: int) -> bytes:
        import pymysql

        if size >= MAX_ROW_BYTES:
            if self._raw._result is not None:  # the driver would read on
                self._raw._result.unbuffered_active = False
            raise pymysql.OperationalError(LOST, TOO_LONG)
        data: bytes = self._file.read(size)
        return data

    def close(self) -> None:
        self._file.close()


class _Oracle(Server[OracleDatabase]):
    def _make_engine(self) -> Engine:
        import sqlalchemy

        config = self._config
        url = sqlalchemy.URL.create(
            "oracle+oracledb",
            username=config.user,
            password=config.password,
            host=config.host,
            port=config.port,
            query={"service_name": config.service_name},
        )
        arguments = {"tcp_connect_timeout": CONNECTING}
        # A large object stays where it is until `row` reads of it what is wanted.
        return _engine(url, arguments, auto_convert_lobs=False, arraysize=FETCHED)

    def row(self, values: Sequence[Any]) -> tuple[Any, ...]:
        return tuple(opened(value, len(values)) for value in values)

    def begin(self, connection: Connection, *, timeout: float) -> None:
        raw: Any = connection.connection.driver_connection
        raw.call_timeout = int(timeout * 1000)
        if not self.mutations:
            connection.exec_driver_sql("SET TRANSACTION READ ONLY")

    def cancel(self, raw: Any) -> None:
        raw.cancel()

    def cut(self, raw: Any) -> None:
        raw.cancel()  # what waits longer is ended by its `call_timeout`

"""What the multi-agent runtime keeps, in a table of a PostgreSQL database."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import re
import threading
from typing import TYPE_CHECKING, Any, TypeVar

from paddock.errors import ConfigError, MissingDependency, SessionError
from paddock.redaction import Redactor
from paddock.runtime.orchestration.stores.base import Rows, RuntimeStore, from_bytes, to_bytes
from paddock.runtime.orchestration.stores.sql import TENANTS, SqlRows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import psycopg

__all__ = ["TABLE", "TABLE_NAME", "PostgresRuntimeStore"]

T = TypeVar("T")

TABLE = "paddock_kept"

TABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,47}")
"""Of a table: PostgreSQL cuts names after 63 bytes, and ours get endings."""

VERSION = "paddock runtime store, version 1"
"""Of the table, in its comment. A later version is made of it by `ensure_schema`."""

CONNECTING = 10
"""Seconds for a connection: a server under load answers in one or two."""

WAITING = 10.0
"""Seconds for one statement, or for a tenant's other writers: they write some rows each."""

MAX_IDLE = 4
"""Idle connections that are kept: as many as write at once in most programs."""

_CREATE = """
CREATE TABLE IF NOT EXISTS {table} (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant bytea NOT NULL,
    name text NOT NULL,
    key bytea NOT NULL,
    family bytea NOT NULL,
    value bytea NOT NULL,
    UNIQUE (tenant, name, key)
);
CREATE INDEX IF NOT EXISTS {index} ON {table} (tenant, name, family, number);
COMMENT ON TABLE {table} IS '{version}';
"""
_VERSION = "SELECT to_regclass(%s) IS NOT NULL, obj_description(to_regclass(%s), 'pg_class')"
_READING = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
_WRITING = "BEGIN ISOLATION LEVEL READ COMMITTED"
_LIMITS = """
SELECT set_config('statement_timeout', %(wait)s, true), set_config('lock_timeout', %(wait)s, true),
       set_config('idle_in_transaction_session_timeout', %(wait)s, true)
"""
_LOCK = "SELECT pg_advisory_xact_lock(%s)"


class PostgresRuntimeStore(RuntimeStore):
    """Rows in the table `table` of the database at `url`.

    Writers of a tenant exclude each other by an advisory lock. With `ensure_schema` the
    table is made when the store is first used; without, it has to be there. No error and no
    representation has the URL. Raises `ConfigError` for one that cannot be read.
    """

    def __init__(self, url: str, *, table: str = TABLE, ensure_schema: bool = False) -> None:
        if not TABLE_NAME.fullmatch(table):
            raise ConfigError(f"table {table!r}: give a name of letters, digits and '_'")
        self._connect_to = _parameters(url)
        secrets = [url, str(self._connect_to.get("password") or "")]
        self._redactor = Redactor.marking(secrets, "***")
        self._table = table
        self._ensure = ensure_schema
        self._is_made = False
        self._idle: list[psycopg.Connection] = []
        self._lock = threading.Lock()
        self._process = os.getpid()

    def __repr__(self) -> str:
        return f"{type(self).__name__}(table={self._table!r})"

    def transact(self, tenant: str, work: Callable[[Rows], T], *, writing: bool) -> T:
        begin = _WRITING if writing else _READING
        with self._transaction(begin) as connection:
            if writing:
                connection.execute(_LOCK, (self._lock_of(tenant),))
            return work(SqlRows(functools.partial(self._run, connection), tenant))

    def tenants(self) -> Sequence[str]:
        with self._transaction(_READING) as connection:
            found = self._run(connection, TENANTS, ())
            return sorted(from_bytes(tenant) for (tenant,) in found)

    def _run(
        self, connection: psycopg.Connection, statement: str, values: tuple[object, ...]
    ) -> psycopg.Cursor[Any]:
        return connection.execute(_sql(statement.replace("?", "%s"), self._table), values)

    async def aclose(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def ensure_schema(self) -> None:
        """Make the table if it is not there. Blocks."""
        self._ensure, self._is_made = True, False
        self.tenants()

    @contextlib.contextmanager
    def _connection(self) -> Iterator[psycopg.Connection]:
        connection = self._taken()
        try:
            if not self._is_made:
                self._prepare(connection)
                self._is_made = True
            yield connection
        except BaseException:
            connection.close()
            raise
        with self._lock:
            if len(self._idle) < MAX_IDLE:
                self._idle.append(connection)
                return
        connection.close()

    def _taken(self) -> psycopg.Connection:
        """Return a connection that works: the server may have closed those that were idle."""
        import psycopg

        while (connection := self._idle_one()) is not None:
            with contextlib.suppress(psycopg.Error):
                connection.execute("")
                return connection
            connection.close()
        return psycopg.connect(**self._connect_to, autocommit=True)

    def _idle_one(self) -> psycopg.Connection | None:
        with self._lock:
            if self._process != os.getpid():  # after a fork they are the parent's
                self._idle, self._process = [], os.getpid()
            return self._idle.pop() if self._idle else None

    @contextlib.contextmanager
    def _transaction(self, begin: str) -> Iterator[psycopg.Connection]:
        with self._translated(), self._connection() as connection, _begun(connection, begin):
            yield connection

    def _prepare(self, connection: psycopg.Connection) -> None:
        with _begun(connection, _WRITING):
            connection.execute(_LOCK, (self._lock_of("the schema"),))
            row = connection.execute(_VERSION, [_quoted(self._table)] * 2).fetchone()
            is_there, version = row or (False, None)
            if is_there and version == VERSION:
                return
            if is_there:
                reason = f"its comment is {version!r}, not {VERSION!r}: it is not ours, or is newer"
                raise SessionError(f"cannot use the table {self._table!r}: {reason}")
            if not self._ensure:
                reason = "it is not there; make it once with ensure_schema"
                raise SessionError(f"cannot use the table {self._table!r}: {reason}")
            connection.execute(_sql(_CREATE, self._table))

    def _lock_of(self, tenant: str) -> int:
        name = hashlib.sha256(to_bytes(self._table) + b"\0" + to_bytes(tenant)).digest()
        return int.from_bytes(name[:8], signed=True)

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        import psycopg

        try:
            yield
        except psycopg.Error as error:
            reason = self._redactor.text(str(error).strip() or type(error).__name__)
            raise SessionError(f"cannot use the store on PostgreSQL: {reason}") from None


@contextlib.contextmanager
def _begun(connection: psycopg.Connection, begin: str) -> Iterator[None]:
    """A transaction, which is committed if the block does not raise."""
    connection.execute(begin.encode())
    connection.execute(_LIMITS, {"wait": str(int(WAITING * 1000))})
    try:
        yield
    except BaseException:
        connection.rollback()
        raise
    connection.execute("COMMIT")


def _parameters(url: str) -> dict[str, Any]:
    """Return what `psycopg.connect` takes."""
    try:
        import psycopg
        from psycopg.conninfo import conninfo_to_dict
    except ImportError as error:
        raise MissingDependency(error.name or "psycopg", "postgres") from error
    try:
        given = conninfo_to_dict(url)
    except psycopg.Error:  # its text has the URL
        raise ConfigError("the URL of the PostgreSQL store cannot be read") from None
    return {
        "connect_timeout": CONNECTING,
        "application_name": "paddock",
        "keepalives_idle": 30,
        "tcp_user_timeout": int(WAITING * 2000),
        **given,
        "prepare_threshold": None,  # a pooler between may give each transaction another session
    }


def _sql(statement: str, table: str) -> bytes:
    names = {"table": _quoted(table), "index": _quoted(f"{table}_by_family"), "version": VERSION}
    return statement.format(**names).encode()


def _quoted(name: str) -> str:
    """`TABLE_NAME` has no quotes."""
    return f'"{name}"'

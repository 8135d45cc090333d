"""Rows in a table of a SQL database: the statements, which SQLite and PostgreSQL both take."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from paddock.runtime.orchestration.stores.base import from_bytes, to_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

__all__ = ["TENANTS", "SqlRows"]

_GET = "SELECT value FROM {table} WHERE tenant = ? AND name = ? AND key = ?"
_ALL = """
SELECT key, value FROM {table} WHERE tenant = ? AND name = ?
ORDER BY number LIMIT 9223372036854775807 OFFSET ?
"""
_GROUP = """
SELECT key, value FROM {table} WHERE tenant = ? AND name = ? AND family = ?
ORDER BY number LIMIT 9223372036854775807 OFFSET ?
"""
"""SQLite takes an offset only with a limit: this one is the largest that both take."""
_PUT = """
INSERT INTO {table} (tenant, name, key, family, value) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (tenant, name, key) DO UPDATE SET value = excluded.value
"""
_DELETE = "DELETE FROM {table} WHERE tenant = ? AND name = ? AND key = ?"
_ELSEWHERE = "SELECT 1 FROM {table} WHERE tenant <> ? AND name = ? AND key = ? LIMIT 1"
TENANTS = "SELECT DISTINCT tenant FROM {table}"


class Cursor(Protocol):
    """What both drivers give."""

    def fetchone(self) -> Any: ...

    def __iter__(self) -> Iterator[Any]: ...


class SqlRows:
    """`Rows` of `tenant`, in one transaction. `run` executes a statement, in which it replaces
    ``{table}``, with values for its question marks."""

    def __init__(self, run: Callable[[str, tuple[object, ...]], Cursor], tenant: str) -> None:
        self._run = run
        self._tenant = to_bytes(tenant)

    def get(self, table: str, key: str) -> bytes | None:
        row = self._execute(_GET, table, to_bytes(key)).fetchone()
        return None if row is None else bytes(row[0])

    def all(
        self, table: str, group: str | None = None, *, skip: int = 0
    ) -> Iterable[tuple[str, bytes]]:
        if group is None:
            found = self._execute(_ALL, table, skip)
        else:
            found = self._execute(_GROUP, table, to_bytes(group), skip)
        return [(from_bytes(key), bytes(value)) for key, value in found]

    def put(self, table: str, key: str, value: bytes, *, group: str = "") -> None:
        self._execute(_PUT, table, to_bytes(key), to_bytes(group), value)

    def delete(self, table: str, key: str) -> None:
        self._execute(_DELETE, table, to_bytes(key))

    def is_elsewhere(self, table: str, key: str) -> bool:
        return self._execute(_ELSEWHERE, table, to_bytes(key)).fetchone() is not None

    def _execute(self, statement: str, *values: object) -> Cursor:
        return self._run(statement, (self._tenant, *values))

"""Databases by their URLs. No error has one: a URL may have a password in it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from paddock.errors import ConfigError, MissingDependency
from paddock.runtime.tools.sql.config import ServerDatabase, SqliteDatabase

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["file_at", "postgres_at", "sqlite_at"]


def file_at(url: str, *, what: str) -> Path:
    """The path of a URL of SQLite, which need not be there.

    It is ``sqlite:PATH``, or ``sqlite:///PATH`` from the root. A ``?mode=...`` changes nothing.
    """
    scheme, _, rest = url.partition(":")
    path, _, options = rest.partition("?")
    if scheme != "sqlite" or not path.strip("/") or (options and not options.startswith("mode=")):
        raise ConfigError(f"{what}: give sqlite:PATH")
    return Path(f"/{path.lstrip('/')}" if path.startswith("//") else path).expanduser().absolute()


def sqlite_at(url: str, *, what: str) -> SqliteDatabase:
    """The file of a URL; see `file_at`."""
    return SqliteDatabase(alias=what, path=file_at(url, what=what))


def postgres_at(url: str, *, what: str, schema: str | None = None) -> ServerDatabase:
    """The database of a URL as PostgreSQL's own programs take it.

    Raises `ConfigError` naming `what` for one that cannot be read, and `MissingDependency`.
    """
    if url.partition(":")[0] not in ("postgres", "postgresql"):
        raise ConfigError(f"{what}: give the URL of a PostgreSQL database")
    given = _parameters(url, what)
    port = str(given.pop("port", ""))
    if port and not port.isdecimal():
        raise ConfigError(f"{what}: give one host and one port")
    return ServerDatabase(
        type="postgres",
        alias=what,
        host=given.pop("host", ""),
        port=int(port or 5432),
        database=given.pop("dbname", ""),
        user=given.pop("user", ""),
        password=given.pop("password", None),
        schema=schema,
        parameters=given,
    )


def _parameters(url: str, what: str) -> dict[str, Any]:
    try:
        import psycopg
        from psycopg.conninfo import conninfo_to_dict
    except ImportError as error:
        raise MissingDependency(error.name or "psycopg", "sql") from error
    try:
        found: Mapping[str, Any] = conninfo_to_dict(url)
    except psycopg.Error:  # its text has the URL
        raise ConfigError(f"{what}: the URL cannot be read") from None
    return {name: str(value) for name, value in found.items()}

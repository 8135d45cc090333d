"""Which databases an agent may use: the `databases` mapping of a configuration, validated.

Knows no driver and connects to nothing. A password is in no `repr` and in no error.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Final, Literal

from paddock.errors import ConfigError
from paddock.runtime.core.variables import replaced

__all__ = [
    "DEFAULT_TIMEOUT",
    "DatabaseConfig",
    "OracleDatabase",
    "ServerDatabase",
    "SqliteDatabase",
    "parse_databases",
]

DEFAULT_TIMEOUT: Final = 30.0
"""Seconds that one call may take: an agent waits for its answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SqliteDatabase:
    """A file of this machine. `timeout` is in seconds, for one call."""

    type: ClassVar[Literal["sqlite"]] = "sqlite"
    password: ClassVar[None] = None

    alias: str
    path: Path
    timeout: float = DEFAULT_TIMEOUT


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerDatabase:
    """A PostgreSQL or MySQL database. A `host` that begins with a slash is a Unix socket.

    For PostgreSQL that is the socket's directory, for MySQL the socket itself. `tls_ca`
    is a file of certificates; with it the server has to prove who it is. `schema` is where
    PostgreSQL looks for names, and `parameters` are others of its driver's.
    """

    type: Literal["postgres", "mysql"]
    alias: str
    host: str
    port: int
    database: str
    user: str
    password: str | None = field(default=None, repr=False)
    tls_ca: str | None = None
    timeout: float = DEFAULT_TIMEOUT
    schema: str | None = None
    parameters: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class OracleDatabase:
    """A service of an Oracle database."""

    type: ClassVar[Literal["oracle"]] = "oracle"

    alias: str
    host: str
    port: int
    service_name: str
    user: str
    password: str = field(repr=False)
    timeout: float = DEFAULT_TIMEOUT


DatabaseConfig = SqliteDatabase | ServerDatabase | OracleDatabase

NO_VERTICA: Final = (
    "there is no tool for vertica: no parser here knows its functions, of which many change the "
    "database or the server in a SELECT"
)

_PORTS: Final = {"postgres": 5432, "mysql": 3306, "oracle": 1521}
_REQUIRED: Final[Mapping[str, tuple[str, ...]]] = {
    "sqlite": ("path",),
    "postgres": ("host", "database", "user"),
    "mysql": ("host", "database", "user"),
    "oracle": ("host", "service_name", "user", "password"),
}
_OPTIONAL: Final[Mapping[str, tuple[str, ...]]] = {
    "sqlite": ("timeout",),
    "postgres": ("port", "password", "tls_ca", "timeout"),
    "mysql": ("port", "password", "tls_ca", "timeout"),
    "oracle": ("port", "timeout"),
}
_ALIAS = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")
_FIELD = re.compile(r"[A-Za-z_]{1,32}")


def parse_databases(
    mapping: Mapping[str, Any] | None, *, environment: Mapping[str, str] | None = None
) -> Mapping[str, DatabaseConfig]:
    """The databases by alias: ``{alias: {"type": ..., ...}}`` as a person wrote them.

    ``${NAME}`` in a value is replaced by that variable of `environment` (of this process
    if absent), once: what it holds is not looked at again. Raises `ConfigError` that
    names the alias and the field, and never a value: for a type or field that is not
    known, one that is missing, a variable that is not set, and a SQLite file that is
    not there.
    """
    if mapping is None:
        return {}
    if not isinstance(mapping, Mapping):
        raise ConfigError("databases must be a mapping of names to databases")
    known = os.environ if environment is None else environment
    return {alias: _parse(alias, given, known) for alias, given in mapping.items()}


def _parse(alias: object, given: object, environment: Mapping[str, str]) -> DatabaseConfig:
    if not isinstance(alias, str) or not _ALIAS.fullmatch(alias):
        raise ConfigError("databases: a name has letters, digits, '_' and '-', and no others")
    if not isinstance(given, Mapping):
        raise ConfigError(f"databases.{alias} must be a mapping")
    kind = given.get("type")
    if kind == "vertica":
        raise ConfigError(f"databases.{alias}.type: {NO_VERTICA}")
    if not isinstance(kind, str) or kind not in _REQUIRED:
        raise ConfigError(f"databases.{alias}.type must be one of {', '.join(_REQUIRED)}")
    _check_names(alias, kind, given)
    values = {
        name: replaced(value, environment, f"databases.{alias}.{name}")
        if isinstance(value, str)
        else value
        for name, value in given.items()
        if name != "type" and value is not None
    }
    for name in _REQUIRED[kind]:
        if values.get(name) in (None, ""):
            raise ConfigError(f"databases.{alias}.{name} is missing: a {kind} database needs it")
    return _make(alias, kind, values)


def _check_names(alias: str, kind: str, given: Mapping[Any, Any]) -> None:
    allowed = (*_REQUIRED[kind], *_OPTIONAL[kind])
    for name in given:
        if name != "type" and name not in allowed:
            fields = ", ".join(allowed)
            # A blank may be missing before a value, which is then a part of the name.
            shown = repr(name) if _FIELD.fullmatch(str(name)) else "a key"
            raise ConfigError(
                f"databases.{alias}: {shown} is no field of a {kind} database ({fields})"
            )


def _make(alias: str, kind: str, values: dict[str, object]) -> DatabaseConfig:
    place = f"databases.{alias}"
    timeout = _number(values.pop("timeout", DEFAULT_TIMEOUT), f"{place}.timeout", 3600)
    port = int(_number(values.pop("port", _PORTS.get(kind, 1)), f"{place}.port", 65535))
    texts: dict[str, Any] = {
        name: _text(value, f"{place}.{name}") for name, value in values.items()
    }
    if kind == "sqlite":
        path = Path(texts["path"]).expanduser()
        if not path.is_file():
            raise ConfigError(f"{place}.path: there is no file {path}")
        return SqliteDatabase(alias=alias, path=path.absolute(), timeout=timeout)
    if kind == "oracle":
        return OracleDatabase(alias=alias, port=port, timeout=timeout, **texts)
    server: Literal["postgres", "mysql"] = "postgres" if kind == "postgres" else "mysql"
    return ServerDatabase(type=server, alias=alias, port=port, timeout=timeout, **texts)


def _text(value: object, place: str) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ConfigError(f"{place} must be text")
    if "\0" in (text := str(value)):
        raise ConfigError(f"{place} holds a character that no database takes")
    return text


def _number(value: object, place: str, most: int) -> float:
    try:
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise ValueError
        number = float(value)
    except ValueError:
        raise ConfigError(f"{place} must be a number") from None
    if not 0 < number <= most:
        raise ConfigError(f"{place} must be more than 0 and at most {most}")
    return number

"""The user's own databases: a file in their configuration, for agents that name none.

Knows where the file is and what stands around its entries; what an entry is, the tools know.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paddock._places import config_directory
from paddock.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from paddock.runtime.agents.config import AgentConfig

__all__ = ["FILE_VARIABLE", "with_databases"]

FILE_VARIABLE = "PADDOCK_DB_CONFIG"
FILE_NAME = "databases.yaml"


def with_databases(config: AgentConfig, *, file: Path | None, saved: bool) -> AgentConfig:
    """`config` with the databases of the user's file, if it names none itself in its `file`.

    One that was `saved` with a session has those that it had, and gets back the passwords
    that no session keeps. Raises `ConfigError` that names the file, and no value in it.
    """
    if not saved:
        if not config.databases:
            return dataclasses.replace(config, databases=_read())
        _check(config.databases, str(file))
        return config
    databases = {alias: dict(each) for alias, each in (config.databases or {}).items()}
    lacking = {alias for alias, each in databases.items() if _lacks_password(each)}
    if not lacking:
        return config
    known = _read() or {}
    for alias in lacking & known.keys():
        if {**known[alias], "password": None} == databases[alias]:
            databases[alias] = known[alias]
    return dataclasses.replace(config, databases=databases)


def _lacks_password(database: Mapping[str, Any]) -> bool:
    """Whether there was one that was left out where it was saved."""
    return "password" in database and database["password"] is None


def _read() -> dict[str, Any] | None:
    from paddock.runtime.core.yamltext import read_text, read_yaml

    path = _find()
    if path is None:
        return None
    source = str(path)
    found = read_yaml(read_text(path), source=source).data
    if isinstance(found, dict) and found.keys() == {"databases"}:  # as in an agent's file
        found = found["databases"]
    if found is not None and not isinstance(found, dict):
        raise ConfigError(f"{source}: give a mapping of names to databases")
    _check(found, source)
    return found


def _check(databases: Mapping[str, Any] | None, source: str) -> None:
    from paddock.runtime.tools.sql.config import parse_databases

    try:
        parse_databases(databases)
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from None


def _find() -> Path | None:
    """The file that the environment names, which has to be there; or the user's, if it is."""

    if named := os.environ.get(FILE_VARIABLE):
        path = Path(named).expanduser()
        if not path.is_file():
            raise ConfigError(f"{FILE_VARIABLE}: there is no file {path}")
        return path
    path = config_directory() / FILE_NAME
    return path if path.is_file() else None

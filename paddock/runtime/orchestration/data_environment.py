"""`data_environment`: where a runtime keeps what it remembers, and the data that its agents read.

A URL may be named by an environment variable. None is in an error or a representation; only
`normalize_data_environment` gives back those that it was given.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from paddock.errors import ConfigError
from paddock.runtime.core.jsontext import problems_in
from paddock.runtime.orchestration.catalog.base import TABLE as CATALOG_TABLE
from paddock.runtime.orchestration.fields import Flag, Name, Spec
from paddock.runtime.orchestration.store import open_store
from paddock.runtime.orchestration.stores.memory import MemoryRuntimeStore
from paddock.runtime.orchestration.stores.postgres import TABLE as POSTGRES_TABLE
from paddock.runtime.orchestration.stores.postgres import PostgresRuntimeStore
from paddock.runtime.orchestration.stores.redis import PREFIX as REDIS_PREFIX
from paddock.runtime.orchestration.stores.redis import RedisRuntimeStore
from paddock.runtime.orchestration.stores.sqlite import SqliteRuntimeStore

if TYPE_CHECKING:
    from paddock.runtime.orchestration.stores.base import RuntimeStore

__all__ = [
    "CatalogSearch",
    "DataEnvironment",
    "EmptyCatalog",
    "InlineCatalog",
    "PostgresCatalog",
    "PostgresDatabase",
    "SqliteCatalog",
    "SqliteDatabase",
    "normalize_data_environment",
    "read_data_environment",
]


class _Part(Spec):
    model_config = ConfigDict(hide_input_in_errors=True)


class _Located(_Part):
    """What is at a URL: the `url` itself, or the environment variable `url_env` has it."""

    url: Name | None = Field(default=None, repr=False)
    url_env: Name | None = None

    @model_validator(mode="after")
    def _is_somewhere(self) -> Self:
        if (self.url is None) == (self.url_env is None):
            raise ValueError("give one of url and url_env")
        return self

    def location(self, what: str) -> str:
        """Return the URL. Raises `ConfigError` naming the variable if that is not set."""
        if self.url is not None:
            return self.url
        assert self.url_env is not None, "one of the two is there"
        found = os.environ.get(self.url_env)
        if not found:
            raise ConfigError(f"{what}: the environment variable {self.url_env} is not set")
        return found


class MemoryKv(_Part):
    """What is kept ends with the runtime."""

    kind: Literal["memory"]

    def open(self) -> RuntimeStore:
        return MemoryRuntimeStore()


class SqliteKv(_Located):
    """A file. It is made when it is first used, unless `ensure_schema` is False."""

    kind: Literal["sqlite"]
    ensure_schema: Flag = True

    def open(self) -> RuntimeStore:
        store = open_store(_of_scheme(self, "sqlite"))
        assert store.path is not None, "it is a file"
        return SqliteRuntimeStore(store.path, ensure_schema=self.ensure_schema)


class PostgresKv(_Located):
    """A table of a database. It is made only with `ensure_schema`."""

    kind: Literal["postgres"]
    table: Name = POSTGRES_TABLE
    ensure_schema: Flag = False

    def open(self) -> RuntimeStore:
        where = _of_scheme(self, "postgres", "postgresql")
        return PostgresRuntimeStore(where, table=self.table, ensure_schema=self.ensure_schema)


class RedisKv(_Located):
    """Keys that begin with `prefix`. There is no schema to ensure."""

    kind: Literal["redis"]
    prefix: Name = REDIS_PREFIX
    ensure_schema: Flag = False

    def open(self) -> RuntimeStore:
        return RedisRuntimeStore(_of_scheme(self, "redis", "rediss"), prefix=self.prefix)


class SqliteDatabase(_Located):
    kind: Literal["sqlite"]


class PostgresDatabase(_Located):
    kind: Literal["postgres"]
    database_schema: Name | None = Field(default=None, alias="schema")


class EmptyCatalog(_Part):
    kind: Literal["empty"]


class InlineCatalog(_Part):
    """`entries` stay as they are given."""

    kind: Literal["inline"]
    entries: tuple[dict[str, Any], ...]


class SqliteCatalog(_Located):
    """The table `paddock_catalog` of a file. It is made only with `ensure_schema`."""

    kind: Literal["sqlite"]
    ensure_schema: Flag = False


class PostgresCatalog(_Located):
    """A table of a database. It is made only with `ensure_schema`."""

    kind: Literal["postgres"]
    table: Name = CATALOG_TABLE
    ensure_schema: Flag = False


class CatalogSearch(_Part):
    """Where the index of a catalog is kept; PostgreSQL searches its own table. With
    `rebuild_on_start` a runtime builds it anew, with `write_through` it follows the entries."""

    index_path: Name
    rebuild_on_start: Flag = False
    write_through: Flag = False


def _as_kind(value: object) -> object:
    return {"kind": value} if isinstance(value, str) else value


Kv = Annotated[
    MemoryKv | SqliteKv | PostgresKv | RedisKv,
    Field(discriminator="kind"),
]
TargetDatabase = Annotated[SqliteDatabase | PostgresDatabase, Field(discriminator="kind")]
Catalog = Annotated[
    EmptyCatalog | InlineCatalog | SqliteCatalog | PostgresCatalog, Field(discriminator="kind")
]


class DataEnvironment(_Part):
    """See the module. `kv` is where plans, references, approvals, histories and runs are kept."""

    tenant_id: Name | None = None
    workspace_id: Name | None = None
    kv: Annotated[Kv | None, BeforeValidator(_as_kind)] = None
    target_database: TargetDatabase | None = None
    target_database_url: Name | None = Field(default=None, repr=False)
    target_database_schema: Name | None = None
    catalog: Annotated[Catalog | None, BeforeValidator(_as_kind)] = None
    catalog_search: CatalogSearch | None = None

    @model_validator(mode="after")
    def _has_one_target(self) -> Self:
        if self.target_database is not None and self.target_database_url is not None:
            raise ValueError("give one of target_database and target_database_url")
        return self


def read_data_environment(given: object, *, tenant: str) -> DataEnvironment:
    """Return what `given` says. Raises `ValueError` or `TypeError` for what cannot be used.

    Its `tenant_id`, where it has one, has to be `tenant`.
    """
    environment = _read(given)
    if environment.tenant_id not in (None, tenant):
        raise ValueError(
            f"data_environment.tenant_id is {environment.tenant_id!r}, "
            f"and the runtime's tenant is {tenant!r}"
        )
    return environment


def normalize_data_environment(given: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return `given` with camelCase keys; None if it says nothing.

    Raises `ValueError` for what a data environment has not, and `TypeError` for no mapping.
    """
    if given is None:
        return None
    found = _read(given).model_dump(by_alias=True, exclude_unset=True, mode="json")
    return {key: value for key, value in found.items() if value is not None} or None


def _read(given: object) -> DataEnvironment:
    if isinstance(given, DataEnvironment):
        return given
    if not isinstance(given, Mapping):
        raise TypeError(f"data_environment is a mapping, not {type(given).__name__}")
    try:
        return DataEnvironment.model_validate(dict(given))
    except ValidationError as error:
        raise ConfigError(f"data_environment: {'; '.join(problems_in(error))}") from None


def _of_scheme(kv: SqliteKv | PostgresKv | RedisKv, *schemes: str) -> str:
    where = kv.location("data_environment.kv")
    if where.partition(":")[0] not in schemes:
        raise ConfigError(f"data_environment.kv: the URL of {kv.kind} begins with {schemes[0]}:")
    return where

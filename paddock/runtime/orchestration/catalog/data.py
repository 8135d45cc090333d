"""What a `data_environment` gives the agents of a runtime: a catalog and a target database."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, assert_never

from paddock.errors import ConfigError
from paddock.runtime.orchestration.catalog.entries import read_entries
from paddock.runtime.orchestration.catalog.index import MemoryDatabase, index_file
from paddock.runtime.orchestration.catalog.indexed import (
    CatalogFile,
    Entries,
    GivenEntries,
    IndexedCatalog,
)
from paddock.runtime.orchestration.catalog.served import ServedCatalog
from paddock.runtime.orchestration.catalog.target import TargetDatabase
from paddock.runtime.orchestration.data_environment import (
    CatalogSearch,
    EmptyCatalog,
    InlineCatalog,
    PostgresCatalog,
    PostgresDatabase,
    SqliteCatalog,
)
from paddock.runtime.tools.sql.urls import file_at, postgres_at, sqlite_at

if TYPE_CHECKING:
    from paddock.runtime.orchestration.catalog.base import Catalog
    from paddock.runtime.orchestration.catalog.index import Database
    from paddock.runtime.orchestration.data_environment import DataEnvironment

__all__ = ["AgentData", "Part", "open_data"]

Part = Literal["catalog", "target_database"]
"""Of a `data_environment`."""

_CATALOG = "data_environment.catalog"


@dataclass(frozen=True, kw_only=True)
class AgentData:
    """Either may be missing. Nothing is connected before a tool asks."""

    catalog: Catalog | None
    target_database: TargetDatabase | None

    def needed(self, part: Part, tool: str) -> Any:
        """Return a part. Raise `ConfigError` naming the key that `tool` lacks."""
        found = getattr(self, part)
        if found is None:
            key = f"data_environment.{part}"
            raise ConfigError(f"{tool} needs {key}, which this runtime was not given")
        return found

    async def aclose(self) -> None:
        if self.catalog is not None:
            await self.catalog.aclose()


def open_data(environment: DataEnvironment, *, tenant: str) -> AgentData:
    """Return the data that `environment` describes.

    Raises `ConfigError` for what cannot be used, and `MissingDependency`.
    """
    return AgentData(catalog=_catalog(environment, tenant), target_database=_target(environment))


def _catalog(environment: DataEnvironment, tenant: str) -> Catalog | None:
    given, workspace = environment.catalog, environment.workspace_id or ""
    entries: Entries
    match given:
        case None:
            return None
        case PostgresCatalog():
            url = given.location(_CATALOG)
            return ServedCatalog(
                postgres_at(url, what=_CATALOG),
                url=url,
                table=given.table,
                tenant=tenant,
                workspace=workspace,
                ensure_schema=given.ensure_schema,
            )
        case EmptyCatalog():
            entries = GivenEntries(())
        case InlineCatalog():
            entries = GivenEntries(read_entries(given.entries, f"{_CATALOG}.entries"))
        case SqliteCatalog():
            entries = CatalogFile(
                file_at(given.location(_CATALOG), what=_CATALOG),
                tenant=tenant,
                workspace=workspace,
                ensure_schema=given.ensure_schema,
            )
        case _:
            assert_never(given)
    search = environment.catalog_search
    return IndexedCatalog(
        entries,
        _index(search),
        scope=f"{tenant}\0{workspace}",
        rebuild=search is not None and search.rebuild_on_start,
        follows=search is not None and search.write_through,
    )


def _index(search: CatalogSearch | None) -> Database:
    if search is None:
        return MemoryDatabase()
    path = Path(search.index_path).expanduser()
    return index_file(path / "catalog.db" if path.is_dir() else path)


def _target(environment: DataEnvironment) -> TargetDatabase | None:
    given, key = environment.target_database, "target_database"
    if given is not None:
        url = given.location(f"data_environment.{key}")
        kind = given.kind
        schema = given.database_schema if isinstance(given, PostgresDatabase) else None
    elif environment.target_database_url is not None:
        key, url, schema = "target_database_url", environment.target_database_url, None
        kind = "sqlite" if url.partition(":")[0] == "sqlite" else "postgres"
    elif environment.target_database_schema is not None:
        raise ConfigError(
            "data_environment.target_database_schema: there is no target_database that has it"
        )
    else:
        return None
    what = f"data_environment.{key}"
    schema = _schema(schema, environment.target_database_schema)
    if kind == "postgres":
        return TargetDatabase(postgres_at(url, what=what, schema=schema), url=url, key=key)
    if schema is not None:
        raise ConfigError(f"{what}: a SQLite database has no schema to choose")
    return TargetDatabase(sqlite_at(url, what=what), url=url, key=key)


def _schema(of_database: str | None, beside: str | None) -> str | None:
    if of_database is not None and beside is not None and of_database != beside:
        raise ConfigError(
            "data_environment: target_database.schema and target_database_schema differ; give one"
        )
    return of_database or beside

"""A catalog in a table of a PostgreSQL database, which the server searches."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, TypeVar

from paddock.errors import ConfigError, SessionError
from paddock.redaction import Redactor
from paddock.runtime.orchestration.catalog.base import Catalog, Link
from paddock.runtime.orchestration.catalog.entries import read_entry
from paddock.runtime.orchestration.stores.postgres import TABLE_NAME
from paddock.runtime.tools.sql.line import said_by_database, use_line
from paddock.runtime.tools.sql.servers import require_sql, server_for

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sqlalchemy import Connection

    from paddock.runtime.orchestration.catalog.entries import CatalogEntry
    from paddock.runtime.tools.sql.config import ServerDatabase
    from paddock.runtime.tools.sql.line import Line

__all__ = ["ServedCatalog"]

T = TypeVar("T")

MAX_CONTENT: Final = 128 * 1024
"""Characters of an entry's content that come to this machine."""

_CREATE = """
CREATE TABLE IF NOT EXISTS {table} (
    tenant text NOT NULL,
    workspace text NOT NULL DEFAULT '',
    id text NOT NULL,
    item_type text NOT NULL,
    name text NOT NULL,
    qualified_name text NOT NULL DEFAULT '',
    content text NOT NULL DEFAULT '',
    tags jsonb NOT NULL DEFAULT '[]',
    related jsonb NOT NULL DEFAULT '[]',
    metadata jsonb NOT NULL DEFAULT '{{}}',
    words tsvector GENERATED ALWAYS AS (
        setweight(to_tsvector('english', translate(name, '._/', '   ')), 'A')
        || setweight(to_tsvector('english', translate(qualified_name, '._/', '   ')), 'B')
        || setweight(to_tsvector('english', translate(tags::text, '._/', '   ')), 'C')
        || setweight(to_tsvector('english', left(content, 200000)), 'D')
    ) STORED,
    PRIMARY KEY (tenant, workspace, id)
);
CREATE INDEX IF NOT EXISTS {index} ON {table} USING gin (words)
"""
_ENTRY = """
id, item_type, name, qualified_name, left(content, {most}) AS content, tags, related, metadata
"""
_OURS = "tenant = %(tenant)s AND workspace = %(workspace)s"
_FULL_NAME = "coalesce(nullif(qualified_name, ''), name)"
_ABOUT = "jsonb_array_elements(CASE jsonb_typeof(related) WHEN 'array' THEN related END)"
_ID = "CASE jsonb_typeof(each) WHEN 'string' THEN each #>> '{{}}' ELSE each ->> 'id' END"
_SEARCH = f"""
SELECT {_ENTRY}, ts_rank(words, asked) AS score
FROM {{table}}, to_tsquery('english', %(asked)s) AS asked
WHERE {_OURS} AND words @@ asked AND (%(kinds)s::text[] = '{{{{}}}}' OR item_type = ANY (%(kinds)s))
ORDER BY score DESC, id LIMIT %(limit)s
"""
_GET = f"""
SELECT {_ENTRY} FROM {{table}}
WHERE {_OURS} AND (id = ANY (%(names)s) OR {_FULL_NAME} = ANY (%(names)s)) ORDER BY id
"""
_COLUMNS = f"""
SELECT {_ENTRY} FROM {{table}} AS t WHERE {_OURS} AND item_type = 'column' AND (
    id = ANY (%(related)s)
    OR EXISTS (SELECT FROM {_ABOUT} AS each WHERE {_ID} = %(id)s)
    OR starts_with({_FULL_NAME}, %(below)s)
    OR (metadata ->> 'tableName' = %(table)s
        AND coalesce(metadata ->> 'schemaName', %(schema)s) = %(schema)s))
ORDER BY id LIMIT %(limit)s
"""
_LINKS = f"""
SELECT id, {_ID}, each FROM {{table}}, {_ABOUT} AS each
WHERE {_OURS} AND (id = ANY (%(ids)s) OR {_ID} = ANY (%(ids)s)) ORDER BY 1, 2 LIMIT %(limit)s
"""


class ServedCatalog(Catalog):
    """The rows of a tenant and a workspace in the table `table` of a database.

    With `ensure_schema` the table is made when it is first used, which takes a role that may. No
    error has the URL or the password.
    """

    def __init__(
        self,
        config: ServerDatabase,
        *,
        url: str,
        table: str,
        tenant: str,
        workspace: str,
        ensure_schema: bool,
    ) -> None:
        require_sql()
        if not TABLE_NAME.fullmatch(table):
            raise ConfigError(
                f"data_environment.catalog.table: {table!r} is no name of letters, digits and '_'"
            )
        self._limit = config.timeout
        self._reading = server_for(config, mutations=False)
        self._writing = server_for(config, mutations=True)
        self._redactor = Redactor.marking([url, config.password or ""], "***")
        self._table = table
        self._ours = {"tenant": tenant, "workspace": workspace}
        self._is_made = not ensure_schema

    async def search(
        self, words: Sequence[str], kinds: Sequence[str], limit: int
    ) -> Sequence[tuple[CatalogEntry, float]]:
        asked = " | ".join(f"'{word}':*" for word in words)
        found = await self._ask(_SEARCH, asked=asked, kinds=[*kinds], limit=limit)
        return [(_entry(row), float(row["score"])) for row in found]

    async def get(self, names: Sequence[str]) -> Mapping[str, CatalogEntry]:
        rows = [_entry(row) for row in await self._ask(_GET, names=[*names])]
        found = {entry.full_name: entry for entry in reversed(rows)}
        found |= {entry.id: entry for entry in rows}
        return {name: found[name] for name in names if name in found}

    async def columns(self, table: CatalogEntry, limit: int) -> Sequence[CatalogEntry]:
        found = await self._ask(
            _COLUMNS,
            id=table.id,
            related=[target for target, _ in table.links()],
            below=f"{table.full_name}.",
            table=str(table.metadata.get("tableName", table.name)),
            schema=str(table.metadata.get("schemaName", "")),
            limit=limit,
        )
        return [*map(_entry, found)]

    async def links(self, ids: Sequence[str], limit: int) -> Sequence[Link]:
        links = []
        for row in await self._ask(_LINKS, ids=[*ids], limit=limit):
            source, target, about = row.values()
            if target is not None:
                said = dict(about) if isinstance(about, dict) else {}
                said.pop("id", None)
                links.append(Link(source=source, target=target, about=said))
        return links

    async def aclose(self) -> None:
        """Nothing is open between calls."""

    async def _ask(self, sql: str, **values: Any) -> list[dict[str, Any]]:
        if not self._is_made:
            await self._do(self._make, mutations=True)
            self._is_made = True
        text = sql.format(table=f'"{self._table}"', most=MAX_CONTENT)

        def read(connection: Connection) -> list[dict[str, Any]]:
            found = connection.exec_driver_sql(text, self._ours | values)
            names = [*found.keys()]
            return [dict(zip(names, row, strict=True)) for row in found]

        return await self._do(read, mutations=False)

    def _make(self, connection: Connection) -> None:
        names = {"table": f'"{self._table}"', "index": f'"{self._table}_words"'}
        for statement in _CREATE.format(**names).split(";\n"):
            connection.exec_driver_sql(statement)
        connection.commit()

    async def _do(self, work: Callable[[Connection], T], *, mutations: bool) -> T:
        server = self._writing if mutations else self._reading

        def do(line: Line) -> T:
            with line.open() as connection:
                return work(connection)

        try:
            return await use_line(server, do, limit=self._limit)
        except TimeoutError:
            reason = f"no answer in {self._limit:g} s"
        except Exception as error:
            if (said := said_by_database(error)) is None:
                raise
            reason = self._redactor.text(said)
        raise SessionError(f"cannot read the catalog on PostgreSQL: {reason}")


def _entry(row: Mapping[str, Any]) -> CatalogEntry:
    given = {name: value for name, value in row.items() if name != "score"}
    for name in ("tags", "related", "metadata"):
        if isinstance(given[name], str):
            given[name] = json.loads(given[name])
    return read_entry(given, f"the catalog on PostgreSQL: the entry {row['id']!r}")

"""The toolkit `catalog`: tools over a catalog, and over the database that it describes."""

from __future__ import annotations

import re
from abc import abstractmethod
from typing import TYPE_CHECKING, Any

from paddock.errors import ToolError
from paddock.runtime.orchestration import roles
from paddock.runtime.orchestration.catalog.entries import KINDS
from paddock.runtime.orchestration.catalog.relations import shortest_paths
from paddock.runtime.orchestration.tools import RuntimeTool
from paddock.runtime.tools.arguments import object_schema

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from paddock.runtime.core.tool import ToolInvocation
    from paddock.runtime.orchestration.catalog.base import Catalog
    from paddock.runtime.orchestration.catalog.data import AgentData, Part
    from paddock.runtime.orchestration.catalog.entries import CatalogEntry
    from paddock.runtime.orchestration.catalog.target import TargetDatabase

__all__ = ["CATALOG_TOOLS"]

MAX_REFS = 100
MAX_WORDS = 32
MAX_CONTENT = 20_000
"""Characters of an entry's content in a result; a search has the first `MAX_EXCERPT`."""
MAX_EXCERPT = 300

_WORD = re.compile(r"[^\W_]+")
_TEXT = {"type": "string"}
_REF = {"anyOf": [{"type": "string"}, object_schema(required=["id"], id=_TEXT)]}


def _refs(about: str) -> dict[str, Any]:
    bounds = {"minItems": 1, "maxItems": MAX_REFS}
    return {"type": "array", "items": _REF, **bounds, "description": about}


_REFS = _refs('Entries, such as [{"id": "table:orders"}].')


def _limit(default: int, most: int) -> dict[str, Any]:
    about = f"At most so many; {default} if absent."
    return {"type": "integer", "minimum": 1, "maximum": most, "description": about}


class DataTool(RuntimeTool):
    """Reads the part `needs` of the data, so it may run at the same time as others, and again."""

    needs: Part = "catalog"
    is_resumable = True
    is_concurrent = True

    @abstractmethod
    async def read(self, part: Any, arguments: dict[str, Any], data: AgentData) -> Any:
        """Return the result from `part`, the one that it needs of `data`."""

    async def work(self, arguments: dict[str, Any], invocation: ToolInvocation) -> Any:
        data: AgentData = invocation.context.deps.team.data
        return await self.read(data.needed(self.needs, self.name), arguments, data)


class SearchCatalog(DataTool):
    name = roles.SEARCH_CATALOG
    description = "Find entries of the data catalog by their words. Gives candidates to look at."
    parameters = object_schema(
        required=["query"],
        query=_TEXT | {"description": "Words to look for."},
        kinds={
            "type": "array",
            "items": {"type": "string", "enum": [*KINDS]},
            "description": "Only entries of these kinds.",
        },
        limit=_limit(10, 100),
    )

    async def read(self, catalog: Catalog, arguments: dict[str, Any], data: AgentData) -> Any:
        limit, kinds = arguments.get("limit", 10), arguments.get("kinds") or []
        if unknown := [kind for kind in kinds if kind not in KINDS]:
            raise ToolError(f"there is no kind {unknown[0]!r}; the kinds are {', '.join(KINDS)}")
        words = _WORD.findall(arguments["query"])[:MAX_WORDS]
        if not words:
            raise ToolError("query: give at least one word")
        found = await catalog.search(words, kinds, limit + 1)
        results = [_candidate(entry, score) for entry, score in found[:limit]]
        return {"results": results, "truncated": len(found) > limit}


class GetCatalogEntities(DataTool):
    name = roles.GET_CATALOG_ENTITIES
    description = "Return whole entries of the data catalog."
    parameters = object_schema(required=["refs"], refs=_REFS)

    async def read(self, catalog: Catalog, arguments: dict[str, Any], data: AgentData) -> Any:
        names = _names(arguments["refs"])
        found = await catalog.get(names)
        entries = {entry.id: entry for entry in found.values()}
        warnings = _named_otherwise(found)
        for entry in entries.values():
            if len(entry.content) > MAX_CONTENT:
                warnings.append(
                    f"{entry.id}: only the first {MAX_CONTENT} of {len(entry.content)} characters"
                )
        return {
            "entities": [_whole(entry) for entry in entries.values()],
            "missing": [{"id": name} for name in names if name not in found],
            "warnings": warnings,
        }


class ListSchemaFields(DataTool):
    name = roles.LIST_SCHEMA_FIELDS
    description = "List the columns of tables, as the data catalog has them."
    parameters = object_schema(
        required=["tables"],
        tables=_refs("Tables, by their ids or qualified names."),
        limit=_limit(200, 1000),
    )

    async def read(self, catalog: Catalog, arguments: dict[str, Any], data: AgentData) -> Any:
        limit, names = arguments.get("limit", 200), _names(arguments["tables"])
        found = await catalog.get(names)
        fields: list[dict[str, Any]] = []
        warnings = _named_otherwise(found)
        for table in {entry.id: entry for entry in found.values()}.values():
            if table.item_type != "table":
                warnings.append(f"{table.id} is no table but a {table.item_type}")
                continue
            columns = await catalog.columns(table, limit + 1 - len(fields))
            if not columns:
                warnings.append(
                    f"{table.id}: the catalog has none of its columns; {roles.SAMPLE_TABLE_DATA} "
                    "shows those of the database"
                )
            fields += [{"table": table.full_name, **_whole(column)} for column in columns]
            if len(fields) > limit:
                break
        return {
            "fields": fields[:limit],
            "missing": [{"id": name} for name in names if name not in found],
            "warnings": warnings,
            "truncated": len(fields) > limit,
        }


class GetCatalogRelations(DataTool):
    name = roles.GET_CATALOG_RELATIONS
    description = "Return what entries of the data catalog are related to, in both directions."
    parameters = object_schema(required=["refs"], refs=_REFS, limit=_limit(100, 1000))

    async def read(self, catalog: Catalog, arguments: dict[str, Any], data: AgentData) -> Any:
        limit, names = arguments.get("limit", 100), _names(arguments["refs"])
        found = await catalog.get(names)
        ids = [*{entry.id: None for entry in found.values()}]
        links = await catalog.links(ids, limit + 1) if ids else []
        relations = [
            {"source": link.source, "target": link.target, "about": dict(link.about)}
            for link in links[:limit]
        ]
        ends = {end: None for link in links[:limit] for end in (link.source, link.target)}
        return {
            "relations": relations,
            "entities": await _summaries(catalog, [*ends]),
            "missing": [{"id": name} for name in names if name not in found],
            "truncated": len(links) > limit,
        }


class GetRelationPathsBetween(DataTool):
    name = roles.GET_RELATION_PATHS_BETWEEN
    description = "Return the shortest paths of relations between two entries of the data catalog."
    parameters = object_schema(
        required=["start", "end"],
        start=_REF | {"description": "The id of the entry where paths begin."},
        end=_REF | {"description": "The id of the entry where they end."},
        max_depth={
            "type": "integer",
            "minimum": 1,
            "maximum": 8,
            "description": "Relations of a path at most; 4 if absent.",
        },
    )

    async def read(self, catalog: Catalog, arguments: dict[str, Any], data: AgentData) -> Any:
        names = _names([arguments["start"], arguments["end"]])
        found = await catalog.get(names)
        missing = [{"id": name} for name in dict.fromkeys(names) if name not in found]
        if missing:
            return {"paths": [], "entities": [], "missing": missing, "truncated": False}
        start, end = (found[name].id for name in names)
        paths, truncated = await shortest_paths(catalog, start, end, arguments.get("max_depth", 4))
        passed = {each: None for path in paths for each in path}
        return {
            "paths": paths,
            "entities": await _summaries(catalog, [*passed]),
            "missing": [],
            "truncated": truncated,
        }


class SampleTableData(DataTool):
    name = roles.SAMPLE_TABLE_DATA
    needs = "target_database"
    description = "Return some rows of a table of the database."
    parameters = object_schema(
        required=["table"],
        table=_TEXT | {"description": "A table: its id in the catalog, or schema.name or name."},
        columns={"type": "array", "items": _TEXT, "description": "Only these columns."},
        limit=_limit(10, 100),
    )

    async def read(self, target: TargetDatabase, arguments: dict[str, Any], data: AgentData) -> Any:
        columns = arguments.get("columns") or []
        if not all(isinstance(column, str) for column in columns):
            raise ToolError("columns: give the names of columns")
        table = await _table(data.catalog, arguments["table"])
        return await target.sample(table, columns, arguments.get("limit", 10))


class ExecuteQuery(DataTool):
    name = roles.EXECUTE_QUERY
    needs = "target_database"
    description = (
        "Run one SQL query (SELECT or WITH) on the database, which is read only, and return rows."
    )
    parameters = object_schema(
        required=["sql"],
        sql=_TEXT | {"description": "One query."},
        params={
            "type": ["object", "array"],
            "description": "Values of parameters: by name for :name in the query, or in a row for "
            "? in SQLite and $1, $2 in PostgreSQL.",
        },
        limit=_limit(100, 1000),
    )

    async def read(self, target: TargetDatabase, arguments: dict[str, Any], data: AgentData) -> Any:
        return await target.query(
            arguments["sql"], arguments.get("params"), arguments.get("limit", 100)
        )


CATALOG_TOOLS: Mapping[str, type[DataTool]] = {
    kind.name: kind
    for kind in (
        SearchCatalog,
        GetCatalogEntities,
        ListSchemaFields,
        GetCatalogRelations,
        GetRelationPathsBetween,
        SampleTableData,
        ExecuteQuery,
    )
}


def _names(refs: Sequence[Any]) -> list[str]:
    """Return the ids of `refs`, which are ids or mappings with one."""
    if not 0 < len(refs) <= MAX_REFS:
        raise ToolError(f"give 1 to {MAX_REFS} entries, not {len(refs)}")
    given = [each.get("id") if isinstance(each, dict) else each for each in refs]
    found = [each for each in given if isinstance(each, str) and each]
    if len(found) < len(given):
        raise ToolError('an entry is {"id": "..."} or its id')
    return found


def _named_otherwise(found: Mapping[str, CatalogEntry]) -> list[str]:
    return [
        f"{name!r} is no id; it is the qualified name of {entry.id!r}"
        for name, entry in found.items()
        if name != entry.id
    ]


def _whole(entry: CatalogEntry) -> dict[str, Any]:
    return entry.to_dict() | {"content": entry.content[:MAX_CONTENT]}


def _summary(entry: CatalogEntry) -> dict[str, Any]:
    whole = entry.to_dict()
    return {name: whole[name] for name in ("id", "itemType", "name", "qualified_name")}


def _candidate(entry: CatalogEntry, score: float) -> dict[str, Any]:
    more = {"tags": list(entry.tags), "score": float(f"{score:.3g}")}
    return {**_summary(entry), "content": entry.content[:MAX_EXCERPT], **more}


async def _summaries(catalog: Catalog, ids: Sequence[str]) -> list[dict[str, Any]]:
    found = await catalog.get(ids) if ids else {}
    return [_summary(found[each]) for each in ids if each in found]


async def _table(catalog: Catalog | None, name: str) -> list[str]:
    """Return the parts of a table's name in the database: those of its entry, if it has one."""
    found = {} if catalog is None else await catalog.get([name])
    entry = found.get(name)
    if entry is None or (entry.id != name and entry.item_type != "table"):
        return name.split(".")
    if entry.item_type != "table":
        raise ToolError(f"{entry.id} is no table but a {entry.item_type}")
    table, schema = entry.metadata.get("tableName"), entry.metadata.get("schemaName")
    if isinstance(table, str):
        return [schema, table] if isinstance(schema, str) else [table]
    return entry.full_name.split(".")

"""What is in a database: its tables, and what a table is made of. Reads and does no more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from paddock.runtime.tools.table import render_table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection, Inspector

    from paddock.redaction import Redactor

__all__ = ["describe_table", "list_tables"]

MAX_TABLES: Final = 500
MAX_SCHEMAS: Final = 50


def list_tables(connection: Connection, schema: str | None, redactor: Redactor) -> str:
    """The tables and views of `schema`, or of the default one, which other schemas follow."""
    import sqlalchemy

    inspector = sqlalchemy.inspect(connection)
    found = [(name, "table") for name in inspector.get_table_names(schema=schema)]
    found += [(name, "view") for name in inspector.get_view_names(schema=schema)]
    found.sort()
    text = render_table(("name", "type"), found[:MAX_TABLES], redactor)
    if len(found) > MAX_TABLES:
        text += f"\n[Showing the first {MAX_TABLES} of {len(found)} tables]"
    else:
        text += f"\n({len(found)} tables and views)"
    if schema is None and (others := _other_schemas(inspector)):
        text += f"\nOther schemas: {', '.join(others)}"
    return text


def _other_schemas(inspector: Inspector) -> list[str]:
    hidden = {"information_schema", inspector.default_schema_name}
    names = (name for name in inspector.get_schema_names() if name not in hidden)
    return sorted(names)[:MAX_SCHEMAS]


def describe_table(
    connection: Connection, table: str, schema: str | None, redactor: Redactor
) -> str | None:
    """Columns, keys and indexes of a table or view; None if there is none of that name."""
    import sqlalchemy
    from sqlalchemy.exc import NoSuchTableError

    inspector = sqlalchemy.inspect(connection)
    try:
        columns = inspector.get_columns(table, schema=schema)
        primary = inspector.get_pk_constraint(table, schema=schema)["constrained_columns"]
        notes = [*_keys(inspector, table, schema), *_indexes(inspector, table, schema)]
    except NoSuchTableError:
        return None
    rows = [
        (
            column["name"],
            _type_name(column["type"]),
            "yes" if column["nullable"] else "no",
            column.get("default") or "",
            "yes" if column["name"] in primary else "",
        )
        for column in columns
    ]
    text = render_table(("column", "type", "nullable", "default", "primary key"), rows, redactor)
    return "\n".join([text, *notes])


def _type_name(column_type: Any) -> str:
    import sqlalchemy

    known = not isinstance(column_type, sqlalchemy.types.NullType)
    return str(column_type) if known else "(unknown)"


def _keys(inspector: Inspector, table: str, schema: str | None) -> Iterator[str]:
    for key in inspector.get_foreign_keys(table, schema=schema):
        target = ".".join(filter(None, [key["referred_schema"], key["referred_table"]]))
        columns, referred = key["constrained_columns"], key["referred_columns"]
        yield f"Foreign key: ({', '.join(columns)}) -> {target} ({', '.join(referred)})"


def _indexes(inspector: Inspector, table: str, schema: str | None) -> Iterator[str]:
    for index in inspector.get_indexes(table, schema=schema):
        columns = ", ".join(name or "(expression)" for name in index["column_names"])
        unique = " unique" if index["unique"] else ""
        yield f"Index: {index['name']} ({columns}){unique}"

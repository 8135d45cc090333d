"""The tools `sqlite`, `postgres`, `mysql` and `oracle`: one handler, given its databases.

They run on this machine, not in the sandbox; only an exported file goes there. Knows no
driver.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, Final, TypeVar, get_args

from paddock.errors import ConfigError
from paddock.runtime.core.output import truncate_output
from paddock.runtime.core.tool import ToolOutput
from paddock.runtime.permissions.paths import parse_path, show_path
from paddock.runtime.permissions.protected import protected_reason
from paddock.runtime.tools.arguments import object_schema
from paddock.runtime.tools.base import ToolHandler
from paddock.runtime.tools.files import failed, refused, seen_from_inside
from paddock.runtime.tools.sql.catalog import describe_table, list_tables
from paddock.runtime.tools.sql.line import Line, Rows, told_to_model, use_line
from paddock.runtime.tools.sql.policy import NAMES, Kind
from paddock.runtime.tools.sql.servers import Server, require_sql, server_for
from paddock.runtime.tools.sql.statement import read_statement
from paddock.runtime.tools.table import CsvText, draw_table, shown_row

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from sqlalchemy import Connection

    from paddock.redaction import Redactor
    from paddock.runtime.core.tool import ToolInvocation
    from paddock.runtime.tools.sql.config import DatabaseConfig

T = TypeVar("T")

__all__ = ["DatabaseHandler", "database_handlers"]

MAX_ROWS: Final = 100
MAX_EXPORT: Final = 32 * 1024 * 1024
"""Characters of an exported file: it passes through the memory of this process."""

_TEXT: Final = {"type": "string"}


class _Unfit(ValueError):
    """The call lacks something, or asks for too much; the message is for the model."""


def database_handlers(
    databases: Mapping[str, DatabaseConfig], *, mutations: bool = False
) -> Iterator[DatabaseHandler]:
    """One handler for each kind of database that there is. They write only with `mutations`.

    Raises `MissingDependency` where what they need is not installed.
    """
    require_sql()
    for kind in get_args(Kind):
        chosen = {alias: each for alias, each in databases.items() if each.type == kind}
        if chosen:
            yield DatabaseHandler(kind, chosen, mutations=mutations)


class DatabaseHandler(ToolHandler):
    """Asks databases of one kind. Each call has a connection and a transaction of its own.

    A call that is cancelled, or takes longer than its database's `timeout`, has the server
    end its query, and has closed its connection when it returns. No output has a password,
    unless it is shorter than what can be a secret (see `paddock.redaction.Secrets`).
    """

    def __init__(
        self, kind: Kind, databases: Mapping[str, DatabaseConfig], *, mutations: bool = False
    ) -> None:
        self.name = self._kind = kind
        self._databases = dict(databases)
        self._mutations = mutations
        self._servers: dict[str, Server[Any]] = {
            alias: server_for(config, mutations=mutations) for alias, config in databases.items()
        }
        may = "read and change" if mutations else "read only"
        self.description = (
            f"Ask a {NAMES[kind]} database ({may}). Operations: query (one SQL statement; "
            f"at most {MAX_ROWS} rows are shown), list_tables, describe (one table), export_query "
            "(all rows of a query, as a new CSV file in the sandbox)."
        )
        self.parameters = _parameters(sorted(databases))

    async def handle(self, invocation: ToolInvocation) -> ToolOutput:
        arguments = invocation.arguments
        alias = arguments.get("database") or next(iter(self._databases))
        redactor = self._redactor(alias, invocation)
        try:
            if arguments["operation"] == "export_query":
                return await self._export(alias, invocation, redactor)
            text = await self._answer(alias, arguments, redactor)
        except Exception as error:
            unfit = str(error) if isinstance(error, _Unfit) else None
            told = unfit or told_to_model(error, self._databases[alias])
            if told is None:
                raise
            return failed(truncate_output(redactor.text(told), max_tokens=500))
        return ToolOutput(content=redactor.text(text))

    def _redactor(self, alias: str, invocation: ToolInvocation) -> Redactor:
        """What hides the secrets of the call, and the password of its database."""
        redactor = invocation.context.redactor
        if (password := self._databases[alias].password) is None:
            return redactor
        try:
            return redactor.including({f"{alias.replace('-', '_')}_password": password})
        except ConfigError:  # so short that it is found in innocent text, for one
            return redactor

    async def _answer(self, alias: str, arguments: Mapping[str, Any], redactor: Redactor) -> str:
        schema = arguments.get("schema")
        match arguments["operation"]:
            case "query":
                sql = _needed(arguments, "sql")
                return await self._ask(
                    alias, lambda line: self._run(line, sql, lambda rows: _shown(rows, redactor))
                )
            case "list_tables":
                return await self._look(alias, lambda found: list_tables(found, schema, redactor))
        table = _needed(arguments, "table")
        text = await self._look(alias, lambda found: describe_table(found, table, schema, redactor))
        if text is None:
            raise _Unfit(f"There is no table or view {table}")
        return text

    async def _ask(self, alias: str, work: Callable[[Line], T]) -> T:
        limit = self._databases[alias].timeout
        try:
            return await use_line(self._servers[alias], work, limit=limit)
        except ConnectionError as error:  # of a driver: no trouble with a file of the sandbox
            raise _Unfit(f"{NAMES[self._kind]} says: {error}") from error

    async def _look(self, alias: str, work: Callable[[Connection], T]) -> T:
        def look(line: Line) -> T:
            with line.open() as connection:
                return work(connection)

        return await self._ask(alias, look)

    def _run(self, line: Line, sql: str, use: Callable[[Rows], T]) -> T:
        statement = read_statement(sql, self._kind, mutations=self._mutations)
        with line.open() as connection, line.execute(connection, statement) as rows:
            return use(rows)

    async def _export(
        self, alias: str, invocation: ToolInvocation, redactor: Redactor
    ) -> ToolOutput:
        arguments = invocation.arguments
        sql = _needed(arguments, "sql")
        path = parse_path(arguments.get("export_path") or _needed(arguments, "output_path"))
        shown = show_path(path)
        sandbox = await invocation.context.sandbox()
        if reason := protected_reason(seen_from_inside(sandbox, path)):
            raise _Unfit(f"Cannot write to a protected path: {shown} is {reason}")
        try:
            if await sandbox.fs.exists(path):
                raise FileExistsError
            text, data = await self._ask(
                alias, lambda line: self._run(line, sql, lambda rows: _collected(rows, redactor))
            )
            await sandbox.fs.write_bytes(path, data, exclusive=True)
        except TimeoutError:
            raise
        except OSError as error:
            return refused(error, path)
        note = f"Exported {text.rows} rows to {shown} ({len(data)} bytes)"
        if text.cut:
            note += f"\n[{text.cut} values were too long, and only their beginnings are there]"
        return ToolOutput(content=redactor.text(note))


def _needed(arguments: Mapping[str, Any], name: str) -> str:
    if not (value := arguments.get(name)):
        raise _Unfit(f"The operation {arguments['operation']} needs '{name}'")
    return str(value)


def _shown(rows: Rows, redactor: Redactor) -> str:
    if rows.changed is not None:
        return f"Done ({rows.changed} rows changed)"
    every = itertools.chain.from_iterable(rows.batches)
    # One by one, so that of a long value no more than is shown stays in memory.
    body = [shown_row(row, redactor) for row in itertools.islice(every, MAX_ROWS)]
    if next(every, None) is not None:
        note = f"[Showing the first {MAX_ROWS} rows; there are more]"
    else:
        note = f"({len(body)} row{'' if len(body) == 1 else 's'})"
    return f"{draw_table(shown_row(rows.columns, redactor), body)}\n{note}"


def _collected(rows: Rows, redactor: Redactor) -> tuple[CsvText, bytes]:
    """The rows, and the file."""
    if rows.changed is not None:
        raise _Unfit("The statement gives no rows, and has been undone; export what a query gives")
    text = CsvText(rows.columns, redactor)
    for row in itertools.chain.from_iterable(rows.batches):
        text.add(row)
        if text.size > MAX_EXPORT:
            raise _Unfit(f"More than {MAX_EXPORT} characters; ask for fewer rows or columns")
    return text, text.encode()


def _parameters(aliases: list[str]) -> dict[str, Any]:
    operations = ["query", "list_tables", "describe", "export_query"]
    path = {"type": "string", "description": "For export_query: the CSV file to create."}
    return object_schema(
        required=["operation", "database"] if len(aliases) > 1 else ["operation"],
        operation={"type": "string", "enum": operations},
        database={"type": "string", "enum": aliases, "description": "Which database."},
        sql=_TEXT | {"description": "For query and export_query: one statement."},
        table=_TEXT | {"description": "For describe: the table."},
        schema=_TEXT | {"description": "For list_tables and describe; or the default."},
        export_path=path,
        output_path=path | {"description": "The same as export_path."},
    )

"""The database that agents read: queries and samples, in sessions that cannot write.

It is asked by the same sessions as the tools `sqlite` and `postgres` of an agent ask.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import TYPE_CHECKING, Any, Final

from paddock.errors import ConfigError, ToolError
from paddock.redaction import Redactor
from paddock.runtime.tools.sql.config import SqliteDatabase
from paddock.runtime.tools.sql.line import told_to_model, use_line
from paddock.runtime.tools.sql.privileges import RoleRefused
from paddock.runtime.tools.sql.query import read_query, with_values
from paddock.runtime.tools.sql.servers import require_sql, server_for
from paddock.runtime.tools.sql.statement import Statement, StatementRefused
from paddock.runtime.tools.table import Beginning

if TYPE_CHECKING:
    from collections.abc import Sequence

    from paddock.runtime.tools.sql.config import ServerDatabase
    from paddock.runtime.tools.sql.line import Line, Rows
    from paddock.runtime.tools.sql.query import Parameters

__all__ = ["MAX_RESULT", "TargetDatabase"]

MAX_RESULT: Final = 256 * 1024
"""Characters of one result: it is in the stream and in the history of the agent."""


class TargetDatabase:
    """`key` is where its URL stands, for errors. No error and no result has the URL or password.

    Each call has a connection and a transaction of its own, and has ended both, and the query on
    the server, when it returns. Raises `ToolError` for the agent, and `ConfigError` for a role of
    PostgreSQL that could write.
    """

    def __init__(self, config: SqliteDatabase | ServerDatabase, *, url: str, key: str) -> None:
        require_sql()
        self._config = config
        self._server = server_for(config, mutations=False, refuse_writers=True)
        self._key = key
        self._redactor = Redactor.marking([url, config.password or ""], "***")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._key})"

    async def query(self, sql: str, parameters: Parameters | None, limit: int) -> dict[str, Any]:
        """Return the columns and at most `limit` rows of a query."""
        kind = self._config.type
        try:
            statement = read_query(sql, kind)
            if parameters:
                statement = with_values(statement, parameters, kind)
        except StatementRefused as error:
            raise self._failed(error) from None
        # Whatever was read there, a query is all that a cursor of PostgreSQL takes.
        return await self._rows(dataclasses.replace(statement, streams=True), limit)

    async def sample(
        self, table: Sequence[str], columns: Sequence[str], limit: int
    ) -> dict[str, Any]:
        """Return at most `limit` rows of a table, whose name is in parts: its schema and it."""
        wanted = ", ".join(map(self._quoted, columns)) or "*"
        name = ".".join(map(self._quoted, table))
        sql = f"SELECT {wanted} FROM {name} LIMIT {limit + 1}"
        return await self._rows(Statement(sql=sql, streams=True), limit)

    def _quoted(self, name: str) -> str:
        if not name or "\0" in name:
            raise ToolError("a name of a table or column is empty, or no database takes it")
        # SQLite takes an unknown name in double quotes for a string.
        mark = "`" if self._config.type == "sqlite" else '"'
        return f"{mark}{name.replace(mark, mark * 2)}{mark}"

    async def _rows(self, statement: Statement, limit: int) -> dict[str, Any]:
        config = self._config

        def work(line: Line) -> dict[str, Any]:
            if isinstance(config, SqliteDatabase) and not config.path.exists():
                raise ConfigError(f"data_environment.{self._key}: there is no such file")
            with line.open() as connection, line.execute(connection, statement) as rows:
                return _collected(rows, limit)

        try:
            return await use_line(self._server, work, limit=config.timeout)
        except RoleRefused as error:
            raise ConfigError(f"data_environment.{self._key}: {error}") from None
        except Exception as error:
            raise self._failed(error) from None

    def _failed(self, error: Exception) -> Exception:
        """Return what to raise: a `ToolError` where the query or the database failed."""
        told = told_to_model(error, self._config)
        return error if told is None else ToolError(self._redactor.text(told))


def _collected(rows: Rows, limit: int) -> dict[str, Any]:
    """The result of a query, cut where it has too many rows or where they are too long."""
    every = itertools.chain.from_iterable(rows.batches)
    room = _Room(MAX_RESULT, most=MAX_RESULT // max(len(rows.columns), 1))
    found: list[list[Any]] = []
    for row in itertools.islice(every, limit):
        shown = [room.put(value) for value in row]
        if room.left < 0 and found:
            return _result(rows, found, truncated=True)
        found.append(shown)
    return _result(rows, found, truncated=room.has_cut or next(every, None) is not None)


def _result(rows: Rows, found: list[list[Any]], *, truncated: bool) -> dict[str, Any]:
    return {
        "columns": list(rows.columns),
        "rows": found,
        "row_count": len(found),
        "truncated": truncated,
    }


@dataclasses.dataclass
class _Room:
    """How many characters are `left` of a result; one value has `most`."""

    left: int
    most: int
    has_cut: bool = False

    def put(self, value: Any) -> Any:
        """Return `value` as JSON has it, or as much of it as a value may have."""
        match value:
            case None | bool():
                shown: Any = value
            case float() if math.isfinite(value):
                shown = value
            case int() if abs(value) < 2**53:
                shown = value
            case _:
                shown = self._cut(value)
        self.left -= len(shown) if isinstance(shown, str) else 8
        return shown

    def _cut(self, value: Any) -> str:
        text, size = _text(value)
        if size <= len(text) <= self.most:
            return text
        self.has_cut = True
        return text[: self.most]


def _text(value: Any) -> tuple[str, int]:
    """A value as text, and how many characters it would have if all of it had come."""
    match value:
        case bytes() | bytearray() | memoryview():
            return f"0x{bytes(value).hex()}", 0
        case Beginning(text=bytes(data)):
            return f"0x{data.hex()}", 2 * value.size + 2
        case Beginning():
            return str(value.text), value.size
        case _:
            return str(value), 0

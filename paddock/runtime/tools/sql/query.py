"""A query with parameters: SELECT or WITH and no other statement."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from paddock.runtime.tools.sql.statement import (
    Statement,
    StatementRefused,
    first_word,
    read_statement,
    words_of,
)

if TYPE_CHECKING:
    from sqlglot.tokenizer_core import Token

    from paddock.runtime.tools.sql.policy import Kind

__all__ = ["Parameters", "read_query", "with_values"]

Parameters = Mapping[str, Any] | Sequence[Any]

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def read_query(sql: str, kind: Kind) -> Statement:
    """The one query in `sql`, or `StatementRefused`. It begins with SELECT or WITH."""
    statement = read_statement(sql, kind)
    word = first_word(statement.sql, kind)
    if word not in ("SELECT", "WITH"):
        raise StatementRefused(f"{word[:40]} is not sent: write SELECT or WITH")
    return statement


def with_values(query: Statement, parameters: Parameters, kind: Kind) -> Statement:
    """`query` with values for its parameters, or `StatementRefused`.

    By name they are ``:name`` in its text. In a row they are ``?`` for SQLite, and ``$1``, ``$2``
    for PostgreSQL. A value is text, a number, true, false or null.
    """
    named = isinstance(parameters, Mapping)
    values = dict(parameters) if isinstance(parameters, Mapping) else list(parameters)
    for value in values.values() if isinstance(values, dict) else values:
        if not (value is None or isinstance(value, str | int | float)):
            raise StatementRefused("the value of a parameter is text, a number, a boolean or null")
    if kind == "sqlite" and isinstance(values, list):
        return dataclasses.replace(query, values=tuple(values))
    if isinstance(values, list):
        values = {f"p{number}": value for number, value in enumerate(values, 1)}
    for name in values:
        if not _NAME.fullmatch(name):
            raise StatementRefused(f"a parameter's name has letters, digits and '_': {name!r}")
    if kind == "sqlite":
        return dataclasses.replace(query, values=values)
    sql = _for_psycopg(query.sql, "" if named else "p", ":" if named else "$", values)
    return dataclasses.replace(query, sql=sql, values=values)


def _for_psycopg(sql: str, prefix: str, sign: str, values: Mapping[str, Any]) -> str:
    """The text with its parameters as that driver has them, and its percent signs doubled."""
    parts: list[str] = []
    end = 0
    tokens = words_of(sql, "postgres")
    for before, token in itertools.pairwise(tokens):
        name = f"{prefix}{token.text}"
        if _stands_for_value(sql, before, token, sign) and name in values:
            parts += [sql[end : before.start].replace("%", "%%"), f"%({name})s"]
            end = token.end + 1
    return "".join([*parts, sql[end:].replace("%", "%%")])


def _stands_for_value(sql: str, before: Token, token: Token, sign: str) -> bool:
    raw = sql[before.start : before.end + 1]
    return raw == sign and before.end + 1 == token.start and sql[token.start] not in "'\""

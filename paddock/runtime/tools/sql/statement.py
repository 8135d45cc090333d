"""A statement, read before it is sent: one of them, of a kind that is allowed, and no trap in it.

The text is cut into the words that the database will see. Comments are left out of what
is sent, since databases differ in what they take for one (and MySQL runs some). Every
string has to look the same to the database as it did here. Then the words are parsed,
and the tree may hold only what the mode allows.

This is the second fence. The first is the session of the database, which is opened so
that it can't write. This module connects to nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from paddock.runtime.tools.sql.policy import (
    ENGINES,
    READING_PRAGMAS,
    Kind,
    forbidden_function,
    forbidden_package,
    forbidden_view,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sqlglot.expressions import Expr
    from sqlglot.tokenizer_core import Token

__all__ = [
    "MAX_STATEMENT",
    "Statement",
    "StatementRefused",
    "first_word",
    "read_statement",
    "words_of",
]

MAX_STATEMENT: Final = 50_000
"""Characters: more than people write, and less than takes a second to parse."""

_QUERY_WORDS: Final = frozenset({"SELECT", "WITH", "VALUES", "TABLE", "("})
_CHANGE_WORDS: Final = frozenset(
    {"INSERT", "REPLACE", "UPDATE", "DELETE", "MERGE", "CREATE", "ALTER", "DROP", "TRUNCATE"}
)
_EXPLAINING: Final = frozenset({"EXPLAIN", "DESCRIBE", "DESC"})
_EXPLAIN_WORDS: Final = frozenset({
    "=", "ANALYZE", "EXTENDED", "FORMAT", "JSON", "PARTITIONS", "PLAN", "QUERY", "TRADITIONAL",
    "TREE", "VERBOSE",
})  # fmt: skip
_CHANGED_KINDS: Final = frozenset({"TABLE", "VIEW", "INDEX", "SCHEMA", "SEQUENCE"})

_STANDARD = r"'(?:[^']|'')*'"
_BACKSLASHED = r"'(?:[^'\\]|\\.|'')*'"
_DOUBLE_NAME = r'"(?:[^"]|"")*"'
_BACKTICK_NAME = r"`(?:[^`]|``)*`"
_PLAIN = re.compile(r"[^'\"`$\[\]]*|[\[\]]")
_QUOTED: Final[dict[Kind, re.Pattern[str]]] = {
    "sqlite": re.compile(
        rf"[xX]?{_STANDARD}|{_DOUBLE_NAME}|{_BACKTICK_NAME}|\[[^\]]*\]", re.DOTALL
    ),
    "postgres": re.compile(
        rf"[bBxXnN]?{_STANDARD}|[eE]{_BACKSLASHED}|{_DOUBLE_NAME}"
        r"|(\$(?:[A-Za-z_][A-Za-z_0-9]*)?\$)(?:(?!\1).)*\1",
        re.DOTALL,
    ),
    "mysql": re.compile(
        rf'(?:[xXbBnN]|_[a-z0-9]+)?{_BACKSLASHED}|"(?:[^"\\]|\\.|"")*"|{_BACKTICK_NAME}', re.DOTALL
    ),
    "oracle": re.compile(
        rf"[nN]?{_STANDARD}|{_DOUBLE_NAME}|[A-Za-z_0-9]+(?:[$#][A-Za-z_0-9$#]*)+"
        r"|[nN]?[qQ]'(?:\[.*?\]|\{.*?\}|\(.*?\)|<.*?>|([^\s\[{(<]).*?\1)'",
        re.DOTALL,
    ),
}
"""What a string or a quoted name looks like to the database, in the session that we open."""

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_PARAMETER = re.compile(r"\$[0-9]+")
_UNICODE_ESCAPES = re.compile(r"[uU]&[\"']")


class StatementRefused(ValueError):
    """The statement is not sent; the message says why, for the model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """`sql` is what is sent. A query `streams`; not so what explains or shows. Or it `changes`.

    `calls` has the names in it that may be functions of PostgreSQL, as written and in lower case.
    `values` are those of its parameters, as its driver takes them.
    """

    sql: str
    values: dict[str, Any] | tuple[Any, ...] | None = None
    calls: frozenset[str] = frozenset()
    streams: bool = False
    changes: bool = False


def read_statement(sql: str, kind: Kind, *, mutations: bool = False) -> Statement:
    """The one statement in `sql`, or `StatementRefused`.

    It may read; with `mutations` it may also change rows, tables, views, indexes,
    schemas and sequences. Takes time that grows with its length (well under a second).
    """
    if len(sql) > MAX_STATEMENT:
        raise StatementRefused(f"it is longer than {MAX_STATEMENT} characters")
    if _CONTROL.search(sql):
        raise StatementRefused("it holds a control character")
    first = words_of(sql, kind)[0]
    word, rest = _word(first), sql[first.end + 1 :]
    if word == "PRAGMA" and kind == "sqlite":
        return Statement(sql=_pragma(rest))
    if word == "SHOW" and kind in ("postgres", "mysql"):
        return Statement(sql=_shown(word, rest, kind))
    if word in _EXPLAINING and kind != "oracle":
        return _explained(word, rest, kind)
    if word in _QUERY_WORDS or (mutations and word in _CHANGE_WORDS):
        tokens = _tokens(sql, kind)
        text = _without_comments(sql, tokens)
        changes = _changes(_parsed(text, kind), mutations=mutations)
        return Statement(sql=text, calls=_calls(tokens, kind), streams=not changes, changes=changes)
    if word in _CHANGE_WORDS:
        raise StatementRefused(_read_only(word))
    raise StatementRefused(f"{word[:40]} is not a statement that this tool sends")


def first_word(sql: str, kind: Kind) -> str:
    """The keyword or sign that it begins with, in upper case; empty for a name or a string."""
    return _word(words_of(sql, kind)[0])


def _word(token: Token) -> str:
    """A keyword or sign in upper case; a quoted name or a string is no word."""
    return "" if _is_string(token) or _is(token, "IDENTIFIER") else token.text.upper()


def _is(token: Token, kind: str) -> bool:
    return token.token_type.name == kind


def _is_string(token: Token) -> bool:
    return token.token_type.name.endswith("STRING")


def words_of(sql: str, kind: Kind) -> list[Token]:
    """At least one word. After some first words the scanner takes all the rest for one string."""
    from sqlglot.dialects.dialect import Dialect
    from sqlglot.errors import SqlglotError

    try:
        found = Dialect.get_or_raise(kind).tokenize(sql)
    except SqlglotError:
        raise StatementRefused("it cannot be read: is a quotation mark missing?") from None
    tokens = [token for token in found if not _is(token, "HINT")]
    while tokens and _is(tokens[-1], "SEMICOLON"):
        tokens.pop()
    if not tokens:
        raise StatementRefused("it is empty")
    return tokens


def _tokens(sql: str, kind: Kind) -> list[Token]:
    """The words of the one statement, none of which is what it should not be."""
    tokens = words_of(sql, kind)
    if any(_is(token, "SEMICOLON") for token in tokens):
        raise StatementRefused("it is more than one statement; send one at a time")
    for token, before, after in _between(tokens):
        _check_quoting(sql, token, kind)
        if not _is_string(token):
            _check_name(token, before, after, kind)
    return tokens


def _between(tokens: Sequence[Token]) -> Iterator[tuple[Token, str, str]]:
    """Each word, with those before and after it."""
    texts = ["", *(token.text for token in tokens), ""]
    return zip(tokens, texts, texts[2:], strict=False)


def _called(before: str, after: str, kind: Kind) -> bool:
    """Whether a name that stands there may be that of a function."""
    return after == "(" or (kind == "postgres" and before == ".")  # (x).f calls f(x) there


def _calls(tokens: Sequence[Token], kind: Kind) -> frozenset[str]:
    if kind != "postgres":
        return frozenset()
    names = [
        token.text
        for token, before, after in _between(tokens)
        if _called(before, after, kind) and not _is_string(token)
    ]
    return frozenset(names) | {name.encode().lower().decode() for name in names}


def _check_quoting(sql: str, token: Token, kind: Kind) -> None:
    """That the database sees this string, or this name, as it was seen here."""
    raw = sql[token.start : token.end + 1]
    if not raw:
        raise StatementRefused("it ends where more has to come")
    is_parameter = kind == "postgres" and _PARAMETER.match(sql, token.start)
    if not (is_parameter or _PLAIN.fullmatch(raw) or _QUOTED[kind].fullmatch(raw)):
        raise StatementRefused(f"this cannot be told from other text: {raw[:40]}")
    if kind != "postgres" or raw[0] not in "'\"$":
        return
    before = sql[: token.start]
    if _UNICODE_ESCAPES.fullmatch(before[-2:] + raw[0]):
        raise StatementRefused("names and strings as U&'...' are not sent; write them plainly")
    if raw[0] == "'" and before.rstrip().endswith("'"):
        raise StatementRefused("two strings in a row are not sent; join them with ||")
    if raw[0] == "$" and before and (before[-1].isalnum() or before[-1] in "_$"):
        raise StatementRefused(f"this cannot be told from other text: {raw[:40]}")


def _check_name(token: Token, before: str, after: str, kind: Kind) -> None:
    name = token.text.lower()
    if kind == "oracle" and "@" in name and not _is(token, "IDENTIFIER"):
        raise StatementRefused("what is behind a database link is not for agents")
    if after == "." and forbidden_package(kind, name):
        raise StatementRefused(f"the package {name[:64]} is not for agents")
    if forbidden_view(kind, name):
        raise StatementRefused(f"{name} is not for agents")
    if _called(before, after, kind) and forbidden_function(kind, name):
        raise StatementRefused(f"the function {name[:64]} is not for agents")
    if after == "(" and not name.isascii():
        raise StatementRefused(f"the function {name[:64]} is not for agents")


def _without_comments(sql: str, tokens: Sequence[Token]) -> str:
    """The words, with the white space that was between them; for a comment there is a blank.

    Two minus signs in a row are a comment to some.
    """
    parts: list[str] = []
    end = tokens[0].start
    for token in tokens:
        gap = sql[end : token.start]
        raw = sql[token.start : token.end + 1]
        if gap.strip() or (not gap and raw == "-" and parts[-1:] == ["-"]):
            gap = "\n" if "\n" in gap else " "
        parts += [gap, raw]
        end = token.end + 1
    return "".join(parts)


def _pragma(rest: str) -> str:
    tokens = _tokens(rest, "sqlite")
    words = [token.text for token in tokens]
    if words[1:2] == ["."]:
        words = words[2:]
    name, given = (words[0].lower() if words else ""), words[1:]
    if name not in READING_PRAGMAS:
        raise StatementRefused(f"PRAGMA {name[:40]} is not one that only reads")
    if given and not (READING_PRAGMAS[name] and given[0] == "(" and len(given) == 3):
        raise StatementRefused(f"PRAGMA {name} is not given a value here")
    return f"PRAGMA {_without_comments(rest, tokens)}"


def _shown(word: str, rest: str, kind: Kind) -> str:
    tokens = _tokens(rest, kind)
    if any(token.text == "(" for token in tokens):
        raise StatementRefused(f"{word} takes the name of what is to be shown")
    return f"{word} {_without_comments(rest, tokens)}"


def _explained(word: str, rest: str, kind: Kind) -> Statement:
    """EXPLAIN of a query is as good as the query: some forms run it."""
    tokens = _tokens(rest, kind)
    words = [_word(token) for token in tokens]
    at = 0
    if words[0] == "(" and words[1:2] != ["("] and not _QUERY_WORDS.intersection(words[1:2]):
        at = words.index(")") + 1 if ")" in words else 0
    while at < len(words) and words[at] in _EXPLAIN_WORDS:
        at += 1
    if at < len(words) and words[at] in _QUERY_WORDS:
        _changes(_parsed(rest[tokens[at].start :], kind), mutations=False)
        text = f"{word} {_without_comments(rest, tokens)}"
        return Statement(sql=text, calls=_calls(tokens, kind))
    if word == "EXPLAIN" or _CHANGE_WORDS.intersection(words):
        raise StatementRefused(f"{word} is for queries here")
    return Statement(sql=_shown(word, rest, kind))


def _parsed(sql: str, kind: Kind) -> Expr:
    import sqlglot
    from sqlglot.errors import ParseError, SqlglotError

    try:
        trees = sqlglot.parse(sql, read=kind)
    except ParseError as error:
        where = error.errors[0] if error.errors else {}
        detail = f"{where.get('description', error)}"
        place = f"line {where.get('line', 1)}, column {where.get('col', 1)}"
        raise StatementRefused(f"it cannot be read as one statement: {detail} ({place})") from None
    except (SqlglotError, RecursionError):
        raise StatementRefused("it cannot be read: it is nested too deeply") from None
    if len(trees) != 1 or trees[0] is None:
        raise StatementRefused("it is more than one statement; send one at a time")
    return trees[0]


def _changes(tree: Expr, *, mutations: bool) -> bool:
    """Whether it is a change and no query; nothing in it is what is never allowed."""
    from sqlglot import expressions as exp

    read = (exp.Select, exp.SetOperation, exp.Subquery, exp.Values)
    never = (
        exp.Attach, exp.Command, exp.Copy, exp.Detach, exp.Grant, exp.Into, exp.LoadData,
        exp.Lock, exp.Pragma, exp.Set, exp.UserDefinedFunction,
    )  # fmt: skip
    change = (
        exp.Alter, exp.Create, exp.Delete, exp.Drop, exp.Insert, exp.Merge, exp.TruncateTable,
        exp.Update,
    )  # fmt: skip
    if not isinstance(tree, read + change):
        raise StatementRefused(f"{tree.key.upper()} is not a statement that this tool sends")
    changes = False
    for node in tree.walk():
        if isinstance(node, never):
            raise StatementRefused(f"{node.key.upper()} is not for agents")
        if isinstance(node, change):
            changes = True
            if not mutations:
                raise StatementRefused(_read_only(node.key.upper()))
        if isinstance(node, exp.Create | exp.Drop | exp.Alter):
            _check_kind(node)
        if isinstance(node, exp.EngineProperty) and node.name.lower() not in ENGINES:
            raise StatementRefused(f"the engine {node.name[:64]} is not for agents")
    return changes


def _read_only(word: str) -> str:
    return f"{word} changes the database, which is read only here"


def _check_kind(node: Expr) -> None:
    kind = str(node.args.get("kind") or "").upper()
    if kind not in _CHANGED_KINDS:
        raise StatementRefused(f"{node.key.upper()} {kind or 'of this kind'} is not for agents")

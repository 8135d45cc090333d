"""The `sqlite` tool on real files, and what every database tool has in common."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
import tracemalloc
from typing import TYPE_CHECKING, Any

import pytest

from paddock.errors import MissingDependency
from paddock.redaction import Redactor
from paddock.runtime.core.tool import ToolInvocation
from paddock.runtime.permissions.profile import load_profile
from paddock.runtime.tools.factory import build_registry
from paddock.runtime.tools.sql.config import parse_databases
from paddock.runtime.tools.sql.line import Line
from paddock.runtime.tools.sql.servers import server_for
from paddock.runtime.tools.sql.statement import Statement
from tests.lending import lending
from tests.unit.tools.sqlite_calls import ENDLESS, call, query, registry_of

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.rows("S-43")
def test_there_is_one_tool_for_each_kind_of_database_that_is_configured(file: Path) -> None:
    sqlite = {"type": "sqlite", "path": str(file)}
    server = {"host": "h", "database": "d", "user": "u"}
    databases = parse_databases(
        {
            "a": sqlite,
            "b": sqlite,
            "c": {"type": "postgres", **server},
            "d": {"type": "mysql", **server},
        }
    )
    registry = build_registry("readonly", databases=databases)
    assert {"sqlite", "postgres", "mysql"} <= set(registry)
    assert "oracle" not in registry
    assert "sqlite" not in build_registry("readonly")
    assert "sqlite" not in build_registry("developer-bash-only", databases=databases)
    (schema,) = (
        spec["function"]["parameters"]
        for spec in registry.get_specs()
        if spec["function"]["name"] == "sqlite"
    )
    assert schema["properties"]["database"]["enum"] == ["a", "b"]
    assert schema["required"] == ["operation", "database"]


def test_without_the_extra_the_agent_is_not_made(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingDependency, match=r"pip install 'paddock\[sql\]'"):
        registry_of(file)
    assert "sqlite" not in build_registry("readonly")


@pytest.mark.rows("S-42")
@pytest.mark.parametrize("tool", ["sqlite", "postgres", "mysql", "oracle"])
def test_the_dangerous_mode_asks_before_each_call(tool: str) -> None:
    assert load_profile("readonly").requires_approval(tool, {"operation": "query"})
    assert load_profile("developer").requires_approval(tool, {"sql": "DROP TABLE t"})


@pytest.mark.rows("S-49")
async def test_a_query_is_a_table(file: Path) -> None:
    output = await query(
        registry_of(file), "SELECT id, 'a\nb\x1b' || name AS \"x y\", photo FROM people LIMIT 1"
    )
    assert output.content.startswith("Query blocked: it holds a control character")
    output = await query(
        registry_of(file),
        "SELECT id, char(10) || char(27) || name AS \"x y\", photo, x'00ff' FROM people LIMIT 1",
    )
    assert output.content == (
        "+----+----------+-------+---------+\n"
        "| id | x y      | photo | x'00ff' |\n"
        "+----+----------+-------+---------+\n"
        "| 1  | \\n\\x1bn0 | NULL  | 0x00ff  |\n"
        "+----+----------+-------+---------+\n"
        "(1 row)"
    )


@pytest.mark.rows("S-49")
async def test_a_hundred_rows_are_shown(file: Path) -> None:
    output = await query(registry_of(file), "SELECT id FROM people ORDER BY id")
    assert output.content.endswith("[Showing the first 100 rows; there are more]")
    assert "| 100 |" in output.content
    assert "| 101 |" not in output.content


async def test_of_a_long_value_the_beginning_is_shown(file: Path) -> None:
    wide = ", ".join(f"printf('%0500d', {number})" for number in range(50))
    output = await query(registry_of(file), f"SELECT {wide} FROM people")
    assert output.success
    assert "0... (500 characters) |" in output.content
    assert len(output.content) < 105 * 50 * 225


SECRET = "correct-horse-battery-staple"


@pytest.mark.parametrize("place", [180, 190, 199])
@pytest.mark.parametrize("form", ["{}", "{} AS BLOB"])
async def test_no_part_of_a_secret_is_left_where_a_value_was_cut(
    file: Path, place: int, form: str
) -> None:
    padded = f"'{'-' * (place if form == '{}' else place - 170)}{SECRET}{'+' * 50}'"
    value = padded if form == "{}" else f"CAST({form.format(padded)})"
    context = lending(redactor=Redactor({"KEY": SECRET}))
    arguments = {"operation": "query", "sql": f"SELECT {value} AS a"}
    output = await registry_of(file).dispatch(
        ToolInvocation(call_id="1", tool_name="sqlite", arguments=arguments, context=context)
    )
    assert output.success
    assert SECRET[:3] not in output.content
    assert SECRET[:3].encode().hex() not in output.content


@pytest.mark.rows("S-49")
async def test_tables_are_listed_and_described(file: Path) -> None:
    listed = await call(registry_of(file), operation="list_tables")
    assert listed.content == (
        "+--------+-------+\n"
        "| name   | type  |\n"
        "+--------+-------+\n"
        "| names  | view  |\n"
        "| people | table |\n"
        "| pets   | table |\n"
        "+--------+-------+\n"
        "(3 tables and views)"
    )
    described = await call(registry_of(file), operation="describe", table="pets")
    assert "| name   | TEXT    | yes      | 'Rex'   |" in described.content
    assert described.content.endswith(
        "Foreign key: (owner) -> people (id)\nIndex: by_name (name) unique"
    )


@pytest.mark.rows("S-49")
@pytest.mark.parametrize(
    ("sql", "shown"),
    [
        ("SELECT value AS v FROM json_each('[\"rope\"]')", "rope"),
        ("SELECT x FROM words WHERE words MATCH 'bell'", "a bell"),
        ("SELECT highlight(words, 0, '<', '>') AS h FROM words WHERE words MATCH 'bell'", "<bell>"),
        ("SELECT user_version AS v FROM pragma_user_version", "| 0 |"),
    ],
)
async def test_virtual_tables_are_read(file: Path, sql: str, shown: str) -> None:
    with contextlib.closing(sqlite3.connect(file)) as connection, connection:
        connection.executescript(
            "CREATE VIRTUAL TABLE words USING fts5 (x); INSERT INTO words VALUES ('a bell');"
        )
    assert shown in (await query(registry_of(file), sql)).content


WRITES = [
    "INSERT INTO people (name) VALUES ('x')",
    "DELETE FROM people",
    "DROP TABLE people",
    "CREATE TABLE made (a)",
    "CREATE TEMP TABLE made (a)",
    "PRAGMA user_version = 7",
    "PRAGMA query_only = OFF",
    "PRAGMA writable_schema = ON",
    "ATTACH ':memory:' AS other",
    "VACUUM",
    "REINDEX",
    "SELECT load_extension('x')",
    "SELECT 'a' REGEXP '(a+)+$'",
    "SELECT writefile('x', 'y')",
    "SELECT readfile('/etc/passwd')",
    "SELECT fts3_tokenizer('simple')",
    "BEGIN IMMEDIATE",
]


@pytest.mark.rows("S-49")
@pytest.mark.parametrize("sql", WRITES)
def test_the_session_alone_lets_nothing_be_written(file: Path, sql: str) -> None:
    """The second fence is left out: what is sent here was not read before."""
    before = file.read_bytes()
    (config,) = parse_databases({"main": {"type": "sqlite", "path": str(file)}}).values()
    line = Line(server_for(config, mutations=False), timeout=5)
    with (
        pytest.raises(Exception, match=r"not authorized|authorization denied|no such function"),
        line.open() as connection,
        line.execute(connection, Statement(sql=sql)) as rows,
    ):
        list(rows.batches)
    assert file.read_bytes() == before


@pytest.mark.rows("S-49")
@pytest.mark.parametrize("sql", WRITES)
def test_the_tool_lets_nothing_be_written(file: Path, sql: str) -> None:
    before = file.read_bytes()
    assert not asyncio.run(query(registry_of(file), sql)).success
    assert file.read_bytes() == before


@pytest.mark.rows("S-49")
async def test_a_profile_that_may_change_databases_changes_them_and_no_more(file: Path) -> None:
    registry = registry_of(file, "unrestricted")
    for sql, said in [
        ("UPDATE people SET name = 'x' WHERE id < 4", "Done (3 rows changed)"),
        ("CREATE TABLE made (a INTEGER)", "Done (0 rows changed)"),
        ("INSERT INTO made VALUES (1), (2)", "Done (2 rows changed)"),
        ("DROP VIEW names", "Done (0 rows changed)"),
    ]:
        assert (await query(registry, sql)).content == said
    counted = await query(registry, "SELECT count(*) FROM made")
    assert "| 2        |" in counted.content
    for sql in ["ATTACH 'other.db' AS o", "PRAGMA writable_schema = ON", "VACUUM INTO 'copy.db'"]:
        assert (await query(registry, sql)).content.startswith("Query blocked: ")


async def test_an_error_of_the_database_is_told_in_a_line(file: Path) -> None:
    output = await query(registry_of(file), "SELECT * FROM absent")
    assert not output.success
    assert output.content == "SQLite says: no such table: absent"


def test_a_file_that_went_away_is_told_and_not_made_again(file: Path) -> None:
    registry = registry_of(file, "unrestricted")
    file.unlink()
    output = asyncio.run(query(registry, "CREATE TABLE t (a INTEGER)"))
    assert output.content == "SQLite says: unable to open database file"
    assert not file.exists()


def _workers() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name == "paddock-tool"}


async def _ended(workers: set[threading.Thread]) -> bool:
    """A thread that has told its result ends at once, though not at the same moment."""
    for worker in workers:
        await asyncio.to_thread(worker.join, 5)
    return not any(worker.is_alive() for worker in workers)


async def test_a_query_that_takes_too_long_is_stopped(file: Path) -> None:
    before = _workers()
    output = await query(registry_of(file, timeout=0.2), ENDLESS)
    assert output.content == "Stopped after 0.2 s: it took too long"
    assert await _ended(_workers() - before)


LONG = "(SELECT hex(zeroblob(30000)) AS a, hex(zeroblob(15000)) || 'b' AS b)"


@pytest.mark.parametrize("sql", [
    f"SELECT count(instr(a, b)) FROM {LONG}, t",
    f"SELECT count(replace(a, b, 'c')) FROM {LONG}, t",
    f"SELECT count(trim(a, replace(a, '0', 'c') || '0')) FROM {LONG}, t",
])  # fmt: skip
async def test_a_slow_function_is_stopped_too(file: Path, sql: str) -> None:
    endless = "WITH RECURSIVE t(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM t) "
    before = _workers()
    output = await query(registry_of(file, timeout=0.2), endless + sql)
    assert output.content == "Stopped after 0.2 s: it took too long"
    assert await _ended(_workers() - before)


async def test_what_could_not_be_stopped_is_not_begun(file: Path) -> None:
    output = await query(registry_of(file), "SELECT instr(zeroblob(9000000), zeroblob(4000000))")
    assert output.content == "SQLite says: string or blob too big"
    many = " + ".join(["instr('a', 'b')"] * 33)
    output = await query(registry_of(file), f"SELECT {many}")
    assert "not authorized" in output.content


@pytest.mark.parametrize(("sql", "shown"), [
    ("trim('xxaxx', 'xy')", "a"), ("ltrim('xaxx', 'x')", "axx"), ("rtrim(101, 1)", "10"),
    ("trim(' a ')", "a"), ("trim(NULL, 'x')", "NULL"),
])  # fmt: skip
async def test_trimming_gives_what_sqlite_gives(file: Path, sql: str, shown: str) -> None:
    output = await query(registry_of(file), f"SELECT {sql} AS a")
    assert f"| {shown} " in output.content


async def test_many_long_values_are_not_all_in_memory(file: Path) -> None:
    registry = registry_of(file)
    assert (await query(registry, "SELECT 1")).success  # what is imported is in memory now
    tracemalloc.start()
    try:
        output = await query(registry, "SELECT zeroblob(130000) FROM people")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert output.success
    assert peak < 8 * 1024 * 1024


async def test_a_cancelled_call_has_ended_its_query(file: Path) -> None:
    registry, before = registry_of(file), _workers()
    running = asyncio.create_task(query(registry, ENDLESS))
    async with asyncio.timeout(60):
        while not (workers := _workers() - before):
            await asyncio.to_thread(threading.Event().wait, 0.01)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert await _ended(workers)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"operation": "query"}, "The operation query needs 'sql'"),
        ({"operation": "describe"}, "The operation describe needs 'table'"),
        ({"operation": "export_query", "sql": "SELECT 1"}, "needs 'output_path'"),
        ({"operation": "drop"}, "must be one of query, list_tables, describe, export_query"),
        ({"operation": "query", "sql": "SELECT 1", "database": "no"}, "must be one of main"),
    ],
)
async def test_a_call_that_lacks_something_is_told_what(
    file: Path, arguments: dict[str, Any], said: str
) -> None:
    output = await call(registry_of(file), **arguments)
    assert not output.success
    assert said in output.content

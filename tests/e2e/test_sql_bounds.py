"""Rows that are larger than the memory one would give to them, on real servers."""

from __future__ import annotations

import tracemalloc
from typing import TYPE_CHECKING

import pytest

from paddock.backends.local import LocalBackend
from tests.e2e.sql_served import call, mariadb, postgresql, query
from tests.lending import lending

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import Require
    from tests.e2e.sql_served import MariaDB, PostgreSQL

LONG = 40_000_000


@pytest.fixture(scope="module")
def postgres(require: Require) -> Iterator[PostgreSQL]:
    with postgresql(require) as server:
        yield server


@pytest.fixture(scope="module")
def maria(require: Require) -> Iterator[MariaDB]:
    with mariadb(require) as server:
        yield server


@pytest.mark.rows("S-49")
async def test_of_a_very_long_value_of_postgres_no_more_than_a_beginning_comes(
    postgres: PostgreSQL,
) -> None:
    handler = postgres.handler()
    assert (await query(handler, "SELECT 'imported' AS now")).success
    tracemalloc.start()
    try:
        output = await query(
            handler, f"SELECT repeat('x', {LONG}) AS a, repeat('y', {LONG})::bytea AS b, 1 AS c"
        )
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert f"xx... ({LONG} characters) | 0x7979" in output.content
    assert f"79... ({LONG} bytes) | 1 |" in output.content
    assert peak < LONG / 2


async def test_a_query_of_postgres_that_is_cut_keeps_its_names_its_order_and_its_values(
    postgres: PostgreSQL,
) -> None:
    rows = "SELECT n, md5(n::text) AS n FROM generate_series(1, 90) AS n ORDER BY md5(n::text) DESC"
    output = await query(postgres.handler(), rows)
    lines = [line.strip("| ").split(" | ") for line in output.content.splitlines()]
    assert [cell.strip() for cell in lines[1]] == ["n", "n"]
    wanted = [[str(number), text] for number, text in postgres.admin(rows)]
    assert [[cell.strip() for cell in line] for line in lines[3:-2]] == wanted


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("NULL::text", "NULL"),
        ("''", ""),
        ("'{\"a\": [1]}'::jsonb", '{"a": [1]}'),
        ("ARRAY[1, 2]", "{1,2}"),
        ("ROW(1, 'a')", "(1,a)"),
        ("'\\x00ff'::bytea", "0x00ff"),
        ("pg_sleep(0)", ""),
        ("1.50::numeric", "1.50"),
        ("'127.0.0.1'::inet", "127.0.0.1"),
        ("int4range(1, 3)", "[1,3)"),
        ("'100% -- of it'", "100% -- of it"),
    ],
)
async def test_values_of_postgres_of_any_type_come_as_text(
    postgres: PostgreSQL, value: str, shown: str
) -> None:
    output = await query(postgres.handler(), f"SELECT {value} AS a")
    assert output.content.splitlines()[3] == f"| {shown.ljust(max(len(shown), 1))} |"


async def test_an_export_says_what_was_too_long_for_it(
    postgres: PostgreSQL, tmp_path: Path
) -> None:
    sql = f"SELECT n, repeat('x', {LONG} * (n % 2)) AS a FROM generate_series(1, 3) AS n"
    async with LocalBackend(isolation="none", working_dir=str(tmp_path)).sandbox() as sandbox:
        output = await call(
            postgres.handler(),
            lending(sandbox),
            operation="export_query",
            sql=sql,
            export_path="x.csv",
        )
        data = await sandbox.fs.read_bytes("x.csv")
    first, note = output.content.splitlines()
    assert first == f"Exported 3 rows to x.csv ({len(data)} bytes)"
    assert note == "[2 values were too long, and only their beginnings are there]"
    assert [len(line) for line in data.split(b"\r\n")] == [3, 2 + 2**21, 2, 2 + 2**21, 0]


async def test_a_query_of_postgres_may_have_as_many_columns_as_there_can_be(
    postgres: PostgreSQL,
) -> None:
    output = await query(postgres.handler(), f"SELECT {', '.join(['NULL::text'] * 1600)}")
    assert output.success
    assert output.content.count("NULL") == 1600


@pytest.mark.rows("S-49")
async def test_a_row_of_mysql_that_is_too_long_is_told_and_not_read(maria: MariaDB) -> None:
    maria.admin("SET GLOBAL max_allowed_packet = 268435456")
    handler = maria.handler()
    assert (await query(handler, "SELECT 'imported' AS now")).success
    tracemalloc.start()
    try:
        output = await query(handler, f"SELECT repeat('x', {LONG}) AS a")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert not output.success
    assert "a row has 16777215 bytes or more; ask for a part of it" in output.content
    assert peak < LONG / 2
    output = await query(handler, f"SELECT left(repeat('x', {LONG}), 1000) AS a")
    assert "x... (1000 characters) |" in output.content

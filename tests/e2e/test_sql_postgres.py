"""The `postgres` tool and a real PostgreSQL server: what other servers do not have."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING

import pytest

from paddock.backends.local import LocalBackend
from tests.e2e.sql_served import PASSWORD, call, postgresql, query
from tests.lending import lending

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from paddock.runtime.core.context import RunContext
    from tests.conftest import Require
    from tests.e2e.sql_served import PostgreSQL

SECRET = "what only the server's user may read"


@pytest.fixture(scope="module")
def server(require: Require) -> Iterator[PostgreSQL]:
    with postgresql(require) as server:
        yield server


@pytest.fixture
async def context(tmp_path: Path) -> AsyncIterator[RunContext[None]]:
    async with LocalBackend(isolation="none", working_dir=str(tmp_path)).sandbox() as sandbox:
        yield lending(sandbox)


@pytest.mark.parametrize(
    "sql", ["SHOW search_path", "EXPLAIN ANALYZE SELECT 1", "VALUES (1, 'INSERT')", "TABLE paid"]
)
async def test_what_only_tells_is_allowed(server: PostgreSQL, sql: str) -> None:
    assert (await query(server.handler(), sql)).success


@pytest.mark.rows("S-49")
async def test_tables_views_and_schemas_are_listed(server: PostgreSQL) -> None:
    listed = (await call(server.handler(), operation="list_tables")).content
    assert "| orders    | table |" in listed
    assert "| paid      | view  |" in listed
    assert listed.endswith("Other schemas: archive")
    other = await call(server.handler(), operation="list_tables", schema="archive")
    assert "| old  | table |" in other.content


@pytest.mark.rows("S-49")
async def test_a_table_is_described_with_its_keys(server: PostgreSQL) -> None:
    output = await call(server.handler(), operation="describe", table="orders")
    assert "| price    | NUMERIC(8, 2) | yes      |" in output.content
    assert "Foreign key: (customer) -> customers (id)" in output.content
    missing = await call(server.handler(), operation="describe", table="nothing")
    assert not missing.success
    assert missing.content == "There is no table or view nothing"


async def test_an_error_of_the_server_is_told_and_names_no_password(server: PostgreSQL) -> None:
    output = await query(server.handler(), f'SELECT * FROM "{PASSWORD}"')
    assert not output.success
    said = 'PostgreSQL says: relation "[secret main_password]" does not exist'
    assert output.content.startswith(said)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT pg_read_file('{file}')",
        "SELECT pg_catalog.pg_read_file('{file}')",
        "SELECT \"pg_read_file\" ( '{file}' )",
        "SELECT U&\"pg\\005fread_file\"('{file}')",
        "SELECT /* /* */ ' */ pg_read_file('{file}') -- '",
        "SELECT a$$ , pg_read_file('{file}') , $$ FROM (SELECT 1 AS a$$) x",
        "SELECT E'a'\n'b\\' , pg_read_file(''{file}'') -- '",
        "SELECT query_to_xml('SELECT pg_read_file(''{file}'')', true, true, '')",
        "COPY (SELECT 1) TO PROGRAM 'cat {file}'",
        "COPY (SELECT 1) TO '{file}.copy'",
        "SELECT lo_export(lo_import('{file}'), '{file}.copy')",
    ],
)
async def test_not_even_a_superuser_reads_or_writes_files_of_the_server(
    server: PostgreSQL, sql: str
) -> None:
    secret = server.home / "secret"
    secret.write_text(SECRET)
    secret.chmod(0o644)
    output = await query(server.handler(database="postgres"), sql.replace("{file}", str(secret)))
    assert SECRET not in output.content
    assert "secret.copy" not in os.listdir(server.home)


@pytest.mark.rows("S-49")
async def test_a_change_may_give_rows_and_no_change_runs_a_program(server: PostgreSQL) -> None:
    tool = server.handler(mutations=True)
    await query(tool, "INSERT INTO customers VALUES (900, 'a'), (901, 'b')")
    returned = await query(tool, "DELETE FROM customers WHERE id >= 900 RETURNING id")
    assert "| 900 |" in returned.content
    assert server.admin("SELECT count(*) FROM customers WHERE id >= 900") == [(0,)]
    blocked = await query(tool, "COPY customers TO PROGRAM 'cat'")
    assert blocked.content.startswith("Query blocked: ")


async def test_a_server_that_stops_answering_holds_no_call(server: PostgreSQL) -> None:
    """Its process is stopped in the middle of a query: no timeout of its own can help."""
    running = asyncio.create_task(query(server.handler(timeout=3), server.endless))
    [backend] = await server.until(1)
    os.kill(backend, signal.SIGSTOP)
    try:
        async with asyncio.timeout(60):
            output = await running
    finally:
        os.kill(backend, signal.SIGCONT)
    assert output.content == "Stopped after 3 s: it took too long"
    await server.until(0)


@pytest.mark.rows("S-49")
@pytest.mark.parametrize("parameter", ["export_path", "output_path"])
async def test_a_query_is_exported_to_the_sandbox(
    server: PostgreSQL, context: RunContext[None], parameter: str
) -> None:
    sql = "SELECT id, name FROM customers ORDER BY id"
    output = await call(
        server.handler(), context, operation="export_query", sql=sql, **{parameter: "out/c.csv"}
    )
    assert output.success, output.content
    data = await (await context.sandbox()).fs.read_text("out/c.csv")
    lines = data.splitlines()
    assert lines[:2] == ["id,name", "1,customer 1"]
    assert len(lines) == 251
    assert output.content == f"Exported 250 rows to out/c.csv ({len(data.encode())} bytes)"

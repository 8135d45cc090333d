"""What the tools for databases do the same with every real server."""

from __future__ import annotations

import asyncio
import re
import socket
from typing import TYPE_CHECKING

import pytest

from paddock.runtime.tools.sql.config import parse_databases
from paddock.runtime.tools.sql.line import Line
from paddock.runtime.tools.sql.servers import server_for
from paddock.runtime.tools.sql.statement import Statement
from tests.e2e.sql_served import PASSWORD, call, handler, mariadb, postgresql, query

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Require
    from tests.e2e.sql_served import DatabaseServer, MariaDB, PostgreSQL

WRITES = {
    "maria": [
        "INSERT INTO customers VALUES (1000, 'x')",
        "DELETE FROM customers",
        "DROP TABLE customers",
        "CREATE TABLE made (a int)",
        "SELECT 1; DELETE FROM customers",
        "TRUNCATE customers",
        "SET GLOBAL read_only = 1; DELETE FROM customers",
    ],
    "postgres": [
        "INSERT INTO customers VALUES (1000, 'x')",
        "WITH x AS (DELETE FROM orders RETURNING *) SELECT * FROM x",
        "SELECT * INTO copied FROM customers",
        "CREATE TABLE made (a int)",
        "DROP TABLE orders",
        "SELECT nextval('orders_id_seq')",
        "SELECT setval('orders_id_seq', 100)",
        "SELECT * FROM customers FOR UPDATE",
        "SET TRANSACTION READ WRITE",
        "SELECT set_config('transaction_read_only', 'off', true)",
        "SELECT query_to_xml('DELETE FROM orders', true, true, '')",
        "DO $$ BEGIN SET TRANSACTION READ WRITE; DELETE FROM orders; END $$",
        "DO $$ BEGIN COMMIT; DELETE FROM orders; END $$",
        "EXPLAIN ANALYZE DELETE FROM orders",
        "SELECT 1; DELETE FROM orders",
        "COMMIT; DELETE FROM orders",
        "TRUNCATE orders",
        "COPY orders FROM PROGRAM 'echo 9'",
        "VACUUM orders",
    ],
}
every_write = pytest.mark.parametrize(
    ("server", "sql"),
    [(name, sql) for name, writes in WRITES.items() for sql in writes],
    indirect=["server"],
)


@pytest.fixture(scope="module")
def maria(require: Require) -> Iterator[MariaDB]:
    with mariadb(require) as server:
        yield server


@pytest.fixture(scope="module")
def postgres(require: Require) -> Iterator[PostgreSQL]:
    with postgresql(require) as server:
        yield server


@pytest.fixture(params=list(WRITES))
def server(request: pytest.FixtureRequest) -> DatabaseServer:
    found: DatabaseServer = request.getfixturevalue(request.param)
    return found


@pytest.mark.rows("S-49")
async def test_a_query_is_a_table(server: DatabaseServer) -> None:
    output = await query(
        server.handler(), "SELECT id, name, NULL AS no FROM customers WHERE name LIKE '%er 1' -- x"
    )
    assert output.content == (
        "+----+------------+------+\n"
        "| id | name       | no   |\n"
        "+----+------------+------+\n"
        "| 1  | customer 1 | NULL |\n"
        "+----+------------+------+\n"
        "(1 row)"
    )


@pytest.mark.rows("S-49")
async def test_a_hundred_rows_are_shown_and_the_rest_is_neither_sent_nor_held(
    server: DatabaseServer,
) -> None:
    output = await query(server.handler(), server.many_rows)
    assert output.content.endswith("[Showing the first 100 rows; there are more]")
    assert output.content.count("\n| ") == 1 + 100  # with the names of the columns


@pytest.mark.rows("S-49")
async def test_tables_and_views_are_listed_and_described(server: DatabaseServer) -> None:
    listed = await call(server.handler(), operation="list_tables")
    assert "| customers | table |" in listed.content
    assert "| paid      | view  |" in listed.content
    described = await call(server.handler(), operation="describe", table="customers")
    assert "| name   | VARCHAR(40) | no       |" in described.content


@pytest.mark.rows("S-49")
@every_write
def test_the_session_alone_lets_nothing_be_written(server: DatabaseServer, sql: str) -> None:
    """The second fence is left out: what is sent here was not read before."""
    before = server.state()
    (config,) = parse_databases({"main": server.settings()}, environment={}).values()
    line = Line(server_for(config, mutations=False), timeout=10)
    with (
        pytest.raises(Exception, match=server.refusal),
        line.open() as connection,
        line.execute(connection, Statement(sql=sql)) as rows,
    ):
        list(rows.batches)
    assert server.state() == before


@pytest.mark.rows("S-49")
@every_write
async def test_the_tool_lets_nothing_be_written(server: DatabaseServer, sql: str) -> None:
    before = server.state()
    output = await query(server.handler(), sql)
    assert not output.success
    assert server.state() == before


@pytest.mark.rows("S-49")
async def test_a_profile_that_may_change_databases_changes_them(server: DatabaseServer) -> None:
    tool = server.handler(mutations=True)
    inserted = await query(tool, "INSERT INTO customers VALUES (900, 'a'), (901, 'b')")
    assert inserted.content == "Done (2 rows changed)"
    counted = await query(tool, "SELECT count(*) AS customers FROM customers")
    assert "| 252 " in counted.content
    assert (await query(tool, "DELETE FROM customers WHERE id >= 900")).success
    counted = await query(tool, "SELECT count(*) AS customers FROM customers")
    assert "| 250 " in counted.content


async def test_a_cancelled_call_has_ended_its_query_on_the_server(server: DatabaseServer) -> None:
    running = asyncio.create_task(query(server.handler(), server.endless))
    await server.until(1)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await server.ended()


async def test_a_call_that_takes_too_long_is_ended_by_the_server(server: DatabaseServer) -> None:
    output = await query(server.handler(timeout=0.5), server.endless)
    assert not output.success
    assert re.search(server.overdue, output.content)
    await server.ended()


@pytest.mark.parametrize(
    ("kind", "where"),
    [("mysql", "database"), ("postgres", "database"), ("oracle", "service_name")],
)
async def test_a_server_that_is_not_there_is_told(kind: str, where: str) -> None:
    """The real driver and a port that refuses."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        given = {
            "type": kind, "host": "127.0.0.1", "port": taken.getsockname()[1], where: "x",
            "user": "agent", "password": PASSWORD,
        }  # fmt: skip
        output = await query(handler(given), "SELECT 1 FROM dual")
    assert not output.success
    assert "refused" in output.content
    assert PASSWORD not in output.content

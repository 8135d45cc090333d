"""The `postgres` tool and a real PostgreSQL server, which the tests start for themselves."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from paddock.backends.local import LocalBackend
from paddock.runtime.tools.base import ToolInvocation, ToolOutput
from paddock.runtime.tools.sql.config import parse_databases
from paddock.runtime.tools.sql.handler import DatabaseHandler, database_handlers
from paddock.runtime.tools.sql.line import Line
from paddock.runtime.tools.sql.servers import server_for
from paddock.runtime.tools.sql.statement import Statement

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from paddock.sandbox import Sandbox

PASSWORD = "s3cret-of-agent"
STARTING = 50.0
"""Seconds for a server to start, on a machine that is busy."""

SECRET = "what only the server's user may read"


def _program(name: str) -> Path | None:
    """Debian keeps the server's programs out of the way."""
    found = shutil.which(name)
    if found is not None:
        return Path(found)
    return max(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), default=None)


def _plain_user() -> dict[str, Any]:
    """PostgreSQL does not run as root."""
    if os.getuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


class Cluster:
    """A server that listens on a Unix socket below `home`. `admin` is its superuser."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.dsn = f"host={home} user=admin dbname=postgres"

    def admin(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            cursor = connection.execute(sql.encode(), values or None)
            return cursor.fetchall() if cursor.description else []

    def settings(self, **changes: Any) -> dict[str, Any]:
        """What a person writes for it."""
        return {
            "type": "postgres", "host": str(self.home), "database": "postgres",
            "user": "admin", "password": PASSWORD, "timeout": 20, **changes,
        }  # fmt: skip

    def at_work(self) -> list[int]:
        """The server's processes that are at work for the tool."""
        found = self.admin(
            "SELECT pid FROM pg_stat_activity WHERE state = 'active' AND application_name = %s"
            " AND pid <> pg_backend_pid()",
            "paddock",
        )
        return [pid for (pid,) in found]

    async def until(self, processes: int) -> list[int]:
        """Wait until that many of them are."""
        async with asyncio.timeout(STARTING):
            while len(found := await asyncio.to_thread(self.at_work)) != processes:
                await asyncio.to_thread(self.admin, "SELECT pg_sleep(0.02)")
        return found


@pytest.fixture(scope="module")
def cluster(require: Callable[[str, object, str], None]) -> Iterator[Cluster]:
    initdb, server = _program("initdb"), _program("postgres")
    require("postgres", initdb and server, "there is no initdb; install postgresql")
    assert server is not None
    with tempfile.TemporaryDirectory(prefix="pg", dir="/tmp") as folder:
        home = Path(folder)
        home.chmod(0o755)
        user = _plain_user()
        if user:
            os.chown(home, user["user"], user["group"])
        options: dict[str, Any] = {"cwd": home, **user}
        subprocess.run(
            [str(initdb), "-D", "data", "-U", "admin", "--auth=trust", "--no-sync", "-E", "UTF8"],
            check=True, capture_output=True, timeout=STARTING, **options,
        )  # fmt: skip
        with subprocess.Popen(
            [str(server), "-D", "data", "-k", folder, "-F", "-c", "listen_addresses="],
            stderr=subprocess.PIPE, text=True, **options,
        ) as process:  # fmt: skip
            try:
                assert process.stderr is not None
                said = []
                for line in process.stderr:
                    said.append(line)
                    if "ready to accept connections" in line:
                        break
                assert process.poll() is None, "".join(said)
                yield _filled(Cluster(home))
            finally:
                process.send_signal(signal.SIGINT)
                process.communicate(timeout=STARTING)


def _filled(cluster: Cluster) -> Cluster:
    for sql in (
        "CREATE TABLE customers (id int PRIMARY KEY, name text NOT NULL)",
        "CREATE TABLE orders (id serial PRIMARY KEY, customer int REFERENCES customers,"
        " price numeric(8,2), paid boolean, note text)",
        "CREATE VIEW paid AS SELECT * FROM orders WHERE paid",
        "CREATE SCHEMA archive",
        "CREATE TABLE archive.old (at timestamptz)",
        "INSERT INTO customers SELECT n, 'customer ' || n FROM generate_series(1, 250) n",
        "INSERT INTO orders (customer, price, paid) SELECT 1, 9.50, true",
    ):
        cluster.admin(sql)
    return cluster


class Context:
    def __init__(self, live: Sandbox) -> None:
        self._live = live

    async def sandbox(self) -> Sandbox:
        return self._live


@pytest.fixture
async def context(tmp_path: Path) -> AsyncIterator[Context]:
    async with LocalBackend(isolation="none", working_dir=str(tmp_path)).sandbox() as sandbox:
        yield Context(sandbox)


def _handler(cluster: Cluster, *, mutations: bool = False, **changes: Any) -> DatabaseHandler:
    databases = parse_databases({"main": cluster.settings(**changes)}, environment={})
    (handler,) = database_handlers(databases, mutations=mutations)
    return handler


async def _call(handler: DatabaseHandler, context: Any = None, **arguments: Any) -> ToolOutput:
    return await handler.handle(
        ToolInvocation(call_id="1", tool_name=handler.name, arguments=arguments, context=context)
    )


async def _query(handler: DatabaseHandler, sql: str) -> ToolOutput:
    return await _call(handler, operation="query", sql=sql)


@pytest.mark.rows("S-49")
async def test_a_query_is_a_table(cluster: Cluster) -> None:
    output = await _query(
        _handler(cluster), "SELECT id, name, NULL AS no FROM customers WHERE name LIKE '%er 1' -- x"
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
async def test_a_hundred_rows_are_shown_and_no_more_are_held(cluster: Cluster) -> None:
    output = await _query(_handler(cluster), "SELECT generate_series(1, 50000000) AS n")
    assert output.content.endswith("[Showing the first 100 rows; there are more]")
    assert "| 100 " in output.content
    assert "| 101 " not in output.content


@pytest.mark.parametrize(
    "sql", ["SHOW search_path", "EXPLAIN ANALYZE SELECT 1", "VALUES (1, 'INSERT')", "TABLE paid"]
)
async def test_what_only_tells_is_allowed(cluster: Cluster, sql: str) -> None:
    assert (await _query(_handler(cluster), sql)).success


@pytest.mark.rows("S-49")
async def test_tables_views_and_schemas_are_listed(cluster: Cluster) -> None:
    listed = (await _call(_handler(cluster), operation="list_tables")).content
    assert "| orders    | table |" in listed
    assert "| paid      | view  |" in listed
    assert listed.endswith("Other schemas: archive")
    other = await _call(_handler(cluster), operation="list_tables", schema="archive")
    assert "| old  | table |" in other.content


@pytest.mark.rows("S-49")
async def test_a_table_is_described_with_its_keys(cluster: Cluster) -> None:
    output = await _call(_handler(cluster), operation="describe", table="orders")
    assert "| price    | NUMERIC(8, 2) | yes      |" in output.content
    assert "Foreign key: (customer) -> customers (id)" in output.content
    missing = await _call(_handler(cluster), operation="describe", table="nothing")
    assert not missing.success
    assert missing.content == "There is no table or view nothing"


async def test_an_error_of_the_server_is_told_and_names_no_password(cluster: Cluster) -> None:
    output = await _query(_handler(cluster), f'SELECT * FROM "{PASSWORD}"')
    assert not output.success
    said = 'PostgreSQL says: relation "[secret main_password]" does not exist'
    assert output.content.startswith(said)


WRITES = [
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
]


@pytest.mark.rows("S-49")
@pytest.mark.parametrize("sql", WRITES)
def test_the_session_alone_lets_nothing_be_written(cluster: Cluster, sql: str) -> None:
    """The second fence is left out: what is sent here was not read before."""
    before = _state(cluster)
    (config,) = parse_databases({"main": cluster.settings()}, environment={}).values()
    line = Line(server_for(config, mutations=False), timeout=10)
    with (
        pytest.raises(
            Exception,
            match=r"(?i)read[- ]only|read-write|multiple commands|terminat|"
            r"transaction block|can only be executed|not allowed",
        ),
        line.open() as connection,
        line.execute(connection, Statement(sql=sql)) as rows,
    ):
        list(rows.batches)
    assert _state(cluster) == before


def _state(cluster: Cluster) -> object:
    return cluster.admin(
        "SELECT (SELECT count(*) FROM customers), (SELECT count(*) FROM orders),"
        " (SELECT last_value FROM orders_id_seq), (SELECT count(*) FROM pg_class)"
    )


@pytest.mark.rows("S-49")
@pytest.mark.parametrize("sql", WRITES)
async def test_the_tool_lets_nothing_be_written(cluster: Cluster, sql: str) -> None:
    before = _state(cluster)
    output = await _query(_handler(cluster), sql)
    assert not output.success
    assert _state(cluster) == before


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
    cluster: Cluster, sql: str
) -> None:
    secret = cluster.home / "secret"
    secret.write_text(SECRET)
    secret.chmod(0o644)
    output = await _query(
        _handler(cluster, database="postgres"), sql.replace("{file}", str(secret))
    )
    assert SECRET not in output.content
    assert "secret.copy" not in os.listdir(cluster.home)


@pytest.mark.rows("S-49")
async def test_a_profile_that_may_change_databases_changes_them(cluster: Cluster) -> None:
    handler = _handler(cluster, mutations=True)
    output = await _query(handler, "INSERT INTO customers VALUES (900, 'a'), (901, 'b')")
    assert output.content == "Done (2 rows changed)"
    returned = await _query(handler, "DELETE FROM customers WHERE id >= 900 RETURNING id")
    assert "| 900 |" in returned.content
    assert cluster.admin("SELECT count(*) FROM customers WHERE id >= 900") == [(0,)]
    blocked = await _query(handler, "COPY customers TO PROGRAM 'cat'")
    assert blocked.content.startswith("Query blocked: ")


async def test_a_cancelled_call_has_ended_its_query_on_the_server(cluster: Cluster) -> None:
    sql = "SELECT pg_sleep(60), 'cancelled call'"
    call = asyncio.create_task(_query(_handler(cluster), sql))
    await cluster.until(1)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert cluster.at_work() == []


async def test_a_call_that_takes_too_long_is_ended_by_the_server(cluster: Cluster) -> None:
    output = await _query(_handler(cluster, timeout=0.3), "SELECT pg_sleep(60), 'too long'")
    assert not output.success
    assert output.content.startswith(
        "PostgreSQL says: canceling statement due to statement timeout"
    )
    assert cluster.at_work() == []


async def test_a_server_that_stops_answering_holds_no_call(cluster: Cluster) -> None:
    """Its process is stopped in the middle of a query: no timeout of its own can help."""
    sql = "SELECT pg_sleep(60), 'stopped server'"
    call = asyncio.create_task(_query(_handler(cluster, timeout=3), sql))
    [backend] = await cluster.until(1)
    os.kill(backend, signal.SIGSTOP)
    try:
        async with asyncio.timeout(15):
            output = await call
    finally:
        os.kill(backend, signal.SIGCONT)
    assert output.content == "Stopped after 3 s: it took too long"
    await cluster.until(0)


@pytest.mark.rows("S-49")
@pytest.mark.parametrize("parameter", ["export_path", "output_path"])
async def test_a_query_is_exported_to_the_sandbox(
    cluster: Cluster, context: Context, parameter: str
) -> None:
    sql = "SELECT id, name FROM customers ORDER BY id"
    output = await _call(
        _handler(cluster), context, operation="export_query", sql=sql, **{parameter: "out/c.csv"}
    )
    assert output.success, output.content
    data = await (await context.sandbox()).fs.read_text("out/c.csv")
    lines = data.splitlines()
    assert lines[:2] == ["id,name", "1,customer 1"]
    assert len(lines) == 251
    assert output.content == f"Exported 250 rows to out/c.csv ({len(data.encode())} bytes)"


async def test_a_server_that_is_not_there_is_told(cluster: Cluster) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        port = taken.getsockname()[1]
        output = await _query(_handler(cluster, host="127.0.0.1", port=port), "SELECT 1")
    assert not output.success
    assert "refused" in output.content
    assert PASSWORD not in output.content

"""The `mysql` tool and a real MariaDB server, which the tests start for themselves."""

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

import pymysql
import pytest

from paddock.runtime.tools.base import ToolInvocation, ToolOutput
from paddock.runtime.tools.sql.config import parse_databases
from paddock.runtime.tools.sql.handler import DatabaseHandler, database_handlers
from paddock.runtime.tools.sql.line import Line
from paddock.runtime.tools.sql.servers import server_for
from paddock.runtime.tools.sql.statement import Statement

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PASSWORD = "s3cret-of-agent"
STARTING = 50.0
"""Seconds for a server to start, on a machine that is busy."""

ENDLESS = "SELECT count(*) FROM seq_1_to_1000000 a, seq_1_to_1000000 b"


class Server:
    """A server that listens on a Unix socket below `home`."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.socket = str(home / "socket")

    def admin(self, sql: str) -> tuple[tuple[Any, ...], ...]:
        with (
            pymysql.connect(unix_socket=self.socket, user="root", autocommit=True) as connection,
            connection.cursor() as cursor,
        ):
            cursor.execute(sql)
            return tuple(cursor.fetchall())

    def handler(self, *, mutations: bool = False, **changes: Any) -> DatabaseHandler:
        given = {
            "type": "mysql", "host": self.socket, "database": "shop", "user": "agent",
            "password": PASSWORD, "timeout": 20, **changes,
        }  # fmt: skip
        (handler,) = database_handlers(parse_databases({"main": given}), mutations=mutations)
        return handler

    async def until(self, marker: str, queries: int) -> None:
        """Wait until the server is at work on that many queries with `marker`."""
        sql = (
            "SELECT count(*) FROM information_schema.processlist"
            f" WHERE info LIKE '%{marker}%' AND id <> connection_id()"
        )
        async with asyncio.timeout(STARTING):
            while await asyncio.to_thread(self.admin, sql) != ((queries,),):
                await asyncio.to_thread(self.admin, "SELECT sleep(0.02)")


def _plain_user(home: str) -> dict[str, Any]:
    """The server does not run as root."""
    if os.getuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    os.chown(home, nobody.pw_uid, nobody.pw_gid)
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


@pytest.fixture(scope="module")
def server(require: Callable[[str, object, str], None]) -> Iterator[Server]:
    install, program = shutil.which("mariadb-install-db"), shutil.which("mariadbd")
    require("mariadb", install and program, "there is no mariadbd; install mariadb-server")
    assert install is not None
    assert program is not None
    with tempfile.TemporaryDirectory(prefix="my", dir="/tmp") as folder:
        home = Path(folder)
        temporary = {"TMPDIR": folder}  # ours need not be one that the server's user may write
        options: dict[str, Any] = {
            "cwd": home,
            "env": os.environ | temporary,
            **_plain_user(folder),
        }
        data = f"--datadir={home / 'data'}"
        subprocess.run(
            [
                install, "--no-defaults", data, "--auth-root-authentication-method=normal",
                "--skip-test-db",
            ],
            check=True, capture_output=True, timeout=STARTING, **options,
        )  # fmt: skip
        with subprocess.Popen(
            [
                program, "--no-defaults", data, f"--socket={home / 'socket'}",
                "--skip-networking", f"--pid-file={home / 'pid'}", "--secure-file-priv=",
            ],
            stderr=subprocess.PIPE, text=True, **options,
        ) as process:  # fmt: skip
            try:
                assert process.stderr is not None
                said = []
                for line in process.stderr:
                    said.append(line)
                    if "ready for connections" in line:
                        break
                assert process.poll() is None, "".join(said)
                yield _filled(Server(home))
            finally:
                process.send_signal(signal.SIGTERM)
                process.communicate(timeout=STARTING)


def _filled(server: Server) -> Server:
    for sql in (
        "CREATE DATABASE shop",
        "CREATE TABLE shop.items (id int PRIMARY KEY, name varchar(40) NOT NULL)",
        "INSERT INTO shop.items SELECT seq, concat('item ', seq) FROM shop.seq_1_to_250",
        "CREATE VIEW shop.cheap AS SELECT id FROM shop.items",
        f"CREATE USER agent@localhost IDENTIFIED BY '{PASSWORD}'",
        "GRANT ALL ON *.* TO agent@localhost",
    ):
        server.admin(sql)
    return server


async def _call(handler: DatabaseHandler, **arguments: Any) -> ToolOutput:
    return await handler.handle(
        ToolInvocation(call_id="1", tool_name=handler.name, arguments=arguments)
    )


async def _query(handler: DatabaseHandler, sql: str) -> ToolOutput:
    return await _call(handler, operation="query", sql=sql)


@pytest.mark.rows("S-49")
async def test_a_query_is_a_table(server: Server) -> None:
    output = await _query(
        server.handler(), "SELECT id, name FROM items WHERE name LIKE '%m 1' -- all"
    )
    assert output.content == (
        "+----+--------+\n"
        "| id | name   |\n"
        "+----+--------+\n"
        "| 1  | item 1 |\n"
        "+----+--------+\n"
        "(1 row)"
    )


@pytest.mark.rows("S-49")
async def test_a_hundred_rows_are_shown_and_the_rest_is_never_sent(server: Server) -> None:
    output = await _query(
        server.handler(), "SELECT a.seq FROM seq_1_to_1000000 a, seq_1_to_1000000 b"
    )
    assert output.content.endswith("[Showing the first 100 rows; there are more]")


async def test_a_good_query_needs_no_second_connection(server: Server) -> None:
    server.admin("GRANT USAGE ON *.* TO agent@localhost WITH MAX_USER_CONNECTIONS 1")
    try:
        output = await _query(server.handler(), "SELECT seq FROM seq_1_to_1000000")
    finally:
        server.admin("GRANT USAGE ON *.* TO agent@localhost WITH MAX_USER_CONNECTIONS 0")
    assert output.content.endswith("[Showing the first 100 rows; there are more]")


@pytest.mark.rows("S-49")
async def test_tables_are_listed_and_described(server: Server) -> None:
    listed = await _call(server.handler(), operation="list_tables")
    assert "| items | table |" in listed.content
    assert "| cheap | view  |" in listed.content
    described = await _call(server.handler(), operation="describe", table="items")
    assert "| name   | VARCHAR(40) | no       |" in described.content
    assert (await _query(server.handler(), "SHOW CREATE TABLE items")).success


WRITES = [
    "INSERT INTO items VALUES (1000, 'x')",
    "DELETE FROM items",
    "DROP TABLE items",
    "CREATE TABLE made (a int)",
    "SELECT 1; DELETE FROM items",
    "TRUNCATE items",
    "SET GLOBAL read_only = 1; DELETE FROM items",
]


@pytest.mark.rows("S-49")
@pytest.mark.parametrize("sql", WRITES)
def test_the_session_alone_lets_nothing_be_written(server: Server, sql: str) -> None:
    """The second fence is left out: what is sent here was not read before."""
    given = {
        "type": "mysql", "host": server.socket, "database": "shop", "user": "agent",
        "password": PASSWORD,
    }  # fmt: skip
    (config,) = parse_databases({"main": given}).values()
    line = Line(server_for(config, mutations=False), timeout=10)
    with (
        pytest.raises(Exception, match=r"READ ONLY transaction|error in your SQL syntax"),
        line.open() as connection,
        line.execute(connection, Statement(sql=sql)) as rows,
    ):
        list(rows.batches)
    assert server.admin("SELECT count(*) FROM shop.items") == ((250,),)


@pytest.mark.rows("S-49")
@pytest.mark.parametrize(
    "sql",
    [
        *WRITES,
        "SELECT 1 INTO OUTFILE '{file}'",
        "SELECT 1 /*! INTO OUTFILE '{file}' */",
        "SELECT 1 /*M! INTO DUMPFILE '{file}' */",
        "SELECT 1 --\x01 '\n INTO OUTFILE '{file}' -- '",
        "SELECT 'a\\' INTO OUTFILE ', '{file}'",
        'SELECT "a" INTO OUTFILE \'{file}\' #"',
    ],
)
async def test_the_tool_lets_nothing_be_written(server: Server, sql: str) -> None:
    await _query(server.handler(), sql.replace("{file}", str(server.home / "written")))
    assert "written" not in os.listdir(server.home)
    assert server.admin("SELECT count(*) FROM shop.items") == ((250,),)


@pytest.mark.rows("S-49")
async def test_a_profile_that_may_change_databases_changes_them(server: Server) -> None:
    handler = server.handler(mutations=True)
    assert (await _query(handler, "INSERT INTO items VALUES (900, 'a')")).content == (
        "Done (1 rows changed)"
    )
    assert (await _query(handler, "DELETE FROM items WHERE id = 900")).success
    assert server.admin("SELECT count(*) FROM shop.items") == ((250,),)


async def test_a_cancelled_call_has_ended_its_query_on_the_server(server: Server) -> None:
    call = asyncio.create_task(_query(server.handler(), f"{ENDLESS} WHERE 'cancelled' <> 'x'"))
    await server.until("cancelled", 1)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await server.until("cancelled", 0)


async def test_a_call_that_takes_too_long_is_ended_by_the_server(server: Server) -> None:
    output = await _query(server.handler(timeout=1), f"{ENDLESS} WHERE 'too long' <> 'x'")
    assert not output.success
    assert "max_statement_time" in output.content or output.content.startswith("Stopped after 1 s")
    await server.until("too long", 0)


async def test_a_wrong_password_is_told_and_not_shown(server: Server) -> None:
    output = await _query(server.handler(password="wrong-and-secret"), "SELECT 1")
    assert not output.success
    assert "Access denied" in output.content
    assert "wrong-and-secret" not in output.content


@pytest.mark.parametrize("kind", ["mysql", "oracle"])
async def test_a_server_that_is_not_there_is_told(kind: str) -> None:
    """The real driver and a port that refuses."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        where = "database" if kind == "mysql" else "service_name"
        given = {
            "type": kind, "host": "127.0.0.1", "port": taken.getsockname()[1], where: "x",
            "user": "agent", "password": PASSWORD,
        }  # fmt: skip
        (handler,) = database_handlers(parse_databases({"main": given}))
        output = await _query(handler, "SELECT 1 FROM dual")
    assert not output.success
    assert "refused" in output.content
    assert PASSWORD not in output.content

"""Database servers that the tests start for themselves, and a tool for each."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pymysql

from paddock.runtime.core.tool import ToolInvocation, ToolOutput
from paddock.runtime.tools.sql.config import parse_databases
from paddock.runtime.tools.sql.handler import DatabaseHandler, database_handlers
from tests.lending import lending

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from paddock.runtime.core.context import RunContext
    from tests.conftest import Require

PASSWORD = "s3cret-of-agent"
STARTING = 50.0
"""Seconds for a server to start, on a machine that is busy."""


class DatabaseServer(ABC):
    """A server that listens on a Unix socket below `home`, with 250 customers."""

    moment: str
    """A query that takes 20 ms."""
    endless: str
    """A query that runs for longer than a test."""
    many_rows: str
    """A query whose rows no memory holds."""
    refusal: str
    """How the server's errors, and its driver's, refuse what would write (a pattern)."""
    overdue: str
    """How a call ends that took too long (a pattern)."""

    def __init__(self, home: Path) -> None:
        self.home = home

    @abstractmethod
    def admin(self, sql: str) -> list[tuple[Any, ...]]:
        """What the server's owner is answered."""

    @abstractmethod
    def settings(self, **changes: Any) -> dict[str, Any]:
        """What a person writes for it."""

    @abstractmethod
    def at_work(self) -> list[int]:
        """What the server calls those who are at work on `endless` for the tool."""

    @abstractmethod
    async def ended(self) -> None:
        """Fail unless the query of a call that is over has ended too."""

    @abstractmethod
    def state(self) -> object:
        """What is not the same any more when something was written."""

    def handler(self, *, mutations: bool = False, **changes: Any) -> DatabaseHandler:
        return handler(self.settings(**changes), mutations=mutations)

    async def until(self, queries: int) -> list[int]:
        """Wait until the server is at work on that many."""
        async with asyncio.timeout(STARTING):
            while len(found := await asyncio.to_thread(self.at_work)) != queries:
                await asyncio.to_thread(self.admin, self.moment)
        return found


class MariaDB(DatabaseServer):
    moment = "SELECT sleep(0.02)"
    endless = (
        "SELECT count(*) FROM seq_1_to_1000000 a, seq_1_to_1000000 b WHERE 'does not end' <> 'x'"
    )
    many_rows = "SELECT a.seq FROM seq_1_to_1000000 a, seq_1_to_1000000 b"
    refusal = r"READ ONLY transaction|error in your SQL syntax"
    overdue = r"max_statement_time|^Stopped after 0.5 s"

    def admin(self, sql: str) -> list[tuple[Any, ...]]:
        with (
            pymysql.connect(
                unix_socket=str(self.home / "socket"), user="root", autocommit=True
            ) as connection,
            connection.cursor() as cursor,
        ):
            cursor.execute(sql)
            return list(cursor.fetchall())

    def settings(self, **changes: Any) -> dict[str, Any]:
        return {
            "type": "mysql", "host": str(self.home / "socket"), "database": "shop",
            "user": "agent", "password": PASSWORD, "timeout": 20, **changes,
        }  # fmt: skip

    def at_work(self) -> list[int]:
        found = self.admin(
            "SELECT id FROM information_schema.processlist"
            " WHERE info LIKE '%does not end%' AND id <> connection_id()"
        )
        return [number for (number,) in found]

    async def ended(self) -> None:
        await self.until(0)  # it was told to stop, and does so a moment later

    def state(self) -> object:
        return self.admin(
            "SELECT (SELECT count(*) FROM shop.customers), @@global.read_only,"
            " (SELECT count(*) FROM information_schema.tables WHERE table_schema = 'shop')"
        )


class PostgreSQL(DatabaseServer):
    """`admin` is its superuser, and whom the tool works as."""

    moment = "SELECT pg_sleep(0.02)"
    endless = "SELECT pg_sleep(60)"
    many_rows = "SELECT generate_series(1, 50000000) AS n"
    refusal = (
        r"(?i)read[- ]only|read-write|multiple commands|terminat|"
        r"transaction block|can only be executed|not allowed"
    )
    overdue = r"^PostgreSQL says: canceling statement due to statement timeout"

    def admin(self, sql: str) -> list[tuple[Any, ...]]:
        where = f"host={self.home} user=admin dbname=postgres"
        with psycopg.connect(where, autocommit=True) as connection:
            cursor = connection.execute(sql.encode())
            return cursor.fetchall() if cursor.description else []

    def settings(self, **changes: Any) -> dict[str, Any]:
        return {
            "type": "postgres", "host": str(self.home), "database": "postgres",
            "user": "admin", "password": PASSWORD, "timeout": 20, **changes,
        }  # fmt: skip

    def at_work(self) -> list[int]:
        found = self.admin(
            "SELECT pid FROM pg_stat_activity"
            " WHERE state = 'active' AND application_name = 'paddock'"
        )
        return [number for (number,) in found]

    async def ended(self) -> None:
        assert await asyncio.to_thread(self.at_work) == []

    def state(self) -> object:
        return self.admin(
            "SELECT (SELECT count(*) FROM customers), (SELECT count(*) FROM orders),"
            " (SELECT last_value FROM orders_id_seq), (SELECT count(*) FROM pg_class)"
        )


@contextlib.contextmanager
def mariadb(require: Require) -> Iterator[MariaDB]:
    """A server where the tool has a user of its own; skips where there is no such program."""
    install, program = shutil.which("mariadb-install-db"), shutil.which("mariadbd")
    require("mariadb", install and program, "there is no mariadbd; install mariadb-server")
    with short_home() as home:
        data = ["--no-defaults", f"--datadir={home / 'data'}"]
        with running(
            home,
            [str(install), *data, "--auth-root-authentication-method=normal", "--skip-test-db"],
            [
                str(program), *data, f"--socket={home / 'socket'}", "--skip-networking",
                f"--pid-file={home / 'pid'}", "--secure-file-priv=",
            ],
            ready="ready for connections", stop=signal.SIGTERM,
        ):  # fmt: skip
            server = MariaDB(home)
            for sql in (
                "CREATE DATABASE shop",
                "CREATE TABLE shop.customers (id int PRIMARY KEY, name varchar(40) NOT NULL)",
                "CREATE VIEW shop.paid AS SELECT id FROM shop.customers",
                "INSERT INTO shop.customers"
                " SELECT seq, concat('customer ', seq) FROM shop.seq_1_to_250",
                f"CREATE USER agent@localhost IDENTIFIED BY '{PASSWORD}'",
                "GRANT ALL ON *.* TO agent@localhost",
            ):
                server.admin(sql)
            yield server


@contextlib.contextmanager
def postgresql(require: Require) -> Iterator[PostgreSQL]:
    """A server that trusts all who reach its socket; skips where there is no such program."""
    initdb, program = _of_postgresql("initdb"), _of_postgresql("postgres")
    require("postgres", initdb and program, "there is no initdb; install postgresql")
    with (
        short_home() as home,
        running(
            home,
            [str(initdb), "-D", "data", "-U", "admin", "--auth=trust", "--no-sync", "-E", "UTF8"],
            [
                str(program),
                "-D",
                "data",
                "-k",
                str(home),
                "-F",
                "-c",
                "listen_addresses=",
                # Nobody reads what it says from then on, and a pipe that is full holds it up.
                "-c",
                "log_min_messages=log",
            ],
            ready="ready to accept connections",
            stop=signal.SIGINT,
        ),
    ):
        server = PostgreSQL(home)
        for sql in (
            "CREATE TABLE customers (id int PRIMARY KEY, name varchar(40) NOT NULL)",
            "CREATE TABLE orders (id serial PRIMARY KEY, customer int REFERENCES customers,"
            " price numeric(8,2), paid boolean, note text)",
            "CREATE VIEW paid AS SELECT * FROM orders WHERE paid",
            "CREATE SCHEMA archive",
            "CREATE TABLE archive.old (at timestamptz)",
            "INSERT INTO customers SELECT n, 'customer ' || n FROM generate_series(1, 250) n",
            "INSERT INTO orders (customer, price, paid) SELECT 1, 9.50, true",
        ):
            server.admin(sql)
        yield server


def _of_postgresql(program: str) -> Path | None:
    """Debian keeps the server's programs out of the way."""
    found = shutil.which(program)
    if found is not None:
        return Path(found)
    return max(Path("/usr/lib/postgresql").glob(f"*/bin/{program}"), default=None)


@contextlib.contextmanager
def short_home() -> Iterator[Path]:
    """A directory whose name is short enough for a socket's in it."""
    with tempfile.TemporaryDirectory(prefix="sql", dir="/tmp") as folder:
        yield Path(folder)


@contextlib.contextmanager
def running(
    home: Path, install: Sequence[str], serve: Sequence[str], *, ready: str, stop: signal.Signals
) -> Iterator[None]:
    """Install a server in `home` and run it until the block ends. It says that it is `ready`."""
    options: dict[str, Any] = {
        "cwd": home,
        # Ours need not be one that the server's user may write.
        "env": {**os.environ, "TMPDIR": str(home)},
        **_plain_user(home),
    }
    subprocess.run(install, check=True, capture_output=True, timeout=STARTING, **options)
    with subprocess.Popen(serve, stderr=subprocess.PIPE, text=True, **options) as process:
        try:
            assert process.stderr is not None
            said = []
            for line in process.stderr:
                said.append(line)
                if ready in line:
                    break
            assert process.poll() is None, "".join(said)
            yield
        finally:
            process.send_signal(stop)
            process.communicate(timeout=STARTING)


def _plain_user(home: Path) -> dict[str, Any]:
    """Servers do not run as root."""
    if os.getuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    os.chown(home, nobody.pw_uid, nobody.pw_gid)
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def handler(settings: dict[str, Any], *, mutations: bool = False) -> DatabaseHandler:
    """The tool for one database."""
    databases = parse_databases({"main": settings}, environment={})
    (found,) = database_handlers(databases, mutations=mutations)
    return found


async def call(
    tool: DatabaseHandler, context: RunContext[None] | None = None, **arguments: Any
) -> ToolOutput:
    return await tool.handle(ToolInvocation("1", tool.name, arguments, context or lending()))


async def query(tool: DatabaseHandler, sql: str) -> ToolOutput:
    return await call(tool, operation="query", sql=sql)

"""The toolkit `catalog` never writes: the connection refuses, with the parser switched off.

On a SQLite file, and on a real PostgreSQL server as a role that may only read.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from typing import TYPE_CHECKING

import pytest

from paddock import ConfigError, ToolError
from paddock.runtime.orchestration.catalog import target as under_test
from paddock.runtime.orchestration.catalog.target import TargetDatabase
from paddock.runtime.tools.sql.statement import Statement
from paddock.runtime.tools.sql.urls import postgres_at, sqlite_at
from tests.e2e.sql_served import PASSWORD, postgresql

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import Require
    from tests.e2e.sql_served import PostgreSQL

pytestmark = pytest.mark.rows("F-32")

SQLITE_WRITES = """
INSERT INTO items VALUES (3, 'x')
INSERT INTO items VALUES (3, 'x') RETURNING id
INSERT OR REPLACE INTO items VALUES (1, 'x')
INSERT INTO items VALUES (1, 'x') ON CONFLICT DO UPDATE SET name = 'x'
REPLACE INTO items VALUES (1, 'x')
UPDATE items SET name = 'x'
UPDATE watched SET name = 'x'
DELETE FROM items
DELETE FROM sqlite_sequence
WITH x AS (SELECT 5 AS id) INSERT INTO items SELECT id, 'x' FROM x
WITH x AS (SELECT 1 AS id) DELETE FROM items WHERE id IN x
EXPLAIN DELETE FROM items
SELECT 1; DELETE FROM items
CREATE TABLE more (id)
CREATE TABLE more AS SELECT 1
CREATE TEMP TABLE more (id)
CREATE VIEW more AS SELECT 1
CREATE INDEX more ON items (name)
CREATE TRIGGER more AFTER INSERT ON items BEGIN DELETE FROM items; END
CREATE VIRTUAL TABLE more USING fts5 (x)
CREATE VIRTUAL TABLE temp.more USING fts5 (x)
DROP TABLE items
DROP INDEX by_name
DROP VIEW watched
ALTER TABLE items ADD COLUMN more
ALTER TABLE items RENAME TO things
ALTER TABLE items DROP COLUMN name
INSERT INTO words (words) VALUES ('optimize')
INSERT INTO words (words, rank) VALUES ('pgsz', 64)
UPDATE words_data SET block = x'00'
UPDATE sqlite_master SET sql = ''
DELETE FROM sqlite_master
SELECT optimize(older) FROM older
INSERT INTO older (older) VALUES ('optimize')
UPDATE pragma_user_version SET user_version = 7
UPDATE json_each SET value = 1
UPDATE sqlite_dbpage SET data = x'00' WHERE pgno = 1
ATTACH 'FOLDER/other.db' AS other
ATTACH ':memory:' AS other
DETACH main
VACUUM
VACUUM INTO 'FOLDER/copy.db'
REINDEX
ANALYZE
BEGIN IMMEDIATE
SAVEPOINT here
PRAGMA query_only = OFF
PRAGMA query_only(0)
PRAGMA writable_schema = ON
PRAGMA user_version = 7
PRAGMA application_id = 7
PRAGMA journal_mode = WAL
PRAGMA journal_mode(DELETE)
PRAGMA wal_checkpoint(TRUNCATE)
PRAGMA incremental_vacuum(1)
PRAGMA optimize
PRAGMA trusted_schema = ON
PRAGMA temp_store_directory = 'FOLDER'
SELECT * FROM pragma_user_version(7)
SELECT load_extension('FOLDER/evil.so')
SELECT fts3_tokenizer('simple', x'00')
SELECT writefile('FOLDER/x', 'x')
SELECT edit('x', 'touch FOLDER/x')
""".strip().splitlines()

POSTGRES_WRITES = """
INSERT INTO customers VALUES (900, 'x')
INSERT INTO customers VALUES (900, 'x') RETURNING id
UPDATE customers SET name = 'x'
DELETE FROM customers
TRUNCATE customers
MERGE INTO customers USING (SELECT 1 AS n) s ON id = n WHEN MATCHED THEN DELETE
WITH x AS (INSERT INTO customers VALUES (900, 'x') RETURNING id) SELECT * FROM x
WITH x AS (DELETE FROM customers RETURNING id) SELECT * FROM x
WITH x AS (SELECT 1) UPDATE customers SET name = 'x'
SELECT * INTO more FROM customers
SELECT * FROM customers FOR UPDATE
SELECT 1; DELETE FROM customers
SELECT 1) AS q; DELETE FROM customers; SELECT * FROM (SELECT 1
COMMIT; DELETE FROM customers
COMMIT
ROLLBACK AND CHAIN
BEGIN READ WRITE
SET TRANSACTION READ WRITE
SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE
SET ROLE admin
SET SESSION AUTHORIZATION admin
SELECT set_config('transaction_read_only', 'off', false)
SELECT set_config('role', 'admin', false)
CREATE TABLE more (id int)
CREATE TEMP TABLE more (id int)
CREATE TABLE more AS SELECT 1
CREATE VIEW more AS SELECT 1
CREATE INDEX more ON customers (name)
CREATE SCHEMA more
CREATE EXTENSION dblink
CREATE FUNCTION more() RETURNS int LANGUAGE sql AS 'SELECT 1'
CREATE ROLE more
CREATE DATABASE more
DROP TABLE customers
ALTER TABLE customers ADD COLUMN more int
ALTER ROLE reader SUPERUSER
ALTER SYSTEM SET work_mem = '1MB'
GRANT ALL ON customers TO reader
COMMENT ON TABLE customers IS 'x'
REFRESH MATERIALIZED VIEW counted
REINDEX TABLE customers
CLUSTER customers USING customers_pkey
VACUUM customers
LOCK TABLE customers IN ACCESS EXCLUSIVE MODE
SELECT nextval('orders_id_seq')
SELECT setval('orders_id_seq', 900)
SELECT writes()
SELECT writes_as_owner()
CALL writing_as_owner()
DO $$ BEGIN INSERT INTO customers VALUES (900, 'x'); END $$
DO $$ BEGIN COMMIT; INSERT INTO customers VALUES (900, 'x'); END $$
EXPLAIN ANALYZE DELETE FROM customers
PREPARE more AS INSERT INTO customers VALUES (900, 'x')
PREPARE TRANSACTION 'x'
COPY customers FROM PROGRAM 'echo 900,x'
COPY customers TO PROGRAM 'cat > FOLDER/x'
COPY customers TO 'FOLDER/x'
SELECT lo_import('/etc/hostname')
SELECT lo_export(1, 'FOLDER/x')
SELECT pg_read_file('/etc/hostname')
SELECT pg_reload_conf()
SELECT pg_switch_wal()
SELECT pg_stat_reset()
NOTIFY a, 'b'
CHECKPOINT
""".strip().splitlines()

ROLES = [
    ("INSERT ON customers", "may write public.customers"),
    ("UPDATE (name) ON customers", "may write public.customers"),
    ("TRUNCATE ON archive.old", "may write archive.old"),
    ("UPDATE ON SEQUENCE orders_id_seq", "may write public.orders_id_seq"),
    ("CREATE ON SCHEMA archive", "may create in the schema archive"),
    ("CREATE ON DATABASE postgres", "may create schemas in the database"),
    ("pg_write_all_data", "is a member of pg_write_all_data"),
    ("pg_execute_server_program", "is a member of pg_execute_server_program"),
    ("writer", "may write public.orders"),
    ("admin", "is a superuser"),
]


@pytest.fixture
def without_parser(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever an agent sends is taken for a query."""
    monkeypatch.setattr(under_test, "read_query", lambda sql, _: Statement(sql=sql))


class File:
    """A SQLite database, and what only an owner sees of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._path = folder / "shop.db"
        with contextlib.closing(sqlite3.connect(self._path)) as connection, connection:
            connection.executescript("""
                CREATE TABLE items (id INTEGER PRIMARY KEY, name TEXT);
                INSERT INTO items VALUES (1, 'rope'), (2, 'bell');
                CREATE INDEX by_name ON items (name);
                CREATE TABLE counted (id INTEGER PRIMARY KEY AUTOINCREMENT);
                INSERT INTO counted DEFAULT VALUES;
                CREATE VIRTUAL TABLE words USING fts5 (x);
                INSERT INTO words VALUES ('hello');
                CREATE VIRTUAL TABLE older USING fts4 (x);
                INSERT INTO older VALUES ('hello');
                INSERT INTO older VALUES ('world');
                CREATE VIEW watched AS SELECT * FROM items;
                CREATE TRIGGER watching INSTEAD OF UPDATE ON watched
                    BEGIN DELETE FROM items; END;
                CREATE VIEW loading AS SELECT load_extension('evil.so') AS n;
                CREATE TABLE "x; DROP TABLE items" (n);
            """)
        url = f"sqlite:{self._path}"
        self.target = TargetDatabase(sqlite_at(url, what="test"), url=url, key="test")

    def state(self) -> object:
        return self._path.read_bytes(), sorted(os.listdir(self.folder))


@pytest.fixture
def file(tmp_path: Path) -> File:
    return File(tmp_path)


class Server:
    """A PostgreSQL server, and a role `reader` there."""

    def __init__(self, server: PostgreSQL) -> None:
        self.server = server
        self.target = self.as_role("reader")
        for sql in (
            "REVOKE CREATE ON SCHEMA public FROM PUBLIC",
            "CREATE ROLE reader LOGIN NOINHERIT",
            "CREATE ROLE writer",
            "GRANT DELETE ON orders TO writer",
            "CREATE MATERIALIZED VIEW counted AS SELECT count(*) FROM customers",
            "CREATE FUNCTION writes() RETURNS int LANGUAGE sql"
            " AS 'INSERT INTO customers VALUES (900, ''x'') RETURNING id'",
            "CREATE FUNCTION writes_as_owner() RETURNS int LANGUAGE sql SECURITY DEFINER"
            " AS 'INSERT INTO customers VALUES (900, ''x'') RETURNING id'",
            "CREATE PROCEDURE writing_as_owner() LANGUAGE plpgsql SECURITY DEFINER"
            " AS $$ BEGIN INSERT INTO customers VALUES (900, 'x'); END $$",
            "CREATE VIEW writing AS SELECT writes_as_owner() AS n",
            "GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader",
        ):
            server.admin(sql)

    def as_role(self, role: str) -> TargetDatabase:
        url = f"postgresql://{role}:{PASSWORD}@/postgres?host={self.server.home}"
        return TargetDatabase(postgres_at(url, what="test"), url=url, key="test")

    def state(self) -> object:
        large = self.server.admin("SELECT count(*) FROM pg_largeobject_metadata")
        return self.server.state(), large, sorted(os.listdir(self.server.home))


@pytest.fixture(scope="module")
def server(require: Require) -> Iterator[Server]:
    with postgresql(require) as server:
        yield Server(server)


class TestSqlite:
    @pytest.mark.usefixtures("without_parser")
    async def test_no_query_writes(self, file: File) -> None:
        """One test for all: most of its time would be spent in making the database."""
        before = file.state()
        assert (await file.target.query("SELECT id FROM items", None, 10))["rows"] == [[1], [2]]
        for sql in SQLITE_WRITES:
            with pytest.raises(ToolError, match=r"^SQLite says: "):
                await file.target.query(sql.replace("FOLDER", str(file.folder)), None, 10)
                pytest.fail(f"not refused: {sql}")
            assert file.state() == before, sql

    async def test_no_sample_writes(self, file: File) -> None:
        before = file.state()
        for sql in SQLITE_WRITES[::5]:
            with pytest.raises(ToolError, match=r"^SQLite says: no such table"):
                await file.target.sample([f"items`; {sql}; --"], [], 10)
        with pytest.raises(ToolError, match=r"^SQLite says: no such column"):
            await file.target.sample(["items"], SQLITE_WRITES, 10)
        with pytest.raises(ToolError, match="load_extension"):
            await file.target.sample(["loading"], [], 10)
        assert (await file.target.sample(["x; DROP TABLE items"], [], 10))["rows"] == []
        assert file.state() == before


class TestPostgres:
    @pytest.mark.usefixtures("without_parser")
    async def test_no_query_writes(self, server: Server) -> None:
        before = server.state()
        found = await server.target.query("SELECT count(*) FROM customers", None, 10)
        assert found["rows"] == [[250]]
        for sql in POSTGRES_WRITES:
            with pytest.raises(ToolError, match=r"^PostgreSQL says: "):
                await server.target.query(sql.replace("FOLDER", str(server.server.home)), None, 10)
                pytest.fail(f"not refused: {sql}")
            assert server.state() == before, sql

    @pytest.mark.usefixtures("without_parser")
    @pytest.mark.parametrize("sql", ["SELECT lo_from_bytea(0, 'x')", "SELECT pg_notify('a', 'b')"])
    async def test_what_the_server_lets_through_is_undone(self, server: Server, sql: str) -> None:
        """Before version 16 a transaction that only reads may make large objects."""
        before = server.state()
        with contextlib.suppress(ToolError):
            await server.target.query(sql, None, 10)
        assert server.state() == before

    async def test_no_sample_writes(self, server: Server) -> None:
        before = server.state()
        for sql in POSTGRES_WRITES[::5]:
            with pytest.raises(ToolError, match=r"^PostgreSQL says: .*does not exist"):
                await server.target.sample([f'customers"; {sql}; --'], [], 10)
        with pytest.raises(ToolError, match=r"^PostgreSQL says: .*does not exist"):
            await server.target.sample(["customers"], POSTGRES_WRITES, 10)
        with pytest.raises(ToolError, match="read-only transaction"):
            await server.target.sample(["writing"], [], 10)
        assert server.state() == before

    @pytest.mark.parametrize(("grant", "told"), ROLES)
    async def test_a_role_that_could_write_is_refused(
        self, server: Server, grant: str, told: str
    ) -> None:
        server.server.admin(f"GRANT {grant} TO reader")
        try:
            with pytest.raises(ConfigError, match=told) as caught:
                await server.target.query("SELECT 1", None, 10)
        finally:
            server.server.admin(f"REVOKE {grant} FROM reader")
        assert "GRANT SELECT ON ALL TABLES IN SCHEMA" in str(caught.value)
        assert PASSWORD not in str(caught.value)
        assert (await server.target.query("SELECT 1", None, 10))["rows"] == [[1]]

    async def test_a_superuser_and_an_owner_are_refused(self, server: Server) -> None:
        with pytest.raises(ConfigError, match=r"the role 'admin' could write.*is a superuser"):
            await server.as_role("admin").query("SELECT 1", None, 10)
        server.server.admin("CREATE TABLE theirs (n int)")
        server.server.admin("ALTER TABLE theirs OWNER TO reader")
        try:
            with pytest.raises(ConfigError, match=r"owns public\.theirs"):
                await server.target.query("SELECT 1", None, 10)
        finally:
            server.server.admin("DROP TABLE theirs")

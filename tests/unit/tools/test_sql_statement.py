"""Reading a statement before it is sent: what is allowed, what is refused, what is really sent."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from paddock.runtime.tools.sql.policy import Kind
from paddock.runtime.tools.sql.statement import (
    MAX_STATEMENT,
    StatementRefused,
    read_statement,
)

ALL: tuple[Kind, ...] = get_args(Kind)

ALLOWED: list[tuple[Kind, str]] = [
    *((kind, sql) for kind in ALL for sql in (
        "SELECT 'INSERT INTO t; DROP TABLE t'",
        "select update_time, \"a\" from deleted_items where truncated = 'no'",
        "SELECT a FROM t -- DELETE FROM t\n WHERE b = 'it''s'",
        "SELECT a /* ; DROP TABLE t */ FROM t;",
        "WITH x AS (SELECT 1 AS a FROM t) SELECT a FROM x UNION ALL SELECT 2 FROM t ORDER BY 1",
        "(SELECT a FROM t) UNION (SELECT b FROM u)",
        "SELECT count(*), avg(a) FROM t GROUP BY b HAVING count(*) > 1",
        "SELECT REPLACE(a, 'x', 'y') FROM t",
        "SELECT CASE WHEN a LIKE '%DELETE%' THEN 1 ELSE 0 END FROM t",
    )),
    ("sqlite", 'SELECT "insert", [drop table], `delete` FROM t'),
    ("sqlite", "PRAGMA table_info(t)"),
    ("sqlite", "pragma main.index_list('t')"),
    ("sqlite", "PRAGMA user_version"),
    ("sqlite", "EXPLAIN QUERY PLAN SELECT 1"),
    ("sqlite", "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT 2 FROM n) SELECT x FROM n"),
    ("postgres", 'SELECT "insert" FROM "drop table"'),
    ("postgres", "SELECT E'it\\'s; DELETE', $$a;b$$, $x$ DROP $x$, '{\"a\":1}'::jsonb ->> 'a'"),
    ("postgres", "SELECT a[1], ARRAY[1,2] FROM t WHERE b ~* '^x' AND c @> '{1}'"),
    ("postgres", "SELECT DISTINCT ON (a) a, sum(b) OVER (PARTITION BY c) FROM t"),
    ("postgres", "EXPLAIN (ANALYZE, BUFFERS) SELECT * FROM t"),
    ("postgres", "SHOW server_version"),
    ("postgres", "VALUES (1, 'a'), (2, 'b')"),
    ("postgres", "TABLE t"),
    ("postgres", "SELECT * FROM generate_series(1, 3) AS n"),
    ("postgres", "SELECT l.lo_price, (l.address).city FROM lines AS l"),
    ("mysql", "SELECT 'it\\'s; DROP', \"double ; \\\" quoted\", `drop` FROM t"),
    ("mysql", "SHOW CREATE TABLE t"),
    ("mysql", "DESCRIBE t"),
    ("mysql", "EXPLAIN FORMAT=JSON SELECT * FROM t"),
    ("mysql", "SELECT 5--1, 5 -- a comment\n"),
    ("oracle", "SELECT q'[it's; DROP]' FROM dual WHERE ROWNUM < 5"),
    ("oracle", "SELECT sid FROM v$session"),
    ("oracle", "SELECT 'a@b' AS \"c@d\" FROM dual"),
    ("oracle", "SELECT /*+ FULL(t) */ a FROM t CONNECT BY PRIOR a = b"),
]  # fmt: skip

WRITES: list[tuple[Kind, str]] = [
    *((kind, sql) for kind in ALL for sql in (
        "INSERT INTO t VALUES (1)",
        "UPDATE t SET a = 1",
        "DELETE FROM t",
        "DROP TABLE t",
        "CREATE TABLE u (a INTEGER)",
        "ALTER TABLE t ADD b INTEGER",
        "/* SELECT */ DELETE FROM t",
        "-- SELECT\nDELETE FROM t",
    )),
    ("sqlite", "WITH x AS (SELECT 1) INSERT INTO t SELECT * FROM x"),
    ("sqlite", "INSERT OR REPLACE INTO t VALUES (1)"),
    ("postgres", "WITH x AS (DELETE FROM t RETURNING *) SELECT * FROM x"),
    ("postgres", "WITH x AS (INSERT INTO t VALUES (1) RETURNING a) SELECT a FROM x"),
    ("postgres", "MERGE INTO t USING u ON t.a = u.a WHEN MATCHED THEN DELETE"),
    ("postgres", "TRUNCATE t"),
    ("mysql", "INSERT INTO t VALUES (1) ON DUPLICATE KEY UPDATE a = 2"),
    ("oracle", "MERGE INTO t USING u ON (t.a = u.a) WHEN MATCHED THEN UPDATE SET t.b = 1"),
]  # fmt: skip

NEVER: list[tuple[Kind, str]] = [
    *((kind, sql) for kind in ALL for sql in (
        "",
        ";",
        "-- nothing",
        "SELECT 1; SELECT 2",
        "SELECT 1 FROM t; DROP TABLE t",
        "SELECT 'a",
        "SELECT 1 FROM t\x00",
        "SELECT 1 FROM t --\x01\n",
        "GRANT ALL ON t TO PUBLIC",
        "COMMIT",
        "ROLLBACK",
        "CALL f()",
        "EXECUTE f",
    )),
    ("sqlite", "ATTACH '/etc/passwd' AS x"),
    ("sqlite", "DETACH main"),
    ("sqlite", "PRAGMA user_version = 5"),
    ("sqlite", "PRAGMA journal_mode(DELETE)"),
    ("sqlite", "PRAGMA writable_schema = ON"),
    ("sqlite", "PRAGMA query_only"),
    ("sqlite", "SELECT load_extension('/tmp/x.so')"),
    ("sqlite", "SELECT LOAD_EXTENSION /* */ ('/tmp/x.so')"),
    ("sqlite", "SELECT \"load_extension\"('/tmp/x.so')"),
    ("sqlite", "SELECT sqlite_log(1, 'x')"),
    ("sqlite", "VACUUM INTO '/tmp/x'"),
    ("sqlite", "REINDEX"),
    ("sqlite", "SELECT [a]]b] FROM t"),
    ("postgres", "SELECT * INTO u FROM t"),
    ("postgres", "SELECT * FROM t FOR UPDATE"),
    ("postgres", "COPY t TO PROGRAM 'id'"),
    ("postgres", "COPY t FROM '/etc/passwd'"),
    ("postgres", "COPY (SELECT 1) TO STDOUT"),
    ("postgres", "SELECT * FROM pg_hba_file_rules"),
    ("postgres", "TABLE pg_catalog . \"pg_file_settings\""),
    ("postgres", "SELECT table_to_xml('pg_hba_file_rules', true, true, '')"),
    ("postgres", "SELECT * FROM crosstab('SELECT 1, 2, 3') AS x(a int, b int)"),
    ("postgres", "SELECT ('SELECT 1'::text).crosstab"),
    ("postgres", "SELECT U&\"pg\\005fread_file\"('/etc/passwd')"),
    ("postgres", "SELECT u&'\\0041'"),
    ("postgres", "SET TRANSACTION READ WRITE"),
    ("postgres", "DO $$ BEGIN DELETE FROM t; END $$"),
    ("postgres", "PREPARE x AS DELETE FROM t"),
    ("postgres", "LOCK TABLE t"),
    ("postgres", "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'DELETE FROM t'"),
    ("postgres", "CREATE EXTENSION dblink"),
    ("postgres", "EXPLAIN ANALYZE DELETE FROM t"),
    ("postgres", "EXPLAIN (ANALYZE) INSERT INTO t VALUES (1)"),
    ("postgres", "EXPLAIN"),
    ("postgres", "SELECT E'a'\n'b\\' , pg_read_file(''x'') -- '"),
    ("postgres", "SELECT a$$ , pg_read_file('x') , $$ FROM t"),
    ("mysql", "SELECT 1 INTO OUTFILE '/tmp/x'"),
    ("mysql", "SELECT * FROM t INTO DUMPFILE '/tmp/x'"),
    ("mysql", "SELECT 1 INTO @x"),
    ("mysql", "SELECT load_file('/etc/passwd')"),
    ("mysql", "SELECT `load_file`('/etc/passwd')"),
    ("mysql", "SELECT löad_file('/etc/passwd')"),
    ("mysql", "SELECT get_lock('x', 100)"),
    ("mysql", "SELECT sys_exec('id')"),
    ("mysql", "SELECT master_gtid_wait('0-1-1', 100)"),
    ("mysql", "SELECT wsrep_sync_wait_upto_gtid('0-1-1')"),
    ("mysql", "SELECT group_replication_set_as_primary('x')"),
    ("mysql", "SELECT keyring_key_remove('x')"),
    ("mysql", "SELECT spider_direct_sql('DELETE FROM t', '', 'host \"x\"')"),
    ("mysql", "CREATE TABLE t (a int) ENGINE=CONNECT FILE_NAME='/etc/passwd'"),
    ("mysql", "CREATE TABLE t (a int) ENGINE 'FEDERATED' CONNECTION='mysql://x@y/z/t'"),
    ("mysql", "ALTER TABLE t ADD b int, ENGINE=CONNECT"),
    ("mysql", "LOAD DATA INFILE '/etc/passwd' INTO TABLE t"),
    ("mysql", "SET GLOBAL general_log = 1"),
    ("mysql", "HANDLER t OPEN"),
    ("mysql", "SELECT * FROM t FOR UPDATE"),
    ("mysql", "SELECT * FROM t LOCK IN SHARE MODE"),
    ("mysql", "EXPLAIN ANALYZE DELETE FROM t"),
    ("mysql", "SHOW TABLES WHERE load_file('x')"),
    ("mysql", "DO sleep(5)"),
    ("oracle", "BEGIN DELETE FROM t; END;"),
    ("oracle", "SELECT utl_http.request('http://x') FROM dual"),
    ("oracle", "SELECT SYS . \"UTL_INADDR\" . get_host_name FROM dual"),
    ("oracle", "SELECT a FROM t@link"),
    ("oracle", "SELECT a FROM \"t\" @ \"link\""),
    ("oracle", "SELECT apex_web_service.make_rest_request('http://x', 'GET') FROM dual"),
    ("oracle", "SELECT dbms_xmlgen.getxml('SELECT 1 FROM dual') FROM dual"),
    ("oracle", "SELECT httpuritype('http://x').getclob() FROM dual"),
    ("oracle", "SELECT sys.\"HTTPURITYPE\".createuri('http://x').getclob() FROM dual"),
    ("oracle", "SELECT urifactory.geturi('http://x').getclob() FROM dual"),
    ("oracle", "SELECT * FROM EXTERNAL ((a NUMBER) DEFAULT DIRECTORY d LOCATION ('x'))"),
    ("oracle", "SELECT bfilename('D', 'x') FROM dual"),
    ("oracle", "SELECT * FROM t FOR UPDATE"),
    ("oracle", "WITH FUNCTION f RETURN NUMBER IS BEGIN RETURN 1; END; SELECT f FROM dual"),
    ("oracle", "EXPLAIN PLAN FOR SELECT 1 FROM dual"),
    ("oracle", "LOCK TABLE t IN EXCLUSIVE MODE"),
]  # fmt: skip


@pytest.mark.rows("S-49")
@pytest.mark.parametrize(("kind", "sql"), ALLOWED)
def test_what_reads_is_allowed_whatever_words_it_has(kind: Kind, sql: str) -> None:
    assert not read_statement(sql, kind).changes


@pytest.mark.rows("S-49")
@pytest.mark.parametrize(("kind", "sql"), WRITES)
def test_what_changes_is_refused_where_databases_are_read_only(kind: Kind, sql: str) -> None:
    with pytest.raises(StatementRefused, match="changes the database"):
        read_statement(sql, kind)
    assert read_statement(sql, kind, mutations=True).changes


@pytest.mark.rows("S-49")
@pytest.mark.parametrize("mutations", [False, True])
@pytest.mark.parametrize(("kind", "sql"), NEVER)
def test_what_leads_out_of_the_database_is_refused_in_every_mode(
    kind: Kind, sql: str, mutations: bool
) -> None:
    with pytest.raises(StatementRefused):
        read_statement(sql, kind, mutations=mutations)


@pytest.mark.rows("S-49")
@pytest.mark.parametrize(
    ("sql", "name"),
    [
        ("SELECT pg_read_file('/etc/passwd')", "pg_read_file"),
        ("SELECT PG_CATALOG . \"pg_read_file\" ('/etc/passwd')", "pg_read_file"),
        ("SELECT * FROM Pg_Ls_Dir /* */ ('/')", "pg_ls_dir"),
        ('SELECT "Mixed"(1)', "Mixed"),
        ("WITH x AS (SELECT pg_ls_dir('/')) SELECT * FROM x", "pg_ls_dir"),
        ("SELECT /* /* */ ' */ lo_import('/etc/passwd') -- '", "lo_import"),
        ("EXPLAIN ANALYZE SELECT lo_import('/etc/passwd')", "lo_import"),
        ("EXPLAIN (ANALYZE) SELECT ('/etc/passwd'::text).lo_import", "lo_import"),
        ("SELECT ('/etc/hostname'::text).pg_read_file", "pg_read_file"),
        ("SELECT (x) /* */ . \"pg_ls_dir\" FROM (SELECT '/'::text AS x) AS t", "pg_ls_dir"),
        ("SELECT n.pg_terminate_backend FROM unnest(ARRAY[1]) AS n", "pg_terminate_backend"),
        ("SELECT (('SELECT to_tsvector(''a'')'::text).ts_stat).word", "ts_stat"),
        ("SELECT ('/etc/passwd'::text).LO_IMPORT", "lo_import"),
        ("SELECT a FROM t ORDER BY (b).pg_read_file", "pg_read_file"),
    ],
)
def test_the_server_of_postgres_is_asked_about_all_that_may_be_a_function(
    sql: str, name: str
) -> None:
    assert name in read_statement(sql, "postgres").calls


@pytest.mark.parametrize(
    "sql", ["CREATE TABLE t (a int) ENGINE=InnoDB", "ALTER TABLE t ENGINE = 'Aria'"]
)
def test_a_table_of_mysql_may_be_given_an_engine_that_keeps_it_on_the_server(sql: str) -> None:
    assert read_statement(sql, "mysql", mutations=True).changes


@pytest.mark.parametrize(
    ("kind", "sql", "sent"),
    [
        ("mysql", "SELECT 1 /*!50000 INTO OUTFILE '/tmp/x' */", "SELECT 1"),
        ("mysql", "SELECT 1 /*M! , load_file('x') */ FROM t", "SELECT 1 FROM t"),
        ("mysql", "SELECT 5--1", "SELECT 5- -1"),
        ("mysql", "SELECT 1 # load_file('x')\n, 2", "SELECT 1\n, 2"),
        ("postgres", " SELECT\n  '--', \"/*\" -- c\n;;", "SELECT\n  '--', \"/*\""),
        ("oracle", "SELECT /*+ FULL(t) */ a FROM t", "SELECT a FROM t"),
        ("sqlite", "EXPLAIN/**/QUERY PLAN SELECT 1", "EXPLAIN QUERY PLAN SELECT 1"),
    ],
)
def test_what_is_sent_has_no_comments(kind: Kind, sql: str, sent: str) -> None:
    assert read_statement(sql, kind).sql == sent


def test_a_statement_that_is_too_long_is_refused() -> None:
    with pytest.raises(StatementRefused, match="longer than"):
        read_statement(f"SELECT '{'x' * MAX_STATEMENT}'", "sqlite")


@pytest.mark.parametrize("deep", ["(" * 5000 + "1" + ")" * 5000, "-" + " -" * 9000 + "1"])
def test_a_statement_that_is_nested_too_deeply_is_refused(deep: str) -> None:
    with pytest.raises(StatementRefused):
        read_statement(f"SELECT {deep}", "postgres")


WORDS = st.sampled_from([
    "SELECT", "1", "a", "FROM", "t", ",", "(", ")", "'x'", "'", '"', '"b"', "`", "--", "/*", "*/",
    "\n", " ", ";", "DELETE", "INTO", "$$", "E'\\'", "\\", "[", "]", "#", "/*!", "load_file",
    "pg_read_file", "EXPLAIN", "PRAGMA", "SHOW", "=", ".", "q'[", "]'", "U&", "WITH", "x", "AS",
])  # fmt: skip


@settings(max_examples=300)
@example(["EXPLAIN", "EXPLAIN", "SELECT", " "], "postgres")
@given(st.lists(WORDS, max_size=12), st.sampled_from(ALL))
def test_any_text_is_read_or_refused_and_what_was_read_reads_the_same_again(
    words: list[str], kind: Kind
) -> None:
    try:
        statement = read_statement(" ".join(words), kind)
    except StatementRefused:
        return
    assert not statement.changes
    assert read_statement(statement.sql, kind) == statement

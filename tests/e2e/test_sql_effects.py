"""Functions of a real PostgreSQL server, and of what comes with it, that do more than read."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from paddock.runtime.tools.sql.effects import HARMLESS
from tests.e2e.sql_served import postgresql, query

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Require
    from tests.e2e.sql_served import PostgreSQL

EXTENSIONS = ("dblink", "pg_stat_statements", "pg_surgery", "pg_trgm", "pgcrypto", "xml2")


@pytest.fixture(scope="module")
def server(require: Require) -> Iterator[PostgreSQL]:
    with postgresql(require) as server:
        there = {name for (name,) in server.admin("SELECT name FROM pg_available_extensions")}
        require("postgres", there.issuperset(EXTENSIONS), "PostgreSQL has none of its extensions")
        for name in EXTENSIONS:
            server.admin(f"CREATE EXTENSION {name}")
        server.admin("CREATE INDEX customers_brin ON customers USING brin (id)")
        server.admin("CREATE FUNCTION paid() RETURNS bigint LANGUAGE sql AS 'SELECT 7::bigint'")
        server.admin(
            "CREATE FUNCTION listed(text) RETURNS SETOF text LANGUAGE internal AS 'pg_ls_dir_1arg'"
        )
        server.admin("CREATE FUNCTION fetched(text) RETURNS text LANGUAGE sql AS 'SELECT $1'")
        server.admin("ALTER EXTENSION xml2 ADD FUNCTION fetched(text)")
        yield server


@pytest.mark.rows("S-49")
@pytest.mark.parametrize("mutations", [False, True])
@pytest.mark.parametrize(
    ("sql", "name"),
    [
        ("SELECT brin_summarize_new_values('customers_brin')", "brin_summarize_new_values"),
        ("SELECT brin_desummarize_range('customers_brin', 0)", "brin_desummarize_range"),
        ("SELECT brin_summarize_range('customers_brin', 0)", "brin_summarize_range"),
        ("SELECT gin_clean_pending_list('customers_brin')", "gin_clean_pending_list"),
        ("SELECT pg_nextoid('pg_class', 'oid', 'pg_class_oid_index')", "pg_nextoid"),
        ("SELECT pg_stop_making_pinned_objects()", "pg_stop_making_pinned_objects"),
        ("SELECT pg_read_file('PG_VERSION')", "pg_read_file"),
        ("SELECT pg_catalog.\"pg_ls_dir\"('/')", "pg_ls_dir"),
        ("SELECT ('PG_VERSION'::text).pg_read_file", "pg_read_file"),
        ("EXPLAIN ANALYZE SELECT PG_READ_FILE('PG_VERSION')", "pg_read_file"),
        ("SELECT lo_import('/etc/hostname')", "lo_import"),
        ("SELECT lo_get(1)", "lo_get"),
        ("SELECT set_config('transaction_read_only', 'off', false)", "set_config"),
        ("SELECT pg_notify('a', 'b')", "pg_notify"),
        ("SELECT pg_terminate_backend(0)", "pg_terminate_backend"),
        ("SELECT pg_advisory_lock(1)", "pg_advisory_lock"),
        ("SELECT query_to_xml('SELECT 1', true, true, '')", "query_to_xml"),
        ("SELECT cursor_to_xml('c', 1, true, true, '')", "cursor_to_xml"),
        ("SELECT ts_rewrite('a'::tsquery, 'SELECT 1')", "ts_rewrite"),
        ("SELECT pg_hba_file_rules()", "pg_hba_file_rules"),
        ("SELECT pg_show_all_file_settings()", "pg_show_all_file_settings"),
        ("SELECT * FROM dblink('host=x', 'SELECT 1') AS x(a int)", "dblink"),
        ("SELECT pg_stat_statements_reset()", "pg_stat_statements_reset"),
        ("SELECT heap_force_kill('customers', ARRAY['(0,1)'::tid])", "heap_force_kill"),
        ("SELECT xslt_process('<a/>', '<b/>')", "xslt_process"),
        ("SELECT listed('/')", "listed"),
        ("SELECT fetched('x')", "fetched"),
    ],
)
async def test_no_function_with_effects_is_called(
    server: PostgreSQL, sql: str, name: str, mutations: bool
) -> None:
    output = await query(server.handler(mutations=mutations), sql)
    assert not output.success
    assert re.search(rf"^Query blocked: (the function )?{name} is not for agents", output.content)


@pytest.mark.rows("S-49")
@pytest.mark.parametrize(
    "sql",
    [
        "SELECT random(), clock_timestamp(), gen_random_uuid(), lower('A'), now(), paid()",
        "SELECT pg_total_relation_size('customers'), pg_is_in_recovery()",
        "SELECT similarity('a', 'b'), encode(gen_random_bytes(3), 'hex')",
        "SELECT id FROM customers TABLESAMPLE system (100)",
        "SELECT * FROM pg_locks",
        "SELECT x.random FROM (SELECT 1 AS random) AS x",
    ],
)
async def test_functions_that_read_are_called(server: PostgreSQL, sql: str) -> None:
    output = await query(server.handler(), sql)
    assert output.success, output.content


async def test_a_sequence_is_counted_on_where_databases_may_be_changed(server: PostgreSQL) -> None:
    sql = "SELECT nextval('orders_id_seq')"
    assert (await query(server.handler(mutations=True), sql)).success
    output = await query(server.handler(), sql)
    assert "read-only transaction" in output.content


@pytest.mark.rows("S-49")
async def test_no_view_of_the_system_calls_what_may_not_be_called(server: PostgreSQL) -> None:
    """But for those that tell what the server has in its memory."""
    functions = server.admin(
        "SELECT proname FROM pg_proc WHERE provolatile = 'v'"
        " AND pronamespace = 'pg_catalog'::regnamespace"
    )
    refused = {name for (name,) in functions} - HARMLESS
    views = server.admin(
        "SELECT viewname, definition FROM pg_views"
        " WHERE schemaname IN ('pg_catalog', 'information_schema')"
    )
    calling = {view for view, text in views if not refused.isdisjoint(re.findall(r"(\w+)\(", text))}
    in_memory = {
        "pg_backend_memory_contexts", "pg_replication_origin_status", "pg_shmem_allocations",
        "pg_shmem_allocations_numa", "pg_stat_recovery_prefetch", "pg_stat_xact_all_tables",
        "pg_stat_xact_user_functions",
    }  # fmt: skip
    for view in calling - in_memory:
        output = await query(server.handler(), f"SELECT * FROM {view}")
        assert output.content == f"Query blocked: {view} is not for agents"

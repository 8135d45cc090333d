"""The toolkit `catalog` on a real PostgreSQL server: a catalog there, and a database to read."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from typing import TYPE_CHECKING, Any

import pytest

from paddock import SessionError, ToolError, create_runtime
from paddock.runtime.orchestration.catalog.data import open_data
from paddock.runtime.orchestration.catalog.target import TargetDatabase
from paddock.runtime.orchestration.data_environment import read_data_environment
from paddock.runtime.orchestration.define import (
    define_coordinator,
    define_runtime,
    define_specialist,
    define_tenant,
)
from paddock.runtime.tools.sql.urls import postgres_at
from tests.e2e.sql_served import PASSWORD, postgresql

if TYPE_CHECKING:
    from collections.abc import Iterator

    from paddock.runtime.orchestration.catalog.base import Catalog
    from tests.conftest import Require
    from tests.e2e.sql_served import PostgreSQL

pytestmark = pytest.mark.rows("F-32", "F-33")

PATIENCE = 60.0
"""Seconds for what takes one, on a machine that is very busy."""


@pytest.fixture(scope="module")
def server(require: Require) -> Iterator[PostgreSQL]:
    with postgresql(require) as server:
        server.admin("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
        server.admin("CREATE ROLE reader LOGIN")
        server.admin("GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader")
        server.admin("GRANT USAGE ON SCHEMA archive TO reader")
        server.admin("GRANT SELECT ON archive.old TO reader")
        yield server


def url(server: PostgreSQL, role: str = "reader") -> str:
    return f"postgresql://{role}:{PASSWORD}@/postgres?host={server.home}"


def target(server: PostgreSQL, **changes: Any) -> TargetDatabase:
    where = url(server)
    config = dataclasses.replace(postgres_at(where, what="test"), **changes)
    return TargetDatabase(config, url=where, key="target_database_url")


class TestTheDatabase:
    async def test_parameters_percent_signs_and_types(self, server: PostgreSQL) -> None:
        sql = (
            "SELECT name, 7 % 4 AS rest, id::text, 9.50::numeric AS price, '{\"a\": 1}'::jsonb AS"
            " j, NULL AS nothing, '\\x00ff'::bytea AS b, 'NaN'::float8 AS n, ARRAY[1, 2] AS l"
            " FROM customers WHERE id = :id AND name LIKE '%' || :end"
        )
        found = await target(server).query(sql, {"id": 7, "end": "r 7"}, 5)
        row = ["customer 7", 3, "7", "9.50", '{"a": 1}', None, "0x00ff", "nan", "{1,2}"]
        assert (found["rows"], found["truncated"]) == ([row], False)
        again = await target(server).query("SELECT $2::int - $1::int AS n, '$1'", [3, 10], 5)
        assert again["rows"] == [[7, "$1"]]

    async def test_a_table_of_another_schema_is_sampled(self, server: PostgreSQL) -> None:
        found = await target(server).sample(["customers"], ["id"], 3)
        assert (found["rows"], found["truncated"]) == ([[1], [2], [3]], True)
        assert (await target(server).sample(["archive", "old"], [], 3))["columns"] == ["at"]
        with pytest.raises(ToolError, match='relation "old" does not exist'):
            await target(server).sample(["old"], [], 3)
        assert (await target(server, schema="archive").sample(["old"], [], 3))["rows"] == []

    async def test_endless_rows_are_cut_and_endless_queries_end(self, server: PostgreSQL) -> None:
        found = await target(server).query(server.many_rows, None, 10)
        assert (found["row_count"], found["truncated"]) == (10, True)
        long = "SELECT repeat('x', 50000000) AS a FROM generate_series(1, 1000)"
        found = await target(server).query(long, None, 1000)
        assert found["truncated"]
        assert len(json.dumps(found)) < 300_000
        with pytest.raises(ToolError, match="canceling statement due to statement timeout"):
            await target(server, timeout=1).query(server.endless, None, 10)
        assert await asyncio.to_thread(server.at_work) == []

    async def test_a_query_that_is_cancelled_stops_on_the_server(self, server: PostgreSQL) -> None:
        running = asyncio.create_task(target(server).query(server.endless, None, 10))
        await server.until(1)
        running.cancel()
        async with asyncio.timeout(PATIENCE):
            with pytest.raises(asyncio.CancelledError):
                await running
        assert await asyncio.to_thread(server.at_work) == []

    async def test_what_the_parser_refuses_for_its_effects(self, server: PostgreSQL) -> None:
        with pytest.raises(ToolError, match="Query blocked: the function lo_from_bytea is not for"):
            await target(server).query("SELECT lo_from_bytea(0, 'x')", None, 10)

    async def test_no_error_has_the_password(self, server: PostgreSQL) -> None:
        with pytest.raises(ToolError, match=r'column "\*\*\*" does not exist'):
            await target(server).query(f'SELECT "{PASSWORD}"', None, 10)
        with pytest.raises(ToolError, match="PostgreSQL says: ") as caught:
            await target(server, host="/nowhere").query("SELECT 1", None, 10)
        assert PASSWORD not in f"{caught.value} {caught.value!r}"

    async def test_an_agent_asks_by_the_runtime(
        self, server: PostgreSQL, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("WAREHOUSE", url(server))
        spec = define_runtime(
            define_tenant("acme", "v1"),
            agents=[
                define_coordinator("lead", model="claude-test", prompt="-", routes=["analyst"]),
                define_specialist("analyst", model="claude-test", prompt="-", toolkits=["catalog"]),
            ],
            providers={"anthropic": {"apiKeyEnv": "ANTHROPIC_API_KEY"}},
        )
        environment = {
            "target_database": {"kind": "postgres", "urlEnv": "WAREHOUSE", "schema": "public"}
        }
        calls = [{"tool": "execute_query", "args": {"sql": "SELECT min(id) FROM customers"}}]
        async with create_runtime(
            spec, interpreter="scripted", data_environment=environment
        ) as runtime:
            stream = runtime.run_specialist("analyst", json.dumps({"script": calls}))
            events = [event async for event in stream]
        (found,) = [event["result"] for event in events if "result" in event]
        assert found["rows"] == [[1]]
        assert PASSWORD not in json.dumps(events)


class TestACatalog:
    def catalog(self, server: PostgreSQL, role: str = "admin", **changes: Any) -> Catalog:
        given = {"kind": "postgres", "url": url(server, role), "table": "kept", **changes}
        environment = read_data_environment({"catalog": given, "workspace_id": "w"}, tenant="acme")
        catalog = open_data(environment, tenant="acme").catalog
        assert catalog is not None
        return catalog

    @pytest.fixture
    async def filled(self, server: PostgreSQL) -> None:
        assert await self.catalog(server, ensure_schema=True).get(["x"]) == {}
        rows = [
            ("acme", "table:orders", "table", "orders", "main.orders", '["metric:revenue"]'),
            ("acme", "column:price", "column", "price", "main.orders.price", "[]"),
            ("acme", "metric:revenue", "metric", "monthly_revenue", "",
             '[{"id": "column:price", "by": "sum"}]'),
            ("evil", "metric:theirs", "metric", "monthly_revenue", "", "[]"),
        ]  # fmt: skip
        for tenant, entry, kind, name, full_name, related in rows:
            server.admin(
                "INSERT INTO kept (tenant, workspace, id, item_type, name, qualified_name, related,"
                f" tags) VALUES ('{tenant}', 'w', '{entry}', '{kind}', '{name}', '{full_name}',"
                f" '{related}', '[\"sales\"]') ON CONFLICT DO NOTHING"
            )
        server.admin("GRANT SELECT ON kept TO reader")

    @pytest.mark.usefixtures("filled")
    async def test_it_is_searched_by_the_server(self, server: PostgreSQL) -> None:
        catalog = self.catalog(server, "reader")
        found = await catalog.search(["revenues", "orders"], [], 10)
        assert {entry.id for entry, _ in found} == {
            "table:orders", "column:price", "metric:revenue",
        }  # fmt: skip
        found = await catalog.search(["revenue", "order"], ["metric"], 10)
        assert [entry.id for entry, _ in found] == ["metric:revenue"]
        assert len(await catalog.search(["sale"], [], 1)) == 1

    @pytest.mark.usefixtures("filled")
    async def test_entries_columns_and_relations_are_those_of_the_tenant(
        self, server: PostgreSQL
    ) -> None:
        catalog = self.catalog(server, "reader")
        found = await catalog.get(["main.orders", "metric:theirs", "column:price"])
        assert [*found] == ["main.orders", "column:price"]
        columns = await catalog.columns(found["main.orders"], 10)
        assert [entry.id for entry in columns] == ["column:price"]
        links = await catalog.links(["metric:revenue"], 10)
        assert [(each.source, each.target, each.about) for each in links] == [
            ("metric:revenue", "column:price", {"by": "sum"}),
            ("table:orders", "metric:revenue", {}),
        ]

    async def test_a_table_that_is_missing_is_an_error_without_the_password(
        self, server: PostgreSQL
    ) -> None:
        with pytest.raises(SessionError, match='relation "nothing" does not exist') as caught:
            await self.catalog(server, table="nothing").get(["x"])
        assert PASSWORD not in str(caught.value)

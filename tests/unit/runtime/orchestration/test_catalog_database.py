"""The tools of the toolkit `catalog` that read a database: F-32 over one of SQLite, and what they
say when something is missing."""

from __future__ import annotations

import dataclasses
import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from paddock import ConfigError, ToolError, create_runtime
from paddock.runtime.orchestration.catalog.target import TargetDatabase
from paddock.runtime.tools.sql.urls import sqlite_at
from tests.unit.runtime.orchestration.catalogs import INLINE, answer, make_shop, team

if TYPE_CHECKING:
    from pathlib import Path


pytestmark = pytest.mark.rows("F-32")


@pytest.fixture
def shop(tmp_path: Path) -> dict[str, Any]:
    return make_shop(tmp_path)


class TestTheDatabase:
    async def test_rows_come_as_json(self, shop: Any) -> None:
        found = await answer(shop, "execute_query", sql="SELECT * FROM orders ORDER BY id")
        assert found == {
            "columns": ["id", "price", "note", "image"],
            "rows": [[1, 9.5, "rope", "0x00ff"], [2, 4.0, None, None]],
            "row_count": 2,
            "truncated": False,
        }

    @pytest.mark.parametrize(
        ("sql", "params"),
        [
            ("SELECT id FROM orders WHERE price > :least AND note = :note",
             {"least": 5, "note": "rope"}),
            ("SELECT id FROM orders WHERE price > ? AND note = ?", [5, "rope"]),
            ("WITH x AS (SELECT id FROM orders) SELECT id FROM x LIMIT :n", {"n": 1}),
        ],
    )  # fmt: skip
    async def test_parameters_are_values(self, shop: Any, sql: str, params: Any) -> None:
        assert (await answer(shop, "execute_query", sql=sql, params=params))["rows"] == [[1]]
        note = {"note": "x'; DELETE FROM orders; --"}
        asked = "SELECT count(*) FROM orders WHERE note = :note"
        assert (await answer(shop, "execute_query", sql=asked, params=note))["rows"] == [[0]]

    async def test_a_text_that_is_no_utf_8_is_shown_all_the_same(self, shop: Any) -> None:
        found = await answer(shop, "execute_query", sql="SELECT CAST(x'41ff42' AS TEXT) AS x")
        assert found["rows"] == [["A\ufffdB"]]

    async def test_a_limit_cuts_rows(self, shop: Any) -> None:
        found = await answer(shop, "execute_query", sql="SELECT id FROM orders", limit=1)
        assert (found["row_count"], found["truncated"]) == (1, True)

    @pytest.mark.parametrize(
        ("sql", "problem"),
        [
            ("DELETE FROM orders", "Query blocked: DELETE changes the database"),
            ("PRAGMA user_version", "Query blocked: PRAGMA is not sent: write SELECT or WITH"),
            ("EXPLAIN SELECT 1", "Query blocked: EXPLAIN is not sent"),
            ("VALUES (1)", "Query blocked: VALUES is not sent"),
            ("SELECT 1; SELECT 2", "Query blocked: it is more than one statement"),
            ("SELECT missing FROM orders", "SQLite says: no such column: missing"),
        ],
    )
    async def test_what_is_no_query_is_refused(self, shop: Any, sql: str, problem: str) -> None:
        found = await answer(shop, "execute_query", sql=sql)
        assert found["error"].startswith(problem)

    @pytest.mark.parametrize("params", [{"a b": 1}, {"a": [1]}, {"a": {"b": 1}}])
    async def test_other_parameters_are_refused(self, shop: Any, params: Any) -> None:
        found = await answer(shop, "execute_query", sql="SELECT :a", params=params)
        assert "parameter" in found["error"]

    async def test_tables_are_sampled_by_their_entry_or_name(self, shop: Any) -> None:
        first = [[1, 9.5, "rope", "0x00ff"]]
        for table in ("table:orders", "main.orders", "orders"):
            found = await answer(shop | INLINE, "sample_table_data", table=table, limit=1)
            assert (found["rows"], found["truncated"]) == (first, True)
        found = await answer(shop, "sample_table_data", table="orders", columns=["note", "id"])
        assert found["columns"] == ["note", "id"]
        odd = await answer(shop, "sample_table_data", table="we`ird; name")
        assert odd["rows"] == [["9007199254740993"]]

    @pytest.mark.parametrize(
        ("given", "problem"),
        [
            ({"table": "nothing"}, "no such table: nothing"),
            ({"table": "orders; DELETE FROM orders"}, "no such table"),
            ({"table": "orders", "columns": ["id FROM orders --"]}, "no such column"),
            ({"table": "metric:revenue"}, "metric:revenue is no table but a metric"),
            ({"table": ""}, "is empty"),
        ],
    )
    async def test_what_is_no_table_is_an_error(self, shop: Any, given: Any, problem: str) -> None:
        found = await answer(shop | INLINE, "sample_table_data", **given)
        assert problem in found["error"]

    async def test_long_results_are_cut(self, shop: Any) -> None:
        long = "SELECT replace(hex(zeroblob(30000)), '00', 'abcd') AS a, 1 AS b"
        rows = f"WITH n(n) AS (VALUES (1), (2), (3)) SELECT q.* FROM n, ({long}) AS q"
        found = await answer(shop, "execute_query", sql=rows)
        assert found["truncated"]
        assert len(json.dumps(found)) < 300_000

    async def test_endless_queries_end(self, shop: Any) -> None:
        url = shop["target_database_url"]
        config = dataclasses.replace(sqlite_at(url, what="test"), timeout=1)
        target = TargetDatabase(config, url=url, key="target_database_url")
        endless = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c)"
        found = await target.query(f"{endless} SELECT x FROM c", None, 10)
        assert (found["row_count"], found["truncated"]) == (10, True)
        with pytest.raises(ToolError, match="Stopped after 1 s: it took too long"):
            await target.query(f"{endless} SELECT count(*) FROM c", None, 10)


class TestWhatIsMissing:
    @pytest.mark.rows("F-15")
    @pytest.mark.parametrize(
        ("tools", "environment", "keys"),
        [
            (None, {}, "data_environment.catalog and data_environment.target_database"),
            (
                ["search_catalog"],
                {"target_database_url": "sqlite:x.db"},
                "data_environment.catalog",
            ),
            (["execute_query"], INLINE, "data_environment.target_database"),
        ],
    )
    @pytest.mark.parametrize("interpreter", ["noop", "scripted"])
    def test_a_runtime_says_at_once_that_a_toolkit_has_nothing_to_work_with(
        self, tools: Any, environment: Any, keys: str, interpreter: str
    ) -> None:
        toolkit = "catalog" if tools is None else {"id": "catalog", "config": {"tools": tools}}
        with pytest.raises(ConfigError, match=rf"^agent 'analyst' has .* its tools need {keys}:"):
            create_runtime(team(toolkit), interpreter=interpreter, data_environment=environment)

    @pytest.mark.parametrize(
        ("tool", "arguments"),
        [
            ("search_catalog", {"query": "x"}),
            ("get_catalog_entities", {"refs": ["x"]}),
            ("list_schema_fields", {"tables": ["x"]}),
            ("get_catalog_relations", {"refs": ["x"]}),
            ("get_relation_paths_between", {"start": "x", "end": "y"}),
        ],
    )
    async def test_a_tool_names_the_key_of_the_catalog(
        self, shop: Any, tool: str, arguments: Any
    ) -> None:
        found = await answer(shop, tool, **arguments)
        wanted = f"{tool} needs data_environment.catalog, which this runtime was not given"
        assert found == {"error": wanted}
        assert "error" not in await answer({"catalog": "empty"}, tool, **arguments)

    @pytest.mark.parametrize(
        ("tool", "arguments"),
        [("sample_table_data", {"table": "x"}), ("execute_query", {"sql": "SELECT 1"})],
    )
    async def test_a_tool_names_the_key_of_the_database(self, tool: str, arguments: Any) -> None:
        found = await answer(INLINE, tool, **arguments)
        assert found["error"].startswith(f"{tool} needs data_environment.target_database,")

    async def test_a_file_that_is_missing_is_not_made(self, tmp_path: Path) -> None:
        given = {"target_database_url": f"sqlite:{tmp_path}/shop.db"}
        found = await answer(given, "execute_query", sql="SELECT 1")
        assert found == {"error": "data_environment.target_database_url: there is no such file"}
        assert os.listdir(tmp_path) == []

    @pytest.mark.parametrize(
        ("entry", "problem"),
        [
            ({"itemType": "table", "name": "a"}, r"entries\[1\]: id: Field required"),
            ({"id": "b", "itemType": "tables", "name": "a"}, r"entries\[1\]: itemType: "),
            ({"id": "b", "itemType": "table", "name": "a", "more": 1}, r"entries\[1\]: more: "),
            ({"id": "a", "itemType": "table", "name": "a"}, "the id 'a' is there twice"),
            (
                {"id": "b", "itemType": "table", "name": "a", "metadata": {"a": float("nan")}},
                "JSON cannot hold it",
            ),
        ],
    )
    def test_a_wrong_entry_is_an_error_that_says_which(self, entry: Any, problem: str) -> None:
        entries = [{"id": "a", "itemType": "table", "name": "a"}, entry]
        with pytest.raises(ConfigError, match=problem):
            create_runtime(
                team(), data_environment={"catalog": {"kind": "inline", "entries": entries}}
            )

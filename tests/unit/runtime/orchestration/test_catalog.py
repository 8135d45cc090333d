"""The toolkit `catalog`: F-32 over entries that are given or in a file, and a SQLite database."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from typing import TYPE_CHECKING, Any

import pytest

from paddock import create_runtime
from paddock.runtime.orchestration.catalog.data import open_data
from paddock.runtime.orchestration.data_environment import read_data_environment
from tests.unit.runtime.orchestration.catalogs import ENTRIES, INLINE, answer, make_shop, team
from tests.unit.runtime.orchestration.teams import (
    call,
    of_type,
    results,
    script,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


pytestmark = pytest.mark.rows("F-32")
SUMMARY = {"id", "itemType", "name", "qualified_name"}


def ids(found: Sequence[dict[str, Any]]) -> list[str]:
    return [each["id"] for each in found]


class TestSearching:
    async def test_entries_are_found_by_their_words_the_best_first(self) -> None:
        found = await answer(INLINE, "search_catalog", query="Which revenue did ORDERS bring?")
        assert set(ids(found["results"][:2])) == {"metric:revenue", "table:orders"}
        assert found["results"][0].keys() == SUMMARY | {"content", "tags", "score"}
        scores = [each["score"] for each in found["results"]]
        assert scores == sorted(scores, reverse=True)
        assert not found["truncated"]

    @pytest.mark.parametrize(
        ("query", "kinds", "found"),
        [
            ("price", None, {"column:orders.price", "metric:revenue"}),
            ("price", ["metric"], {"metric:revenue"}),
            ("customer", [], {"table:customers", "table:orders"}),
            ("hand", None, {"document:finance"}),
            ('"main" OR (orders NEAR -', ["table"], {"table:orders", "table:customers"}),
            ("zebra", None, set()),
        ],
    )
    async def test_kinds_beginnings_and_signs(
        self, query: str, kinds: list[str] | None, found: set[str]
    ) -> None:
        given = {"query": query} if kinds is None else {"query": query, "kinds": kinds}
        assert set(ids((await answer(INLINE, "search_catalog", **given))["results"])) == found

    async def test_a_limit_is_kept_and_said(self) -> None:
        found = await answer(INLINE, "search_catalog", query="orders customers", limit=1)
        assert len(found["results"]) == 1
        assert found["truncated"]

    @pytest.mark.parametrize(
        ("given", "problem"),
        [
            ({"query": " ?! "}, "at least one word"),
            ({"query": "a", "kinds": ["tables"]}, "there is no kind 'tables'; the kinds are table"),
        ],
    )
    async def test_what_cannot_be_searched_is_an_error(self, given: Any, problem: str) -> None:
        assert problem in (await answer(INLINE, "search_catalog", **given))["error"]


class TestEntities:
    async def test_entries_come_whole_in_one_spelling_with_those_that_are_missing(self) -> None:
        refs = [{"id": "table:customers"}, "table:nowhere", {"id": "main.orders"}]
        found = await answer(INLINE, "get_catalog_entities", refs=refs)
        assert found == {
            "entities": [
                {
                    "id": "table:customers",
                    "itemType": "table",
                    "name": "customers",
                    "qualified_name": "main.customers",
                    "content": "Who buys.",
                    "tags": [],
                    "related": [],
                    "metadata": {},
                },
                ENTRIES[0],
            ],
            "missing": [{"id": "table:nowhere"}],
            "warnings": ["'main.orders' is no id; it is the qualified name of 'table:orders'"],
        }

    async def test_long_content_is_cut_with_a_warning(self) -> None:
        entry = {"id": "d", "itemType": "document", "name": "d", "content": "x" * 50_000}
        given = {"catalog": {"kind": "inline", "entries": [entry]}}
        found = await answer(given, "get_catalog_entities", refs=[{"id": "d"}])
        assert len(found["entities"][0]["content"]) == 20_000
        assert found["warnings"] == ["d: only the first 20000 of 50000 characters"]

    @pytest.mark.parametrize("refs", [[], [5], [{"name": "x"}], ["x"] * 101])
    async def test_other_references_are_an_error(self, refs: list[Any]) -> None:
        assert (await answer(INLINE, "get_catalog_entities", refs=refs)).keys() == {"error"}

    async def test_the_columns_of_tables(self) -> None:
        given = {"tables": ["main.orders", "table:customers", "metric:revenue", "nowhere"]}
        found = await answer(INLINE, "list_schema_fields", **given)
        assert set(ids(found["fields"])) == {"column:orders.price", "column:orders.id"}
        assert {each["table"] for each in found["fields"]} == {"main.orders"}
        assert found["missing"] == [{"id": "nowhere"}]
        assert "metric:revenue is no table but a metric" in found["warnings"]
        none = "table:customers: the catalog has none of its columns; sample_table_data shows those"
        assert any(warning.startswith(none) for warning in found["warnings"])
        cut = await answer(INLINE, "list_schema_fields", tables=["main.orders"], limit=1)
        assert (len(cut["fields"]), cut["truncated"]) == (1, True)


class TestRelations:
    async def test_relations_are_found_from_both_ends(self) -> None:
        found = await answer(INLINE, "get_catalog_relations", refs=["metric:revenue", "nothing"])
        assert found["relations"] == [
            {"source": "table:orders", "target": "metric:revenue", "about": {}},
            {"source": "metric:revenue", "target": "document:finance", "about": {}},
        ]
        assert found["entities"][0].keys() == SUMMARY
        assert found["missing"] == [{"id": "nothing"}]
        orders = await answer(INLINE, "get_catalog_relations", refs=["table:orders"], limit=2)
        assert orders["truncated"]
        assert orders["relations"][1]["about"] == {"by": "customer_id"}

    async def test_paths_are_the_shortest(self) -> None:
        given = {"start": {"id": "table:customers"}, "end": "document:finance"}
        found = await answer(INLINE, "get_relation_paths_between", **given)
        way = ["table:customers", "table:orders", "metric:revenue", "document:finance"]
        assert found["paths"] == [way]
        assert ids(found["entities"]) == way
        short = await answer(INLINE, "get_relation_paths_between", **given, max_depth=2)
        assert short["paths"] == []

    @pytest.mark.parametrize(
        ("start", "end", "paths", "missing"),
        [
            ("table:orders", "table:orders", [["table:orders"]], []),
            ("table:orders", "knowledge:alone", [], []),
            ("table:orders", "nowhere", [], [{"id": "nowhere"}]),
        ],
    )
    async def test_ends_that_are_the_same_apart_or_missing(
        self, start: str, end: str, paths: Any, missing: Any
    ) -> None:
        found = await answer(INLINE, "get_relation_paths_between", start=start, end=end)
        assert (found["paths"], found["missing"]) == (paths, missing)

    async def test_a_catalog_in_which_all_leads_everywhere_is_bounded(self) -> None:
        names = [f"t{number}" for number in range(60)]
        entries: list[dict[str, Any]] = [
            {"id": each, "itemType": "table", "name": each, "related": [*{*names} - {each, "t59"}]}
            for each in names
        ]
        given = {"catalog": {"kind": "inline", "entries": entries}}
        found = await answer(given, "get_relation_paths_between", start="t0", end="t59")
        assert found["paths"] == [["t0", "t59"]]
        del entries[59]["related"][entries[59]["related"].index("t0")]
        found = await answer(given, "get_relation_paths_between", start="t0", end="t59")
        assert (len(found["paths"]), found["truncated"]) == (10, True)


class TestToolkits:
    def test_the_toolkit_can_be_narrowed_and_its_names_are_reserved(self) -> None:
        narrow = team({"id": "catalog", "config": {"tools": ["search_catalog"]}})
        assert narrow.builtin_tools(narrow.agents[1]) == ("search_catalog",)
        assert len(team().builtin_tools(team().agents[1])) == 7
        with pytest.raises(ValueError, match="has no tool 'drop_table'"):
            team({"id": "catalog", "config": {"tools": ["drop_table"]}})

    async def test_its_tools_can_be_gated(self, tmp_path: Path) -> None:
        spec = team()
        gated = spec.agents[1].model_copy(update={"tool_approvals": {"execute_query": "always"}})
        spec = spec.model_copy(update={"agents": (spec.agents[0], gated)})
        events = []
        async with create_runtime(
            spec, interpreter="scripted", data_environment=make_shop(tmp_path)
        ) as runtime:
            prompt = script(call("execute_query", sql="SELECT 1 AS n"))
            async for event in runtime.run_specialist("analyst", prompt):
                events.append(event)
                if event["type"] == "approval-required":
                    assert event["data"]["payload"] == {"sql": "SELECT 1 AS n"}
                    await runtime.respond_to_approval(event["data"]["id"], "approve")
        assert results(events)[0]["rows"] == [[1]]
        assert len(of_type(events, "approval-decision")) == 1


class TestFiles:
    @pytest.fixture
    def file(self, tmp_path: Path) -> Path:
        return tmp_path / "data" / "catalog.db"

    def environment(self, file: Path, **changes: Any) -> dict[str, Any]:
        catalog = {"kind": "sqlite", "url": f"sqlite:{file}", "ensureSchema": True}
        return {"catalog": catalog, "workspaceId": "w", **changes}

    def add(self, file: Path, name: str, *, tenant: str = "acme", workspace: str = "w") -> None:
        with contextlib.closing(sqlite3.connect(file)) as connection, connection:
            connection.execute(
                "INSERT INTO paddock_catalog (tenant, workspace, id, item_type, name, related)"
                " VALUES (?, ?, ?, 'table', ?, '[\"x\"]')",
                (tenant, workspace, name, name),
            )

    async def found(self, environment: Any, query: str = "table") -> list[str]:
        return ids((await answer(environment, "search_catalog", query=query))["results"])

    async def test_a_file_is_made_and_has_the_entries_of_each_tenant_and_workspace(
        self, file: Path
    ) -> None:
        given = self.environment(file)
        assert await self.found(given) == []
        self.add(file, "table one")
        self.add(file, "table two", tenant="evil")
        self.add(file, "table three", workspace="other")
        assert await self.found(given) == ["table one"]
        assert os.stat(file).st_mode & 0o777 == 0o600

    async def test_without_ensure_schema_it_has_to_be_there(self, file: Path) -> None:
        given = self.environment(file)
        given["catalog"]["ensureSchema"] = False
        found = await answer(given, "search_catalog", query="x")
        assert "there is no such file; make it once with ensure_schema" in found["error"]
        assert os.listdir(file.parent.parent) == []

    async def test_a_wrong_row_is_named(self, file: Path) -> None:
        given = self.environment(file)
        await self.found(given)
        self.add(file, "table one")
        with contextlib.closing(sqlite3.connect(file)) as connection, connection:
            connection.execute("UPDATE paddock_catalog SET tags = 'sales'")
        found = await answer(given, "search_catalog", query="x")
        assert "the entry 'table one': its tags, related and metadata are JSON" in found["error"]

    @pytest.mark.parametrize("write_through", [False, True])
    async def test_the_index_follows_the_entries_if_it_is_to(
        self, file: Path, tmp_path: Path, write_through: bool
    ) -> None:
        search = {"index_path": str(tmp_path / "index"), "write_through": write_through}
        environment = read_data_environment(
            self.environment(file, catalog_search=search), tenant="acme"
        )
        catalog = open_data(environment, tenant="acme").needed("catalog", "test")
        assert await catalog.get(["one"]) == {}
        self.add(file, "one")
        assert [*await catalog.get(["one"])] == (["one"] if write_through else [])
        again = open_data(environment, tenant="acme").needed("catalog", "test")
        assert [*await again.get(["one"])] == ["one"]

    async def test_the_index_is_built_anew_if_it_is_to(self, tmp_path: Path) -> None:
        where = tmp_path / "index"
        search = {"index_path": str(where)}
        given: dict[str, Any] = INLINE | {"catalog_search": search}
        assert await self.found(given, "finance") == ["document:finance"]
        with contextlib.closing(sqlite3.connect(where)) as connection, connection:
            connection.execute("DELETE FROM catalog_words")
        assert await self.found(given, "finance") == []
        given["catalog_search"] = search | {"rebuild_on_start": True}
        assert await self.found(given, "finance") == ["document:finance"]

    async def test_an_index_is_shared_by_workspaces(self, tmp_path: Path) -> None:
        search = {"catalog_search": {"index_path": str(tmp_path)}}  # a directory gets a file
        other = [{"id": "o", "itemType": "metric", "name": "finance"}]
        other_catalog = {"catalog": {"kind": "inline", "entries": other}, "workspace_id": "b"}
        for _ in range(2):
            assert await self.found(INLINE | search, "finance") == ["document:finance"]
            assert await self.found(other_catalog | search, "finance") == ["o"]
        assert (tmp_path / "catalog.db").exists()

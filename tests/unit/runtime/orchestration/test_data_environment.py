"""`data_environment`: F-33, but for what the catalog reads, which is in `test_catalog.py`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from paddock import ConfigError, SessionError, create_runtime, normalize_data_environment
from paddock.runtime.orchestration.data_environment import read_data_environment
from paddock.runtime.orchestration.stores.memory import MemoryRuntimeStore
from paddock.runtime.orchestration.stores.postgres import PostgresRuntimeStore
from paddock.runtime.orchestration.stores.redis import RedisRuntimeStore
from paddock.runtime.orchestration.stores.sqlite import SqliteRuntimeStore
from tests.unit.runtime.orchestration.storing import SKU_SET
from tests.unit.runtime.orchestration.teams import team

if TYPE_CHECKING:
    from pathlib import Path

    from paddock import RuntimeStore

pytestmark = pytest.mark.rows("F-33")

VALUE = {"skus": ["s-1"]}


def opened(kv: Any) -> RuntimeStore:
    environment = read_data_environment({"kv": kv}, tenant="acme")
    assert environment.kv is not None
    return environment.kv.open()


WHOLE = {
    "tenant_id": "acme",
    "workspace_id": "analytics",
    "kv": {"kind": "postgres", "url_env": "KV_URL", "table": "kept", "ensure_schema": True},
    "target_database": {"kind": "postgres", "url_env": "WAREHOUSE", "schema": "public"},
    "catalog": {"kind": "inline", "entries": [{"itemType": "table", "qualified_name": "a.b"}]},
    "catalog_search": {"index_path": "index", "rebuild_on_start": True, "write_through": False},
}
CAMEL = {
    "tenantId": "acme",
    "workspaceId": "analytics",
    "kv": {"kind": "postgres", "urlEnv": "KV_URL", "table": "kept", "ensureSchema": True},
    "targetDatabase": {"kind": "postgres", "urlEnv": "WAREHOUSE", "schema": "public"},
    "catalog": {"kind": "inline", "entries": [{"itemType": "table", "qualified_name": "a.b"}]},
    "catalogSearch": {"indexPath": "index", "rebuildOnStart": True, "writeThrough": False},
}


class TestNormalizing:
    def test_both_spellings_give_camel_case_and_nothing_that_was_not_given(self) -> None:
        assert normalize_data_environment(WHOLE) == CAMEL
        assert normalize_data_environment(CAMEL) == CAMEL
        small = {"kv": {"kind": "sqlite", "url": "sqlite:.data/kv.db"}}
        assert normalize_data_environment(small) == small

    @pytest.mark.parametrize("empty", [None, {}, {"kv": None}])
    def test_what_says_nothing_is_none(self, empty: Any) -> None:
        assert normalize_data_environment(empty) is None

    @pytest.mark.parametrize(
        ("given", "problem"),
        [
            ({"kvs": {}}, "kvs: Extra inputs are not permitted"),
            ({"kv": {"kind": "mysql", "url": "secret"}}, "kv: .*'mysql'"),
            ({"kv": {"kind": "redis"}}, "give one of url and url_env"),
            ({"kv": {"kind": "redis", "url": "secret", "url_env": "X"}}, "give one of url"),
            ({"kv": {"kind": "memory", "url": "secret"}}, "kv.memory.url: Extra inputs"),
            ({"tenant_id": " "}, "tenant_id: "),
            (
                {
                    "target_database": {"kind": "sqlite", "url": "secret"},
                    "target_database_url": "secret",
                },
                "give one of target_database and target_database_url",
            ),
            ({"catalog": {"kind": "inline"}}, "catalog.inline.entries: Field required"),
        ],
    )
    def test_anything_else_is_an_error_that_names_the_key(self, given: Any, problem: str) -> None:
        with pytest.raises(ConfigError, match=problem) as caught:
            normalize_data_environment(given)
        assert "secret" not in f"{caught.value} {caught.value!r}"
        assert caught.value.__cause__ is None

    @pytest.mark.parametrize("given", ["kv", 5, []])
    def test_what_is_no_mapping_is_refused(self, given: Any) -> None:
        with pytest.raises(TypeError, match="data_environment is a mapping"):
            normalize_data_environment(given)


class TestStores:
    async def test_each_kind_is_opened(self, tmp_path: Path) -> None:
        file = {"kind": "sqlite", "url": f"sqlite:{tmp_path}/kv.db"}
        table = {"kind": "postgres", "url": "postgresql://admin:secret@127.0.0.1:1/db"}
        keys = {"kind": "redis", "url": "redis://admin:secret@127.0.0.1:1/0"}
        stores = [opened(kv) for kv in ("memory", file, table, keys)]
        kinds = [MemoryRuntimeStore, SqliteRuntimeStore, PostgresRuntimeStore, RedisRuntimeStore]
        assert [type(store) for store in stores] == kinds
        assert stores[1].path == tmp_path / "kv.db"
        for store in stores:
            await store.aclose()

    def test_the_variable_has_the_url_and_its_absence_is_an_error(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        kv = {"kind": "sqlite", "urlEnv": "KV_URL"}
        monkeypatch.delenv("KV_URL", raising=False)
        with pytest.raises(ConfigError, match="the environment variable KV_URL is not set"):
            opened(kv)
        monkeypatch.setenv("KV_URL", f"sqlite:{tmp_path}/kv.db")
        assert opened(kv).path == tmp_path / "kv.db"

    @pytest.mark.parametrize("kind", ["sqlite", "postgres", "redis"])
    def test_a_url_of_another_kind_is_refused_and_not_shown(self, kind: str) -> None:
        with pytest.raises(ConfigError, match=f"the URL of {kind} begins with") as caught:
            opened({"kind": kind, "url": "mysql://admin:secret@host/db"})
        assert "secret" not in str(caught.value)

    def test_a_file_that_is_not_to_be_made_has_to_be_there(self, tmp_path: Path) -> None:
        kv = {"kind": "sqlite", "url": f"sqlite:{tmp_path}/kv.db"}
        with pytest.raises(SessionError, match="make it once with ensure_schema"):
            opened(kv | {"ensure_schema": False}).tenants()
        assert list(tmp_path.iterdir()) == []
        opened(kv).tenants()
        assert opened(kv | {"ensure_schema": False}).tenants() == []

    def test_no_representation_has_a_url(self) -> None:
        kv = {"kind": "redis", "url": "redis://admin:secret@host/0"}
        assert "secret" not in repr(read_data_environment({"kv": kv}, tenant="acme"))


class TestRuntimes:
    async def test_a_runtime_keeps_what_it_remembers_in_the_kv(self, tmp_path: Path) -> None:
        environment = {"kv": {"kind": "sqlite", "url": f"sqlite:{tmp_path}/kv.db"}}
        spec = team(references=[SKU_SET])
        async with create_runtime(spec, data_environment=environment) as first:
            ref = await first.create_reference("SkuSet", VALUE)
        async with create_runtime(spec, store=f"sqlite:{tmp_path}/kv.db") as second:
            assert await second.resolve_reference(ref) == VALUE
        async with create_runtime(spec, store="memory:", data_environment=environment) as third:
            with pytest.raises(RuntimeError, match="cannot be resolved"):
                await third.resolve_reference(ref)

    def test_it_is_for_the_tenant_of_the_runtime(self) -> None:
        create_runtime(team(), data_environment={"tenant_id": "acme"})
        with pytest.raises(ValueError, match="tenant_id is 'evil', and the runtime's tenant is"):
            create_runtime(team(), data_environment={"tenant_id": "evil"})

    @pytest.mark.parametrize(
        ("given", "problem"),
        [
            ({"target_database_url": "mysql://admin:secret@host/db"}, "target_database_url: give"),
            (
                {"target_database": {"kind": "sqlite", "url": "postgresql://admin:secret@host"}},
                "data_environment.target_database: give sqlite:PATH",
            ),
            ({"target_database_schema": "public"}, "there is no target_database that has it"),
            (
                {"target_database_url": "sqlite:a.db", "target_database_schema": "public"},
                "a SQLite database has no schema",
            ),
            (
                {
                    "target_database": {
                        "kind": "postgres",
                        "url": "postgresql://admin:secret@host/db",
                        "schema": "a",
                    },
                    "target_database_schema": "b",
                },
                "differ; give one",
            ),
            (
                {"target_database_url": "postgresql://admin:secret@host:x/db"},
                "target_database_url: ",
            ),
            (
                {"target_database": {"kind": "postgres", "url_env": "PADDOCK_TEST_UNSET"}},
                "the environment variable PADDOCK_TEST_UNSET is not set",
            ),
            (
                {"catalog": {"kind": "postgres", "url": "mysql://admin:secret@host/db"}},
                "data_environment.catalog: give the URL of a PostgreSQL database",
            ),
            (
                {"catalog": {"kind": "postgres", "url": "postgresql://host/db", "table": 'a"b'}},
                "data_environment.catalog.table: ",
            ),
        ],
    )
    def test_data_that_cannot_be_used_is_an_error_without_the_url(
        self, given: Any, problem: str
    ) -> None:
        with pytest.raises(ConfigError, match=problem) as caught:
            create_runtime(team(), data_environment=given)
        assert "secret" not in f"{caught.value} {caught.value!r}"
        assert caught.value.__cause__ is None

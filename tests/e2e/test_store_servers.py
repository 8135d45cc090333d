"""The stores of the multi-agent runtime on real PostgreSQL and Redis servers."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from paddock import ConfigError, SessionError, open_store
from paddock.runtime.orchestration.stores.postgres import PostgresRuntimeStore
from paddock.runtime.orchestration.stores.redis import RedisRuntimeStore
from tests.e2e.sql_served import PASSWORD
from tests.e2e.stores_served import postgres, redis_server
from tests.unit.runtime.orchestration import (
    test_plans,
    test_plans_interrupted,
    test_references,
    test_resumed_runs,
    test_stores,
)
from tests.unit.runtime.orchestration.racing import (
    STEPS,
    check_that_one_of_eight_executes,
    check_what_a_kill_leaves,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from paddock import RuntimeStore
    from tests.e2e.stores_served import PostgresServer, RedisServer, StoreServer

pytestmark = pytest.mark.rows("F-33")

__all__ = ["postgres", "redis_server"]


@pytest.fixture(scope="module", params=["postgres", "redis_server"])
def server(request: pytest.FixtureRequest) -> StoreServer:
    found: StoreServer = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def reopen(server: StoreServer) -> Iterator[Callable[[], RuntimeStore]]:
    where, made = server.fresh(), []

    def reopen() -> RuntimeStore:
        made.append(open_store(where))
        return made[-1]

    yield reopen
    for store in made:
        asyncio.run(store.aclose())


@pytest.fixture
def store(server: StoreServer) -> str:
    return server.fresh()


TestRows = test_stores.TestRows
TestTenants = test_stores.TestTenants
TestRuns = test_stores.TestRuns
TestLife = test_plans.TestLife
TestInterrupted = test_plans_interrupted.TestInterrupted
test_values = test_references.test_a_value_is_given_back_whole_and_its_glimpse_alone
test_resumed = (
    test_resumed_runs.test_a_run_that_was_left_at_an_approval_is_continued_and_does_nothing_twice
)
test_approved = test_resumed_runs.test_the_approval_of_a_plan_survives_its_process
test_errors = test_references.test_there_are_five_errors_and_of_three_nobody_can_tell_which


def test_of_eight_processes_that_ask_at_once_one_executes(
    server: StoreServer, tmp_path: Path
) -> None:
    check_that_one_of_eight_executes(server.fresh(), tmp_path)


@pytest.mark.parametrize("step", STEPS[2:])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_process_that_is_killed_at_a_step_leaves_a_plan_that_runs_once_at_most(
    when: str, step: str, server: StoreServer, tmp_path: Path
) -> None:
    check_what_a_kill_leaves(server.fresh(), tmp_path, f"{when} {step}")


HIDDEN = (PASSWORD, "://", "admin:")
WRONG = {
    "postgres": [
        "postgresql://admin:{p}@127.0.0.1:1/db",
        "postgresql://admin:{p}@127.0.0.1:one/db",
        "postgresql://admin:{p}@localhost/db?nonsense={p}",
    ],
    "redis": [
        "redis://admin:{p}@127.0.0.1:1/0",
        "redis://admin:{p}@127.0.0.1:one/0",
        "redis://admin:{p}@127.0.0.1:1/0?socket_timeout={p}",
    ],
}


@pytest.mark.parametrize("where", [each for kind in WRONG.values() for each in kind])
def test_no_error_and_no_representation_has_the_url(where: str) -> None:
    with pytest.raises((ConfigError, SessionError)) as caught:
        store = open_store(where.format(p=PASSWORD))
        assert not any(hidden in repr(store) for hidden in HIDDEN)
        store.tenants()
    assert not any(hidden in f"{caught.value!r} {caught.value}" for hidden in HIDDEN)
    assert caught.value.__cause__ is None


async def test_a_store_goes_on_when_the_server_has_closed_its_connections(
    server: StoreServer, reopen: Callable[[], RuntimeStore]
) -> None:
    store = reopen()
    store.transact("acme", test_stores.write, writing=True)
    server.cut()
    store.transact("acme", test_stores.write, writing=True)
    assert store.tenants() == ["acme"]


class TestPostgres:
    async def test_the_table_is_made_only_where_that_is_asked_for(
        self, postgres: PostgresServer
    ) -> None:
        where = postgres.fresh()
        store = PostgresRuntimeStore(where)
        with pytest.raises(SessionError, match="it is not there; make it once with ensure_schema"):
            store.tenants()
        store.ensure_schema()
        assert store.tenants() == []
        again = PostgresRuntimeStore(where)
        assert again.tenants() == []
        other = PostgresRuntimeStore(where, table="Order", ensure_schema=True)
        other.transact("acme", test_stores.write, writing=True)
        assert (other.tenants(), store.tenants()) == (["acme"], [])
        for each in (store, again, other):
            await each.aclose()

    async def test_a_table_that_is_not_ours_is_refused_and_stays(
        self, postgres: PostgresServer
    ) -> None:
        where = postgres.fresh()
        postgres.execute(where, "CREATE TABLE paddock_kept (mine text)")
        store = PostgresRuntimeStore(where, ensure_schema=True)
        with pytest.raises(SessionError, match="it is not ours, or is newer"):
            store.tenants()
        await store.aclose()

    @pytest.mark.parametrize("table", ["", "a b", 'a"b', "a.b", "x" * 60])
    def test_a_name_that_is_no_table_is_refused(self, table: str) -> None:
        with pytest.raises(ConfigError, match="give a name of letters"):
            PostgresRuntimeStore("postgresql:///db", table=table)


class TestRedis:
    async def test_a_server_that_may_evict_rows_is_refused(self, redis_server: RedisServer) -> None:
        store = RedisRuntimeStore(redis_server.fresh())
        redis_server.configure("maxmemory", "100mb")
        redis_server.configure("maxmemory-policy", "allkeys-lru")
        with pytest.raises(SessionError, match="set its maxmemory-policy to noeviction"):
            store.transact("acme", test_stores.write, writing=True)
        redis_server.configure("maxmemory-policy", "noeviction")
        store.transact("acme", test_stores.write, writing=True)
        await store.aclose()

    async def test_rows_of_another_version_and_of_another_prefix_stay(
        self, redis_server: RedisServer
    ) -> None:
        where = redis_server.fresh()
        one, two = RedisRuntimeStore(where), RedisRuntimeStore(where, prefix="other")
        redis_server.put("other:version", "7")
        one.transact("acme", test_stores.write, writing=True)
        with pytest.raises(SessionError, match="have version b'7'"):
            two.tenants()
        third = RedisRuntimeStore(where, prefix="third")
        assert third.tenants() == []
        for each in (one, two, third):
            await each.aclose()


@pytest.mark.parametrize("prefix", ["", "a b", "*", "x" * 101])
def test_a_prefix_that_is_a_pattern_is_refused(prefix: str) -> None:
    with pytest.raises(ConfigError, match="prefix"):
        RedisRuntimeStore("redis://127.0.0.1", prefix=prefix)

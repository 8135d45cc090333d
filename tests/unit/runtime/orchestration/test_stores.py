"""What every store of the multi-agent runtime promises."""

from __future__ import annotations

import asyncio
import datetime as dt
import sqlite3
import stat
import threading
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from paddock import ApprovalError, ConfigError, RunClaimed, SessionError
from paddock.runtime.conversation.state import stamped
from paddock.runtime.core.approval import ApprovalRequest, Decision
from paddock.runtime.core.claims import Claim
from paddock.runtime.orchestration.records import Run
from paddock.runtime.orchestration.runs import Runs
from paddock.runtime.orchestration.store import TenantStore, open_store
from paddock.runtime.orchestration.stores.memory import MemoryRuntimeStore
from paddock.runtime.orchestration.stores.sqlite import SqliteRuntimeStore
from tests.unit.runtime.orchestration.storing import (
    APPROVE,
    BODY,
    STORES,
    Gate,
    Reopen,
    execute,
    plans,
    references,
    reopener,
)

if TYPE_CHECKING:
    from pathlib import Path

    from paddock.runtime.orchestration.stores.base import Rows

ODD = ["", "a/b", "a#1", "\x00", "\ud800", "ä", "'; DROP TABLE kept; --"]


@pytest.fixture(params=STORES)
def reopen(request: pytest.FixtureRequest, tmp_path: Path) -> Reopen:
    return reopener(request.param, tmp_path)


def write(rows: Rows) -> None:
    rows.put("t", "one", b"1", group="a")
    rows.put("t", "two", b"2", group="b")
    rows.put("t", "three", b"3", group="a")


class TestRows:
    def test_what_was_written_is_there_in_the_order_in_which_it_came(self, reopen: Reopen) -> None:
        reopen().transact("acme", write, writing=True)
        reopen().transact("acme", lambda rows: rows.put("t", "one", b"9", group="a"), writing=True)

        def look(rows: Rows) -> None:
            assert [*rows.all("t")] == [("one", b"9"), ("two", b"2"), ("three", b"3")]
            assert [*rows.all("t", "a")] == [("one", b"9"), ("three", b"3")]
            assert [*rows.all("t", "a", skip=1)] == [("three", b"3")]
            assert [*rows.all("t", "c")] == [*rows.all("other")] == []
            assert (rows.get("t", "two"), rows.get("t", "four")) == (b"2", None)

        reopen().transact("acme", look, writing=False)

    def test_a_transaction_sees_its_own_writes(self, reopen: Reopen) -> None:
        def work(rows: Rows) -> None:
            write(rows)
            rows.delete("t", "one")
            rows.delete("t", "four")
            assert rows.get("t", "one") is None
            assert [*rows.all("t", "a")] == [("three", b"3")]
            rows.put("t", "three", b"33", group="a")
            assert [*rows.all("t")] == [("two", b"2"), ("three", b"33")]

        reopen().transact("acme", work, writing=True)
        found = reopen().transact("acme", lambda rows: [*rows.all("t")], writing=False)
        assert found == [("two", b"2"), ("three", b"33")]

    def test_nothing_is_kept_of_a_transaction_that_fails(self, reopen: Reopen) -> None:
        reopen().transact("acme", write, writing=True)

        def fail(rows: Rows) -> None:
            rows.put("t", "one", b"other")
            rows.put("t", "new", b"other")
            rows.delete("t", "two")
            raise KeyError

        with pytest.raises(KeyError):
            reopen().transact("acme", fail, writing=True)
        found = reopen().transact("acme", lambda rows: [*rows.all("t")], writing=False)
        assert found == [("one", b"1"), ("two", b"2"), ("three", b"3")]

    def test_any_text_is_a_key_a_group_and_a_tenant(self, reopen: Reopen) -> None:
        def fill(rows: Rows) -> None:
            for text in ODD:
                rows.put("t", text, f"{tenant!a} {text!a}".encode(), group=text)

        def look(rows: Rows) -> None:
            for text in ODD:
                assert [*rows.all("t", text)] == [(text, f"{tenant!a} {text!a}".encode())]

        for tenant in ODD:
            reopen().transact(tenant, fill, writing=True)
        assert sorted(reopen().tenants()) == sorted(ODD)
        for tenant in ODD:
            reopen().transact(tenant, look, writing=False)

    def test_no_change_is_lost_among_many_threads(self, reopen: Reopen) -> None:
        def count(rows: Rows) -> None:
            rows.put("t", "n", b"%d" % (int(rows.get("t", "n") or b"0") + 1))

        def work() -> None:
            store = reopen()
            for _ in range(10):
                store.transact("acme", count, writing=True)

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert reopen().transact("acme", lambda rows: rows.get("t", "n"), writing=False) == b"80"


def request(name: str) -> ApprovalRequest:
    return ApprovalRequest(
        id=name,
        call_id="c",
        tool="deploy",
        args={},
        session_id="t-1",
        run_id=1,
        digest="d",
        asked_at=dt.datetime.now(dt.UTC),
    )


class TestTenants:
    """Two tenants of one store, which use the same names and try each other's ids."""

    async def test_neither_sees_the_others_plans(self, reopen: Reopen) -> None:
        await plans(reopen(), tenant="acme").save("StockPlan", "plan-1", BODY)
        theirs = plans(reopen(), lambda actions, ctx: None, tenant="evil")
        assert await theirs.get("plan-1") is None
        assert "there is no such plan" in (await execute(theirs, Gate()))["error"]
        await theirs.save("StockPlan", "plan-1", {**BODY, "why": "mine"})
        await execute(theirs, Gate())
        ours = await plans(reopen(), tenant="acme").get("plan-1")
        assert ours is not None
        assert (ours["status"], ours["context"]) == ("draft", {"why": "stock is low"})

    async def test_neither_sees_the_others_references(self, reopen: Reopen) -> None:
        value = {"skus": ["s-1"]}
        ours = await references(reopen(), tenant="acme").create("SkuSet", value)
        theirs = await references(reopen(), tenant="evil").create("SkuSet", value)
        assert ours["id"] != theirs["id"]
        assert await references(reopen(), tenant="acme").resolve(ours) == value
        with pytest.raises(Exception, match="cannot be resolved"):
            await references(reopen(), tenant="evil").resolve(ours)

    async def test_neither_sees_or_answers_the_others_approvals(self, reopen: Reopen) -> None:
        ours, theirs = TenantStore(reopen(), "acme"), TenantStore(reopen(), "evil")
        await ours.approvals.ask(request("a-1"))
        assert await theirs.approvals.get("a-1") is None
        assert list(await theirs.approvals.list()) == []
        with pytest.raises(ApprovalError, match="no such approval"):
            await theirs.approvals.resolve("a-1", APPROVE)
        with pytest.raises(ApprovalError, match="no such approval"):
            await theirs.approvals.wait("a-1")
        await theirs.approvals.withdraw(["a-1"])
        await theirs.approvals.ask(request("a-1"))
        await theirs.approvals.resolve("a-1", Decision(outcome="reject"))
        [known] = await ours.approvals.list(session_id="t-1")
        assert known.status == "pending"

    async def test_neither_sees_holds_or_writes_the_others_histories(self, reopen: Reopen) -> None:
        ours, theirs = TenantStore(reopen(), "acme"), TenantStore(reopen(), "evil")
        log = ours.conversations.open("t-1")
        log.append(stamped({"type": "message", "role": "user", "content": "ours"}))
        await log.sync()
        assert theirs.conversations.read("t-1") is None
        other = theirs.conversations.open("t-1")
        assert list(other.found) == []
        other.append(stamped({"type": "message", "role": "user", "content": "theirs"}))
        other.close(delete=True)
        await log.sync()
        log.close()
        state = ours.conversations.read("t-1")
        assert state is not None
        assert [message["content"] for message in state.messages] == ["ours"]

    async def test_neither_sees_or_takes_the_others_runs(self, reopen: Reopen) -> None:
        ours, theirs = Runs(TenantStore(reopen(), "acme").runs), runs(reopen(), "evil")
        run = await ours.begin("r-1", thread_id="t-1", agent="lead", prompt="Go.")
        await ours.end(run, "waiting")
        assert list(await theirs.list()) == list(await theirs.list("t-1")) == []
        with pytest.raises(SessionError, match="there is no run"):
            await theirs.claim(run.run_id)
        assert [each.status for each in await ours.list("t-1")] == ["waiting"]


def runs(store: Any, tenant: str = "acme") -> Runs:
    return Runs(TenantStore(store, tenant).runs)


class TestRuns:
    async def test_a_run_is_of_one_process_until_it_waits_or_ends(self, reopen: Reopen) -> None:
        run = await runs(reopen()).begin("r-1", thread_id="t-1", agent="lead", prompt="Go.")
        await runs(reopen()).begin("r-2", thread_id="t-2", agent="lead", prompt="Go.")
        assert [each.run_id for each in await runs(reopen()).list("t-1")] == [run.run_id]
        with pytest.raises(RunClaimed):
            await runs(reopen()).claim(run.run_id)
        await runs(reopen()).end(run, "waiting")
        taken = await runs(reopen()).claim(run.run_id)
        assert (taken.status, taken.prompt) == ("running", "Go.")
        await runs(reopen()).end(run, "failed")  # it is not this one's any more
        assert [each.status for each in await runs(reopen()).list("t-1")] == ["running"]
        await runs(reopen()).end(taken, "finished")
        with pytest.raises(SessionError, match="it is finished"):
            await runs(reopen()).claim(run.run_id)

    async def test_a_run_whose_process_has_died_is_listed_so_and_can_be_taken(
        self, reopen: Reopen
    ) -> None:
        run = await runs(reopen()).begin("r-1", thread_id="t-1", agent="lead", prompt="Go.")
        await expire(reopen, run)
        assert [each.status for each in await runs(reopen()).list("t-1")] == ["died"]
        taken = [runs(reopen()).claim(run.run_id) for _ in range(5)]
        found = await asyncio.gather(*taken, return_exceptions=True)
        assert len([each for each in found if isinstance(each, Run)]) == 1
        assert len([each for each in found if isinstance(each, RunClaimed)]) == 4

    async def test_the_claim_is_renewed_while_the_run_works(
        self, reopen: Reopen, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("paddock.runtime.core.claims.RENEWALS", 6000)
        run = await runs(reopen()).begin("r-1", thread_id="t-1", agent="lead", prompt="Go.")
        renewing = runs(reopen()).renewing(run, pytest.fail, lambda: 0.0)
        async with renewing, asyncio.timeout(60):
            await expire(reopen, run)
            while [each.status for each in await runs(reopen()).list()] != ["running"]:  # noqa: ASYNC110
                await asyncio.sleep(0)


async def expire(reopen: Reopen, run: Run) -> None:
    def change(known: Run | None) -> Run | None:
        assert known is not None
        assert known.claim is not None
        claim = Claim(token=known.claim.token, holder="", until=0.0)
        return Run(**{name: getattr(known, name) for name in known.__slots__} | {"claim": claim})

    await TenantStore(reopen(), "acme").runs.change(run.run_id, change)


class TestOpening:
    def test_a_store_is_opened_by_its_scheme(self, tmp_path: Path) -> None:
        assert isinstance(open_store("memory:"), MemoryRuntimeStore)
        assert open_store("sqlite:team.db").path == SqliteRuntimeStore("team.db").path
        for path in (f"sqlite:{tmp_path}/a.db", f"sqlite://{tmp_path}/a.db"):
            assert open_store(path).path == tmp_path / "a.db"
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize(
        "where", ["", "memory", "sqlite:", "sqlite:/", "team.db", "mysql://u:secret@h/d"]
    )
    def test_another_one_is_refused(self, where: str) -> None:
        with pytest.raises(ConfigError, match="give 'memory:', 'sqlite:PATH', or") as caught:
            open_store(where)
        assert "secret" not in str(caught.value)


class TestSqliteFiles:
    def test_the_file_is_its_owners_alone(self, tmp_path: Path) -> None:
        store = SqliteRuntimeStore(tmp_path / "new" / "team.db")
        store.transact("acme", write, writing=True)
        files = [each for each in (tmp_path / "new").iterdir() if each.is_file()]
        assert {stat.S_IMODE(each.stat().st_mode) for each in files} == {0o600}

    def test_what_is_no_database_is_refused_and_stays_as_it_is(self, tmp_path: Path) -> None:
        path = tmp_path / "team.db"
        path.write_text("some text, and no database")
        with pytest.raises(SessionError, match=r"cannot use the store of the runtime .*team\.db"):
            SqliteRuntimeStore(path).transact("acme", write, writing=True)
        assert path.read_text() == "some text, and no database"

    def test_the_database_of_another_program_is_refused_and_stays_as_it_is(
        self, tmp_path: Path
    ) -> None:
        path = tmp_path / "team.db"
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("CREATE TABLE kept (mine TEXT)")
        before = path.read_bytes()
        with pytest.raises(SessionError, match="database of another program"):
            SqliteRuntimeStore(path).transact("acme", write, writing=True)
        with pytest.raises(SessionError, match="database of another program"):
            SqliteRuntimeStore(path).tenants()
        assert path.read_bytes() == before

    def test_a_file_of_a_later_version_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "team.db"
        SqliteRuntimeStore(path).transact("acme", write, writing=True)
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA user_version = 7")
        with pytest.raises(SessionError, match="it has version 7 of the tables"):
            SqliteRuntimeStore(path).transact("acme", write, writing=True)

    def test_a_damaged_file_is_an_error_that_names_it(self, tmp_path: Path) -> None:
        path = tmp_path / "team.db"
        SqliteRuntimeStore(path).transact("acme", write, writing=True)
        path.write_bytes(path.read_bytes()[:100] + b"\xff" * (path.stat().st_size - 100))
        with pytest.raises(SessionError, match=r"cannot use the store of the runtime .*team\.db"):
            SqliteRuntimeStore(path).transact("acme", write, writing=True)

    async def test_rows_that_are_no_records_are_an_error(self, tmp_path: Path) -> None:
        store = SqliteRuntimeStore(tmp_path / "team.db")

        def damage(rows: Rows) -> None:
            rows.put("plans", "plan-1", b'{"id": 5}')
            rows.put("approvals", "a-1", b"[")
            rows.put("conversations", "t-1", b'{"claim": 7}')

        store.transact("acme", damage, writing=True)
        kept = TenantStore(store, "acme")
        with pytest.raises(SessionError, match="not a StoredPlan"):
            await kept.plans.get("plan-1")
        with pytest.raises(SessionError, match="not JSON"):
            await kept.approvals.get("a-1")
        with pytest.raises(SessionError, match="head of a conversation"):
            kept.conversations.open("t-1")

"""A disk that is full and a file that cannot be written lose nothing of what was kept."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from paddock import SessionError, create_runtime, define_tool
from paddock.runtime.orchestration.stores.sqlite import SqliteRuntimeStore
from tests.unit.runtime.orchestration.storing import APPROVE, BODY, Gate, execute, plans
from tests.unit.runtime.orchestration.teams import call, of_type, read, script, team

if TYPE_CHECKING:
    from pathlib import Path

PATIENCE = 120.0
"""Seconds for an interpreter to begin, on a machine ten times as busy as ours."""

FULL = """
import asyncio, resource, signal, sys
from pathlib import Path
from paddock import SessionError, create_runtime, define_tool
from paddock.runtime.orchestration.stores.sqlite import SqliteRuntimeStore
from tests.unit.runtime.orchestration.storing import BODY, Gate, execute, plans

store = SqliteRuntimeStore(sys.argv[1])

async def main():
    def dispatch(actions, ctx):
        resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, hard))  # what reading needs fits
        return {"entitiesAffected": 1, "details": BIG}
    ours = plans(store, dispatch)
    await ours.save("StockPlan", "plan-1", BODY)
    await ours.save("StockPlan", "plan-2", BODY)
    try:
        await execute(ours, Gate(), "plan-1")
    except SessionError as error:
        print(error)
    print((await ours.get("plan-2"))["status"])
    try:
        await ours.save("StockPlan", "plan-2", {**BODY, "more": BIG})
    except SessionError as error:
        print(error)
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    print((await ours.save("StockPlan", "plan-2", BODY))["revision"])
    print((await ours.get("plan-1"))["status"])

BIG = "x" * 100_000
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
asyncio.run(main())
"""


def test_a_full_disk_is_an_error_and_what_was_kept_stays(tmp_path: Path) -> None:
    path = tmp_path / "team.db"
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(path)],
        capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert (done.stderr, done.returncode) == ("", 0)
    failed, status, refused, revision, left = done.stdout.splitlines()
    for line in (failed, refused):
        assert line.startswith(f"cannot use the store of the runtime {path}: ")
    assert (status, revision) == ("draft", "2")
    assert left == "executing", "nobody knows yet that its end could not be kept"
    # This process sees that the other one has died, and so that the execution has no end.
    result = asyncio.run(execute(plans(SqliteRuntimeStore(path), print), Gate(APPROVE)))
    assert result["outcome"] == {"unknown": True}


async def test_a_file_that_is_no_longer_ours_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "team.db"
    ours = plans(SqliteRuntimeStore(path), lambda actions, ctx: None)
    await ours.save("StockPlan", "plan-1", BODY)
    os.link(path, tmp_path / "other")
    with pytest.raises(SessionError, match="other names"):
        await execute(ours, Gate())
    (tmp_path / "other").unlink()
    assert (await execute(ours, Gate()))["status"] == "executed"


async def test_a_database_that_only_may_be_read_is_an_error_and_stays(tmp_path: Path) -> None:
    path = tmp_path / "team.db"
    ours = plans(SqliteRuntimeStore(path), lambda actions, ctx: None)
    await ours.save("StockPlan", "plan-1", BODY)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "paddock.runtime.orchestration.stores.sqlite._Database._prepare",
            lambda self, connection: connection.execute("PRAGMA query_only = ON"),
        )
        with pytest.raises(SessionError, match="attempt to write a readonly database"):
            await execute(ours, Gate())
        known = await ours.get("plan-1")
        assert known is not None
        assert known["status"] == "draft"
    assert (await execute(ours, Gate()))["status"] == "executed"


@pytest.mark.rows("F-33")
async def test_a_store_that_is_deleted_while_a_run_uses_it_is_said(tmp_path: Path) -> None:
    @define_tool("burn", {})
    def burn(args: dict[str, Any], ctx: Any) -> str:
        for each in tmp_path.glob("team.db*"):
            each.unlink()
        return "burnt"

    where = f"sqlite:{tmp_path / 'team.db'}"
    async with create_runtime(team(burn), interpreter="scripted", store=where) as runtime:
        prompt = script(call("burn"), call("burn"))
        events = await read(
            runtime.query(script(call("call_agent", agent="worker", prompt=prompt)), "t")
        )
    (error,) = of_type(events, "error")
    assert "is no longer in its store: it, or the store, was deleted" in error["error"]["message"]
    assert error["error"]["code"] == "session_error"

"""Statements that nothing stops by itself: when a call is over, nothing of it runs."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from typing import TYPE_CHECKING

import pytest

from paddock.runtime.core.tool import ToolInvocation
from paddock.runtime.tools.factory import build_registry
from paddock.runtime.tools.sql.config import parse_databases
from paddock.runtime.tools.sql.line import Line
from paddock.runtime.tools.sql.servers import server_for
from paddock.runtime.tools.sql.statement import Statement
from paddock.runtime.tools.worker import run_in_thread
from tests.e2e.processes import descendants, wait_until_there

if TYPE_CHECKING:
    from pathlib import Path

    from paddock.runtime.tools.registry import ToolRegistry

NUMBERS = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) "
STATEMENTS = {
    "one row that takes minutes": "SELECT " + ",".join(["printf('%.*c', 2147483647, 'x')"] * 200),
    "a function in an endless query": NUMBERS + "SELECT max(printf('%.*c', 100000, 'x')) FROM n",
    "an endless query": NUMBERS + "SELECT max(x) FROM n",
    "endless rows": NUMBERS + "SELECT x FROM n ORDER BY x DESC",
    "a product": "SELECT count(*) FROM " + ", ".join(f"t AS t{n}" for n in range(12)),
    "memory": NUMBERS + "SELECT group_concat(x, printf('%.*c', 1000, 'x')) OVER () FROM n",
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "s.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE t (x)")
        connection.executemany("INSERT INTO t VALUES (?)", [(n,) for n in range(1000)])
    connection.close()
    return path


@pytest.fixture
def others() -> set[int]:
    """Processes below this one before the test: servers that tests share."""
    return descendants(os.getpid())


def _registry(file: Path, *, timeout: float, profile: str = "readonly") -> ToolRegistry:
    given = {"main": {"type": "sqlite", "path": str(file), "timeout": timeout}}
    return build_registry(profile, databases=parse_databases(given))


def _asked(sql: str) -> ToolInvocation:
    arguments = {"operation": "query", "sql": sql}
    return ToolInvocation(call_id="1", tool_name="sqlite", arguments=arguments)


@pytest.mark.parametrize("name", STATEMENTS)
async def test_a_timeout_ends_any_statement(file: Path, others: set[int], name: str) -> None:
    registry = _registry(file, timeout=1)
    output = await registry.dispatch(_asked(STATEMENTS[name]))
    assert not output.success, output.content
    assert descendants(os.getpid()) <= others
    assert (await registry.dispatch(_asked("SELECT 7"))).success


@pytest.mark.parametrize("name", STATEMENTS)
async def test_a_session_that_nothing_else_bounds_is_ended_with_its_call(
    file: Path, others: set[int], name: str
) -> None:
    """The first fence is left out: what is sent here was not read before."""
    (config,) = parse_databases({"main": {"type": "sqlite", "path": str(file)}}).values()
    line = Line(server_for(config, mutations=False), timeout=60)

    def work() -> None:
        with line.open() as opened, line.execute(opened, Statement(sql=STATEMENTS[name])) as rows:
            for _ in rows.batches:
                pass

    with pytest.raises(Exception, match=r"|too big|too complex|too much"):
        await run_in_thread(work, stop=line, limit=1)
    assert descendants(os.getpid()) <= others


@pytest.mark.parametrize("name", ["one row that takes minutes", "an endless query"])
async def test_a_cancelled_call_has_ended_its_statement(
    file: Path, others: set[int], name: str
) -> None:
    call = asyncio.create_task(_registry(file, timeout=600).dispatch(_asked(STATEMENTS[name])))
    await asyncio.to_thread(wait_until_there, "sqlite_child.py")
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert descendants(os.getpid()) <= others


async def test_a_change_that_is_stopped_is_undone_and_the_next_can_be_made(file: Path) -> None:
    registry = _registry(file, timeout=1, profile="developer")
    endless = f"INSERT INTO t {NUMBERS} SELECT x FROM n"
    changed = await registry.dispatch(_asked(endless))
    assert not changed.success
    found = await registry.dispatch(_asked("SELECT count(*) FROM t"))
    assert "1000" in found.content

"""Plans between processes: who executes, and what is left when one is killed at any step."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from paddock.runtime.orchestration.store import TenantStore
from paddock.runtime.orchestration.stores.sqlite import SqliteRuntimeStore
from tests.unit.runtime.orchestration.faults import FaultyStore
from tests.unit.runtime.orchestration.storing import APPROVE, BODY, Gate, execute, plans

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.rows("F-28", "F-29")

RACERS = 8
PATIENCE = 120.0
"""Seconds for eight interpreters to begin, on a machine ten times as busy as ours."""

SCRIPT = """
import asyncio, json, sys
from pathlib import Path
from paddock.runtime.orchestration.stores.sqlite import SqliteRuntimeStore
from tests.unit.runtime.orchestration.faults import FaultyStore
from tests.unit.runtime.orchestration.storing import APPROVE, BODY, Gate, execute, plans

folder, point = Path(sys.argv[1]), sys.argv[2]

def dispatch(actions, ctx):
    with open(folder / "done", "a") as file:
        print(ctx["idempotency_key"], file=file)
    return {"entitiesAffected": len(actions)}

async def main():
    store = FaultyStore(SqliteRuntimeStore(folder / "team.db"), point)
    ours = plans(store, dispatch)
    print("ready", flush=True)
    sys.stdin.readline()
    if point:
        await ours.save("StockPlan", "plan-1", BODY)
    print(json.dumps(await execute(ours, Gate(APPROVE))))

asyncio.run(main())
"""


def begin(folder: Path, point: str = "") -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(folder), point],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def dispatched(folder: Path) -> int:
    done = folder / "done"
    return len(done.read_text().splitlines()) if done.exists() else 0


def here(folder: Path) -> Any:
    def dispatch(actions: Any, ctx: Any) -> None:
        with (folder / "done").open("a") as file:
            print(ctx["idempotency_key"], file=file)

    return plans(SqliteRuntimeStore(folder / "team.db"), dispatch)


def test_of_eight_processes_that_ask_at_once_one_executes(tmp_path: Path) -> None:
    asyncio.run(here(tmp_path).save("StockPlan", "plan-1", BODY))
    racers = [begin(tmp_path) for _ in range(RACERS)]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    results = [json.loads(racer.communicate(timeout=PATIENCE)[0]) for racer in racers]
    assert [racer.returncode for racer in racers] == [0] * RACERS
    assert dispatched(tmp_path) == 1
    ran = {"planId": "plan-1", "status": "executed", "entitiesAffected": 1}
    busy = {"error": "plan 'plan-1' is executed by another call", "planId": "plan-1"}
    assert ran in results
    assert all(result in (ran, busy) for result in results)


STEPS = ["plans draft", "plans approved", "plans executing", "plans executed"]


def test_these_are_all_steps_of_a_plan(tmp_path: Path) -> None:
    store = FaultyStore(SqliteRuntimeStore(tmp_path / "team.db"))
    ours = plans(store, lambda actions, ctx: None)
    asyncio.run(ours.save("StockPlan", "plan-1", BODY))
    asyncio.run(execute(ours, Gate(APPROVE)))
    assert store.steps == STEPS


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_process_that_is_killed_at_a_step_leaves_a_plan_that_runs_once_at_most(
    when: str, step: str, tmp_path: Path
) -> None:
    killed = begin(tmp_path, f"{when} {step}")
    killed.communicate("go\n", timeout=PATIENCE)
    assert killed.returncode == -signal.SIGKILL
    asyncio.run(check_what_is_left(tmp_path, when, step))


async def check_what_is_left(folder: Path, when: str, step: str) -> None:
    ours, gate = here(folder), Gate(APPROVE)
    before = await ours.get("plan-1")
    assert (before is None) == (f"{when} {step}" == "before plans draft")
    if before is None:
        await ours.save("StockPlan", "plan-1", BODY)
    asked = [await execute(ours, gate), await execute(ours, gate)]
    assert asked[0] == asked[1]
    known = await TenantStore(SqliteRuntimeStore(folder / "team.db"), "acme").plans.get("plan-1")
    assert known is not None
    began = f"{when} {step}" in ("after plans executing", "before plans executed")
    assert known.status == ("failed" if began else "executed")
    assert asked[0].get("outcome") == ({"unknown": True} if began else None)
    assert dispatched(folder) == (0 if f"{when} {step}" == "after plans executing" else 1)
    assert len(gate.asked) == (step in STEPS[:2] and f"{when} {step}" != "after plans approved")

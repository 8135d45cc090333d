"""Processes that execute one plan of one store, and what is left when one is killed."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from paddock import open_store
from paddock.runtime.orchestration.store import TenantStore
from tests.unit.runtime.orchestration.storing import APPROVE, BODY, Gate, execute, plans

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from paddock import RuntimeStore

RACERS = 8
PATIENCE = 120.0
"""Seconds for eight interpreters to begin, on a machine ten times as busy as ours."""

STEPS = ["plans draft", "plans approved", "plans executing", "plans executed"]
"""What a plan that is executed writes."""

SCRIPT = """
import asyncio, json, sys
from paddock import open_store
from tests.unit.runtime.orchestration.faults import FaultyStore
from tests.unit.runtime.orchestration.storing import APPROVE, BODY, Gate, execute, plans

where, done, point = sys.argv[1:]

def dispatch(actions, ctx):
    with open(done, "a") as file:
        print(ctx["idempotency_key"], file=file)
    return {"entitiesAffected": len(actions)}

async def main():
    store = FaultyStore(open_store(where), point)
    ours = plans(store, dispatch)
    print("ready", flush=True)
    sys.stdin.readline()
    if point:
        await ours.save("StockPlan", "plan-1", BODY)
    print(json.dumps(await execute(ours, Gate(APPROVE))))
    await store.aclose()

asyncio.run(main())
"""


def begin(where: str, folder: Path, point: str = "") -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, where, str(folder / "done"), point],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def dispatched(folder: Path) -> int:
    done = folder / "done"
    return len(done.read_text().splitlines()) if done.exists() else 0


@asynccontextmanager
async def opened(where: str) -> AsyncIterator[RuntimeStore]:
    store = open_store(where)
    yield store
    await store.aclose()


def check_that_one_of_eight_executes(where: str, folder: Path) -> None:
    async def prepare() -> None:
        async with opened(where) as store:
            await plans(store).save("StockPlan", "plan-1", BODY)

    asyncio.run(prepare())
    racers = [begin(where, folder) for _ in range(RACERS)]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    results = [json.loads(racer.communicate(timeout=PATIENCE)[0]) for racer in racers]
    assert [racer.returncode for racer in racers] == [0] * RACERS
    assert dispatched(folder) == 1
    ran = {"planId": "plan-1", "status": "executed", "entitiesAffected": 1}
    assert results == [ran] * RACERS


def check_what_a_kill_leaves(where: str, folder: Path, point: str) -> None:
    """Have a process killed at `point`, and others ask for the plan afterwards."""
    killed = begin(where, folder, point)
    killed.communicate("go\n", timeout=PATIENCE)
    assert killed.returncode == -signal.SIGKILL
    asyncio.run(_check_what_is_left(where, folder, point))


async def _check_what_is_left(where: str, folder: Path, point: str) -> None:
    def dispatch(actions: Any, ctx: Any) -> None:
        with (folder / "done").open("a") as file:
            print(ctx["idempotency_key"], file=file)

    async with opened(where) as store:
        ours, gate = plans(store, dispatch), Gate(APPROVE)
        before = await ours.get("plan-1")
        assert (before is None) == (point == "before plans draft")
        if before is None:
            await ours.save("StockPlan", "plan-1", BODY)
        asked = [await execute(ours, gate), await execute(ours, gate)]
        known = await TenantStore(store, "acme").plans.get("plan-1")
    assert known is not None
    began = point in ("after plans executing", "before plans executed")
    assert known.status == ("failed" if began else "executed")
    assert asked[0] == asked[1]
    assert asked[0].get("outcome") == ({"unknown": True} if began else None)
    assert dispatched(folder) == (0 if point == "after plans executing" else 1)
    unapproved = ("before plans draft", "after plans draft", "before plans approved")
    assert len(gate.asked) == (point in unapproved)

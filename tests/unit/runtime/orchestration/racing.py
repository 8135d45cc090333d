"""Processes that execute one plan of one store, and what is left when one is killed."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paddock import open_store
from paddock.runtime.orchestration.store import TenantStore
from tests.unit.runtime.orchestration.storing import APPROVE, BODY, Gate, execute, plans

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from paddock import RuntimeStore

RACERS = 8
PATIENCE = 120.0
"""Seconds for eight interpreters to begin, on a machine ten times as busy as ours."""

STEPS = ["plans draft", "plans approved", "plans executing", "plans executed"]
"""What a plan that is executed writes."""

RACER = """
import asyncio, json, sys
from paddock import create_runtime
from tests.unit.runtime.orchestration.racing import noting
from tests.unit.runtime.orchestration.teams import call, results, script
from tests.unit.runtime.orchestration.test_plan_flow import stock_team

where, done, thread = sys.argv[1:]
ASK = script(
    call("call_agent", agent="executor", prompt=script(call("executePlan", planId="plan-1")))
)

async def main():
    spec, events = stock_team(), []
    async with create_runtime(
        spec, interpreter="scripted", action_dispatcher=noting(done), store=where
    ) as runtime:
        print("ready", flush=True)
        sys.stdin.readline()
        async for event in runtime.query(ASK, thread_id=thread):
            events.append(event)
            if event["type"] == "approval-required":
                await runtime.respond_to_approval(event["data"]["id"], "approve")
    print(json.dumps(results(events)[0]))

asyncio.run(main())
"""

KILLED = """
import asyncio, sys
from paddock import open_store
from tests.unit.runtime.orchestration.faults import FaultyStore
from tests.unit.runtime.orchestration.racing import noting
from tests.unit.runtime.orchestration.storing import APPROVE, BODY, Gate, execute, plans

where, done, point = sys.argv[1:]

async def main():
    ours = plans(FaultyStore(open_store(where), point), noting(done))
    await ours.save("StockPlan", "plan-1", BODY)
    await execute(ours, Gate(APPROVE))

asyncio.run(main())
"""


def begin(program: str, where: str, folder: Path, what: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", program, where, str(folder / "done"), what],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def noting(done: str | Path) -> Callable[[Any, Any], Any]:
    """Return a dispatcher that notes in a file what it was called for."""

    def dispatch(actions: Any, ctx: Any) -> Any:
        with Path(done).open("a") as file:
            print(ctx["idempotency_key"], file=file)
        return {"entitiesAffected": len(actions)}

    return dispatch


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
    racers = [begin(RACER, where, folder, f"thread-{number}") for number in range(RACERS)]
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
    killed = begin(KILLED, where, folder, point)
    killed.communicate(timeout=PATIENCE)
    assert killed.returncode == -signal.SIGKILL
    asyncio.run(_check_what_is_left(where, folder, point))


async def _check_what_is_left(where: str, folder: Path, point: str) -> None:
    async with opened(where) as store:
        ours, gate = plans(store, noting(folder / "done")), Gate(APPROVE)
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

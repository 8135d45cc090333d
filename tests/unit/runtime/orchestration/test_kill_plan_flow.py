"""SIGKILL at each thing that the flow of a plan writes to the store, then a resume elsewhere.

The points have names: what a transaction writes of plans, approvals and runs, before or after it
is kept. `make stress` kills at every transaction, those of the conversations included.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

PATIENCE = 280

EVERY = os.environ.get("PADDOCK_KILL_EVERY") == "1"

PROGRAM = """
import asyncio, collections, json, os, signal, sys
from pathlib import Path

import paddock.runtime.approvals.stores
from paddock import create_runtime
from paddock.runtime.conversation.trace import read_records
from paddock.runtime.orchestration.stores.sqlite import SqliteRuntimeStore
from tests.unit.runtime.orchestration.faults import FaultyStore
from tests.unit.runtime.orchestration.test_resume_plans import planning
from tests.unit.runtime.orchestration.test_plan_flow import stock_team

paddock.runtime.approvals.stores.POLL_INTERVAL = 0.01
base, every = Path(sys.argv[1]), sys.argv[2] == "every"

class Counting(FaultyStore):
    '''Names each writing transaction by its number, too.'''

    number = 0

    def _reach(self, when, steps):
        if every and self.is_writing:
            self.number += when == "before"
            steps = [*steps, f"transaction {self.number}"]
            self.steps += [steps[-1]] if when == "after" else []
        super()._reach(when, steps)

    def transact(self, tenant, work, *, writing):
        self.is_writing = writing
        return super().transact(tenant, work, writing=writing)

def opened(folder, point=""):
    def dispatch(actions, ctx):
        with (folder / "done").open("a") as file:
            print(ctx["idempotency_key"], file=file)
        return {"entitiesAffected": len(actions)}

    store = Counting(SqliteRuntimeStore(folder / "team.db"), point)
    runtime = create_runtime(
        stock_team(), interpreter="scripted", action_dispatcher=dispatch, store=store
    )
    return runtime, store

async def read(runtime, events):
    async for event in events:
        if event["type"] == "approval-required":
            await runtime.respond_to_approval(event["data"]["id"], "approve")

async def first(folder, point):
    runtime, store = opened(folder, point)
    await read(runtime, runtime.query(planning(), "t"))
    return store.steps

async def rest(folder):
    runtime, store = opened(folder)
    for _ in range(3):
        runs = await runtime.runs("t")
        if runs and runs[0].status == "finished":
            break
        await read(
            runtime, runtime.query(None, "t", runs[0]) if runs else runtime.query(planning(), "t")
        )
    (run,) = await runtime.runs("t")
    assert run.status == "finished", run
    plan = await runtime._team.store.plans.get("plan-1")
    done = folder / "done"
    dispatched = len(done.read_text().splitlines()) if done.exists() else 0
    unknown = bool((plan.outcome or {}).get("unknown"))
    assert (plan.status, dispatched) == ("executed", 1) or (unknown and dispatched <= 1), plan
    statuses = [each.status for each in await runtime.approvals(None)]
    assert statuses == ["answered"], statuses
    check_conversations(folder)
    return unknown

def check_conversations(folder):
    '''Each call has one result, and only those began twice that can be continued.'''
    kept = SqliteRuntimeStore(folder / "team.db")

    def conversations(rows):
        heads = [key for key, _ in rows.all("conversations")]
        return {key: [line for _, line in rows.all("records", key)] for key in heads}

    found = kept.transact("acme", conversations, writing=False)
    assert len(found) == 3, found.keys()
    for key, lines in found.items():
        records = read_records(b"".join(lines)).records
        results = collections.Counter(
            each["tool_call_id"] for each in records if each.get("role") == "tool"
        )
        assert set(results.values()) == {1}, (key, results)
        begun = collections.Counter(
            each["tool_name"] for each in records if each["type"] == "tool_start"
        )
        assert begun["search"] <= 1, begun

def attempt(folder, point):
    folder.mkdir()
    child = os.fork()
    if child == 0:
        asyncio.run(first(folder, point))
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    # Records that come close together are one transaction or two, so there may be one less.
    reached = (-signal.SIGKILL, 0) if "transaction" in point else (-signal.SIGKILL,)
    assert code in reached, (point, code)
    return asyncio.run(rest(folder))

whole = base / "whole"
whole.mkdir()
steps = dict.fromkeys(asyncio.run(first(whole, "")))
points = [f"{when} {step}" for step in steps for when in ("before", "after")]
unknown = []
for number, point in enumerate(points):
    try:
        if attempt(base / str(number), point):
            unknown.append(point)
    except BaseException:
        print("killed", point, file=sys.stderr)
        raise
print(json.dumps([points, unknown]))
"""


@pytest.mark.rows("F-18", "F-28", "F-29", "F-36", "F-37", "F-38")
def test_the_flow_of_a_plan_ends_with_one_execution_wherever_its_process_is_killed(
    tmp_path: Path,
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path), "every" if EVERY else "named"],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    points, unknown = json.loads(done.stdout)
    named = {
        *("runs running", "plans draft", "approvals pending", "approvals answered"),
        *("plans approved", "plans executing", "plans executed", "runs finished"),
    }
    assert {point.partition(" ")[2] for point in points} >= named
    if EVERY:
        assert len(points) > 2 * len(named) + 40
    else:
        assert unknown == ["after plans executing", "before plans executed"]

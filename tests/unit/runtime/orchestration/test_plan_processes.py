"""Plans between processes: who executes, and what is left when one is killed at any step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from paddock import open_store
from tests.unit.runtime.orchestration.faults import FaultyStore
from tests.unit.runtime.orchestration.racing import (
    STEPS,
    check_that_one_of_eight_executes,
    check_what_a_kill_leaves,
)
from tests.unit.runtime.orchestration.storing import APPROVE, BODY, Gate, execute, plans

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.rows("F-28", "F-29")


def test_of_eight_processes_that_ask_at_once_one_executes(tmp_path: Path) -> None:
    check_that_one_of_eight_executes(f"sqlite:{tmp_path}/team.db", tmp_path)


async def test_these_are_all_steps_of_a_plan() -> None:
    store = FaultyStore(open_store("memory:"))
    ours = plans(store, lambda actions, ctx: None)
    await ours.save("StockPlan", "plan-1", BODY)
    await execute(ours, Gate(APPROVE))
    assert store.steps == STEPS


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_process_that_is_killed_at_a_step_leaves_a_plan_that_runs_once_at_most(
    when: str, step: str, tmp_path: Path
) -> None:
    check_what_a_kill_leaves(f"sqlite:{tmp_path}/team.db", tmp_path, f"{when} {step}")

"""The dispatcher dies at each transition of the ledger, by SIGKILL, and the batch is resumed."""

from __future__ import annotations

import asyncio
import inspect
import json
import re
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from paddock import LocalBackend
from paddock.runtime.fleet.attempts import RUN_LABEL
from paddock.runtime.fleet.ledger import Ledger

SCRIPT = Path(__file__).with_name("killed.py")
PATIENCE = 100
"""Seconds for a batch of five tasks, on a machine ten times as busy as ours."""

FINISHED = {f"t{number}": number for number in range(4)} | {"t4": None}
"""What comes of the tasks."""

TRANSITIONS = ("attempt begun", "attempt placed", "attempt accepted", "attempt given back")
POINTS = ["before tasks added", "after tasks added", "before tasks ordered"] + [
    f"{when} {what}" for what in TRANSITIONS for when in ("before", "after")
]
OTHERS = {"tasks added", "tasks ordered", "attempts lost", "attempts uncounted"}
OTHERS |= {"tasks reopened", "tasks changed"}


class Batch:
    """A batch whose dispatcher runs in processes that may be killed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def run(self, point: str = "", *, kind: str = "run") -> None:
        """Run it to its end; it has to be killed at `point`, if one is given."""
        given = [str(self._folder / "run"), str(self._folder / "ran"), point, kind]
        done = subprocess.run(
            [sys.executable, SCRIPT, *given], timeout=PATIENCE, capture_output=True, check=False
        )
        expected = -signal.SIGKILL if point else 0
        assert done.returncode == expected, done.stderr.decode()

    def accepted(self) -> dict[str, int]:
        """How often each task was accepted."""
        path = self._folder / "run/ledger.db"
        if not path.exists():
            return {}
        with sqlite3.connect(path) as db:
            query = "SELECT key, count(*) FROM attempts WHERE state = 'accepted' GROUP BY key"
            found = dict(db.execute(query).fetchall())
        db.close()
        return found

    def ran(self) -> list[str]:
        path = self._folder / "ran"
        return path.read_text().split() if path.exists() else []

    def check(self, expected: dict[str, Any]) -> None:
        """Check that each task has one result, that it is this one, and that nothing is left."""
        assert self.accepted() == dict.fromkeys(expected, 1)
        text = (self._folder / "run/results.jsonl").read_text()
        lines = [json.loads(line) for line in text.splitlines()]
        assert {each["key"]: each["result"] for each in lines} == expected
        assert len(lines) == len(expected)
        run_id = json.loads((self._folder / "run/run.json").read_text())["run_id"]
        assert not asyncio.run(_left(run_id))
        assert not [*self._folder.glob("run/tasks/*/.attempt-*")]


async def _left(run_id: str) -> list[str]:
    return [info.id for info in await LocalBackend().list(labels={RUN_LABEL: run_id})]


@pytest.fixture
def batch(tmp_path: Path) -> Batch:
    return Batch(tmp_path)


def test_no_transition_is_left_out_here() -> None:
    names = re.findall(r'self\.write\(\s*"([a-z ]+)"', inspect.getsource(Ledger))
    assert {*names} == {*TRANSITIONS} | OTHERS | {"kept forgotten"}  # no dispatcher does that one


@pytest.mark.parametrize("point", POINTS)
def test_after_a_kill_every_task_is_accepted_once_and_nothing_is_left(
    point: str, batch: Batch
) -> None:
    batch.run(point)
    finished, before = batch.accepted(), batch.ran()
    batch.run("before attempts lost")
    batch.run("after attempts lost")
    batch.run()
    batch.check(FINISHED)
    assert not set(batch.ran()[len(before) :]) & finished.keys(), "a finished task ran again"


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_kill_while_an_outage_is_forgiven_costs_no_try(when: str, batch: Batch) -> None:
    batch.run(f"{when} attempts uncounted", kind="outage")
    batch.run(kind="outage")
    batch.check(FINISHED)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_kill_while_finished_tasks_are_reopened_reopens_all_or_none(
    when: str, batch: Batch
) -> None:
    batch.run()
    before = batch.ran()
    batch.run(f"{when} tasks reopened", kind="again")
    batch.run()
    batch.check(FINISHED)
    expected = ["t4", "t4"] if when == "after" else []
    assert batch.ran()[len(before) :] == expected


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_change_that_was_killed_is_to_be_made_again(when: str, batch: Batch) -> None:
    batch.run()
    before = batch.ran()
    batch.run(f"{when} tasks changed", kind="changed")
    with pytest.raises(AssertionError, match="killed while it changed them"):
        batch.run()
    batch.run(kind="changed")
    batch.check({"t0": 100, "t1": 1, "t2": 2, "t3": 3, "t5": 5})
    assert sorted(batch.ran()[len(before) :]) == ["t0", "t5"]

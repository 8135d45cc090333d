"""The dispatcher dies at each transition of the ledger, by SIGKILL, and the batch is resumed."""

from __future__ import annotations

import asyncio
import json
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from paddock import LocalBackend
from paddock.runtime.fleet.attempts import RUN_LABEL

SCRIPT = Path(__file__).with_name("killed.py")
PATIENCE = 100
"""Seconds for a batch of five tasks, on a machine ten times as busy as ours."""

TRANSITIONS = ("attempt begun", "attempt placed", "attempt accepted", "attempt given back")
POINTS = ["before tasks added", "after tasks added"] + [
    f"{when} {what}" for what in TRANSITIONS for when in ("before", "after")
]


def batch(folder: Path, point: str) -> int:
    given = [str(folder / "run"), str(folder / "ran"), point]
    done = subprocess.run(
        [sys.executable, SCRIPT, *given], timeout=PATIENCE, capture_output=True, check=False
    )
    assert done.returncode in (0, -signal.SIGKILL), done.stderr.decode()
    return done.returncode


def accepted(folder: Path) -> dict[str, int]:
    """How often each task was accepted."""
    with sqlite3.connect(folder / "run/ledger.db") as db:
        query = "SELECT key, count(*) FROM attempts WHERE state = 'accepted' GROUP BY key"
        found = dict(db.execute(query).fetchall())
    db.close()
    return found


def ran(folder: Path) -> list[str]:
    path = folder / "ran"
    return path.read_text().split() if path.exists() else []


@pytest.mark.parametrize("point", POINTS)
def test_after_a_kill_every_task_is_accepted_once_and_nothing_is_left(
    point: str, tmp_path: Path
) -> None:
    assert batch(tmp_path, point) == -signal.SIGKILL
    finished = accepted(tmp_path) if "before tasks added" not in point else {}
    before = ran(tmp_path)
    assert batch(tmp_path, "before attempts lost") == -signal.SIGKILL, "killed while it resumes"
    assert batch(tmp_path, "") == 0
    assert accepted(tmp_path) == {f"t{number}": 1 for number in range(5)}
    lines = [json.loads(line) for line in (tmp_path / "run/results.jsonl").read_text().splitlines()]
    assert sorted((each["key"], each["result"]) for each in lines) == [
        (f"t{number}", number) for number in range(5)
    ]
    assert not set(ran(tmp_path)[len(before) :]) & finished.keys(), "a finished task ran again"
    run_id = json.loads((tmp_path / "run/run.json").read_text())["run_id"]
    assert not asyncio.run(_left(run_id))
    assert not [*tmp_path.glob("run/tasks/*/.attempt-*")]


async def _left(run_id: str) -> list[str]:
    return [info.id for info in await LocalBackend().list(labels={RUN_LABEL: run_id})]

"""A batch whose process is killed at a named transition of its ledger.

Usage: killed.py OUT RAN POINT KIND. KIND is what the process does: `run` begins or resumes a
batch, `outage` does that with an engine that is away at first, `again` runs again what failed,
and `changed` has other tasks.
"""

import asyncio
import os
import signal
import sys
from dataclasses import dataclass
from typing import Any

from paddock import Fleet, LocalBackend, Retries
from paddock.errors import SandboxError
from paddock.runtime.fleet.ledger import Ledger

TASKS = [{"id": f"t{number}", "n": number} for number in range(5)]
CHANGED = [{"id": "t0", "n": 100}, *TASKS[1:4], {"id": "t5", "n": 5}]

FAILS = 4
"""The number of a task that fails always; two others fail the first time only."""

_out, _ran, _point, _kind = sys.argv[1:]
_write = Ledger.write
_seen: list[str] = []

ONCE = ("added", "ordered", "lost", "uncounted", "reopened", "changed")
"""Parts of the names of transitions that a process does once."""


def write(self: Ledger, transition: str, work: Any, *, durable: bool = True) -> Any:
    """Kill this process before or after the transition that was asked for: the second time, if
    there are several."""
    _kill_at(f"before {transition}")
    result = _write(self, transition, work, durable=durable)
    _kill_at(f"after {transition}")
    return result


def _kill_at(point: str) -> None:
    _seen.append(point)
    times = 1 if any(each in point for each in ONCE) else 2
    if point == _point and _seen.count(point) == times:
        os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True, kw_only=True)
class Away(LocalBackend):
    """Makes no sandbox the first times that it is asked for one."""

    async def _make(self, on_progress: Any) -> Any:
        if _kind == "outage" and _seen.count("asked") < 4:
            _seen.append("asked")
            raise SandboxError("the engine is away")
        return await super()._make(on_progress)


async def solve(sandbox: Any, task: Any) -> int:
    """Fail the first time for two of the tasks, and always for one."""
    await sandbox.exec(["true"], check=True)
    is_first = _note(task["id"])
    if (task["n"] < 2 and is_first) or task["n"] == FAILS:
        raise ValueError("the first time")
    return int(task["n"])


def _note(key: str) -> bool:
    """Note that a task ran; return whether that was the first time."""
    with open(_ran, "a+") as file:
        file.seek(0)
        begun = file.read().split()
        print(key, file=file)
    return key not in begun


async def main(resume: bool) -> None:
    Ledger.write = write  # type: ignore[method-assign, assignment]
    tasks = CHANGED if _kind == "changed" else None if resume else TASKS
    fleet = Fleet(
        Away(),
        out=_out,
        limit=2,
        retries=Retries(own=1),
        resume=resume,
        rerun=["failed"] if _kind == "again" else [],
        rerun_changed=_kind == "changed",
    )
    async with fleet:
        async for _result in fleet.map(solve, tasks):
            pass


asyncio.run(main(os.path.exists(os.path.join(_out, "run.json"))))

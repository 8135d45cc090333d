"""A batch whose process is killed at a named transition of its ledger."""

import asyncio
import os
import signal
import sys
from typing import Any

from paddock import Fleet, LocalBackend, Retries
from paddock.runtime.fleet.ledger import Ledger

TASKS = [{"id": f"t{number}", "n": number} for number in range(5)]

_out, _ran, _point = sys.argv[1:]
_write = Ledger.write


def write(self: Ledger, transition: str, work: Any, *, durable: bool = True) -> Any:
    """Kill this process before or after the transition that was asked for, the second time."""
    if _reached(f"before {transition}"):
        os.kill(os.getpid(), signal.SIGKILL)
    result = _write(self, transition, work, durable=durable)
    if _reached(f"after {transition}"):
        os.kill(os.getpid(), signal.SIGKILL)
    return result


_seen: list[str] = []


def _reached(point: str) -> bool:
    _seen.append(point)
    once = "added" in point or "lost" in point
    return point == _point and _seen.count(point) == (1 if once else 2)


async def solve(sandbox: Any, task: Any) -> int:
    """Fail the first time for two of the tasks."""
    await sandbox.exec(["true"], check=True)
    is_first = _note(task["id"])
    if task["n"] < 2 and is_first:
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
    Ledger.write = write  # type: ignore[method-assign]
    fleet = Fleet(LocalBackend(), out=_out, limit=2, retries=Retries(own=9), resume=resume)
    async with fleet:
        async for _result in fleet.map(solve, None if resume else TASKS):
            pass


asyncio.run(main(os.path.exists(os.path.join(_out, "run.json"))))

"""A batch on the Ray cluster at an address: each task notes that it runs, and waits for a file."""

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

from paddock import Fleet, LocalBackend, RayPlacement, Sandbox

ADDRESS, FOLDER = sys.argv[1], Path(sys.argv[2])
TASKS = [{"id": f"t{number}", "n": number} for number in range(6)]


async def solve(sandbox: Sandbox, task: Any) -> int:
    """Note the process that drives this node; all but two tasks wait for ``go``."""
    from paddock.runtime.core.gate import MODEL_GATE

    models = MODEL_GATE.get()
    assert models is not None
    async with models.turn():  # the process that runs the batch decides when
        pass
    with (FOLDER / "ran").open("a") as file:
        print(task["id"], os.getpid(), file=file)
    while task["n"] > 1 and not (FOLDER / "go").exists():  # noqa: ASYNC110
        await asyncio.sleep(0.02)
    await sandbox.fs.write_bytes("answer", b"x" * (3 * 2**20 + task["n"]))
    return int(task["n"])


async def main() -> None:
    out = FOLDER / "run"
    is_new = not (out / "run.json").exists()
    placement = RayPlacement(address=ADDRESS)
    backend = LocalBackend(isolation="none")
    fleet = Fleet(
        backend, out=out, limit=4, placement=placement, artifacts=["answer"], resume=not is_new
    )
    async with fleet:
        async for result in fleet.map(solve, TASKS if is_new else None):
            line = f"{result.key} {result.fault} {result.result} {result.earlier}\n"
            with (FOLDER / "said").open("a") as file:  # Ray writes to stdout, too
                file.write(line)


asyncio.run(main())

"""Many sandboxes that use all the memory that they declare, on less than they need together.

Usage: python -m bench.memory [COUNT] [EACH_MIB] [TOTAL_MIB] [local|docker]

Each task fills nine tenths of what its sandbox declares, and holds it for a moment. Shows that
no more run than fit, and that nothing was killed for want of memory.
"""

import asyncio
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from paddock import Backend, DockerBackend, Fleet, LocalBackend, Resources

MIB = 2**20
PROGRAM = """\
import sys, time
kept = bytearray(int(sys.argv[1]))
kept[::4096] = b"x" * len(kept[::4096])
time.sleep(0.2)
"""


def killed() -> int:
    """How many processes of this machine the OOM killer has ended, in any control group."""
    text = Path("/proc/vmstat").read_text()
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("oom_kill "))


async def main(
    count: str = "500", each: str = "512", total: str = "4096", kind: str = "local"
) -> None:
    resources = Resources(memory=int(each) * MIB)
    backend: Backend = LocalBackend(resources=resources)
    if kind == "docker":
        backend = DockerBackend(image="paddock:base", network="none", resources=resources)
    size = str(int(each) * MIB * 9 // 10)
    faults: dict[Any, int] = {}
    throttled: set[str | None] = set()
    before, began, running, most = killed(), time.monotonic(), 0, 0

    async def fill(sandbox: Any, _task: Any) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        try:
            await sandbox.exec(["python3", "-c", PROGRAM, size], check=True)
        finally:
            running -= 1

    with tempfile.TemporaryDirectory() as folder:
        out = os.path.join(folder, "run")
        async with Fleet(backend, out=out, limit=64, memory=int(total) * MIB) as fleet:
            async for result in fleet.map(fill, range(int(count))):
                faults[result.fault] = faults.get(result.fault, 0) + 1
                throttled.add((await fleet.progress()).throttled)
    print(f"{count} sandboxes of {each} MiB in {total} MiB: {time.monotonic() - began:.0f} s")
    print(f"at most {most} at once; faults: {faults}; OOM kills: {killed() - before}")
    print("throttled:", *sorted(each for each in throttled if each), sep="\n  ")


asyncio.run(main(*sys.argv[1:]))

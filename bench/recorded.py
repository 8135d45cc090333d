"""What a call of a replayed sandbox costs, beside the same call of the local one it is from.

python bench/recorded.py [--calls 100] [--rounds 5]
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from paddock import LocalBackend
from paddock.testing import Recorded

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from paddock import Sandbox

CALLS: dict[str, Callable[[Sandbox], Awaitable[object]]] = {
    "exec": lambda sandbox: sandbox.exec("echo hello"),
    "read_bytes": lambda sandbox: sandbox.fs.read_bytes("file"),
}


async def _timed(sandbox: Sandbox, name: str, calls: int) -> float:
    """Return microseconds for one call."""
    call = CALLS[name]
    began = time.perf_counter()
    for _ in range(calls):
        await call(sandbox)
    return (time.perf_counter() - began) / calls * 1e6


async def _measure(tape: Path, name: str, calls: int, rounds: int) -> None:
    async with Recorded(LocalBackend(), tape).sandbox() as sandbox:
        await sandbox.fs.write_bytes("file", bytes(1000))
        live = await _timed(sandbox, name, calls)
    figures = [f"{name:12} {live:7.0f} us recorded"]
    for strict in (True, False):
        replayed = []
        for _ in range(rounds):
            async with Recorded(LocalBackend(), tape, strict=strict).sandbox() as sandbox:
                await sandbox.fs.write_bytes("file", bytes(1000))
                replayed.append(await _timed(sandbox, name, calls))
        how = "strictly" if strict else "loosely"
        figures.append(f"{statistics.median(replayed):6.1f} us replayed {how}")
    print(", ".join(figures))


async def _main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--calls", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for name in CALLS:
            tape = Path(folder) / f"{name}.jsonl"
            await _measure(tape, name, options.calls, options.rounds)


asyncio.run(_main())

"""What a command costs in a warm local sandbox, beside the floors of this machine.

- ``asyncio``: `asyncio.create_subprocess_exec` in this process.
- ``bare guest``: the least that a resident process can do: read a line, spawn, read
  the two pipes, wait, write a line. It kills no tree, bounds no output and knows no
  second command.

Rounds of all of them alternate, so that a change of the machine's pace hits all alike.

    python bench/exec.py [--rounds 20] [--calls 50] [--at-once 8]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import statistics
import sys
import time
from typing import TYPE_CHECKING

from paddock import LocalBackend
from paddock.backends.local import probe

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

BARE_GUEST = """
import json, os, sys
while line := sys.stdin.readline():
    argv = json.loads(line)
    out_r, out_w = os.pipe()
    err_r, err_w = os.pipe()
    actions = [(os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
               (os.POSIX_SPAWN_DUP2, out_w, 1), (os.POSIX_SPAWN_DUP2, err_w, 2)]
    pid = os.posix_spawnp(argv[0], argv, os.environ, file_actions=actions, setsid=True)
    os.close(out_w)
    os.close(err_w)
    streams = []
    for fd in (out_r, err_r):
        with open(fd, "rb") as file:
            streams.append(file.read().decode())
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    print(json.dumps([status, *streams]), flush=True)
"""


async def _plain() -> None:
    process = await asyncio.create_subprocess_exec(
        "true",
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    await process.communicate()


async def _bare(guest: asyncio.subprocess.Process) -> None:
    assert guest.stdin is not None
    assert guest.stdout is not None
    guest.stdin.write(b'["true"]\n')
    assert json.loads(await guest.stdout.readline())[0] == 0


async def _timed(call: Callable[[], Awaitable[object]], calls: int) -> list[float]:
    taken = []
    for _ in range(calls):
        begun = time.perf_counter()
        await call()
        taken.append((time.perf_counter() - begun) * 1000)
    return taken


async def _rate(call: Callable[[], Awaitable[object]], calls: int, at_once: int) -> float:
    begun = time.perf_counter()
    await asyncio.gather(*(_timed(call, calls) for _ in range(at_once)))
    return calls * at_once / (time.perf_counter() - begun)


async def main(rounds: int, calls: int, at_once: int) -> None:
    async with contextlib.AsyncExitStack() as opened:
        guest = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-I", "-S", "-c", BARE_GUEST),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        contenders: dict[str, Callable[[], Awaitable[object]]] = {
            "asyncio": _plain,
            "bare guest": lambda: _bare(guest),
        }
        none = await opened.enter_async_context(LocalBackend(isolation="none").sandbox())
        contenders["local, no isolation"] = lambda: none.exec(["true"])
        found = await probe()
        if found.level == "bubblewrap":
            fenced = await opened.enter_async_context(LocalBackend().sandbox())
            contenders["local, bubblewrap"] = lambda: fenced.exec(["true"])
        else:
            print(f"bubblewrap is left out: {found.reason}")

        taken: dict[str, list[float]] = {name: [] for name in contenders}
        for call in contenders.values():
            await _timed(call, calls)
        for _ in range(rounds):
            for name, call in contenders.items():
                taken[name] += await _timed(call, calls)

        floor = statistics.median(taken["bare guest"])
        print(f"{'':22}{'p50 ms':>9}{'p95 ms':>9}{'x bare guest':>14}{at_once:>8} at once, /s")
        for name, times in taken.items():
            p50, p95 = statistics.median(times), statistics.quantiles(times, n=20)[-1]
            # The bare guest takes one command at a time.
            rate = "one by one"
            if name != "bare guest":
                rate = f"{await _rate(contenders[name], calls, at_once):.0f}"
            print(f"{name:22}{p50:9.2f}{p95:9.2f}{p50 / floor:14.2f}{rate:>12}")
        assert guest.stdin is not None
        guest.stdin.close()
        await guest.wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--calls", type=int, default=50, help="calls in a round")
    parser.add_argument("--at-once", type=int, default=8)
    options = parser.parse_args()
    asyncio.run(main(options.rounds, options.calls, options.at_once))

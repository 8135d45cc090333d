"""What a command and a sandbox cost on this machine, beside the floors of it.

First a command in a warm local sandbox:

- ``asyncio``: `asyncio.create_subprocess_exec` in this process.
- ``bare guest``: the least that a resident process can do: read a line, spawn, read
  the two pipes, wait, write a line. It kills no tree, bounds no output and knows no
  second command.

Then a cold start: from nothing to the result of the first command, beside ``bare bubblewrap``,
which is a fence as the shortest examples have it with ``python3 -I -S -c pass`` in it, and beside
one whose Python runs the command. And last, many isolated sandboxes at once: made, used and gone.

Rounds of all of them alternate, so that a change of the machine's pace hits all alike.

    python bench/exec.py [--rounds 20] [--calls 50] [--at-once 8] [--starts 40] [--sandboxes 50]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools
import json
import os
import random
import statistics
import sys
import time
from typing import TYPE_CHECKING

from paddock import IsolationUnavailable, LocalBackend
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


async def _warm(rounds: int, calls: int, at_once: int) -> None:
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


RUN_ONE = """
import os
pid = os.posix_spawn("/bin/true", ["true"], {})
os._exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


def _bare_bubblewrap(program: str) -> list[str]:
    """A fence that shows the system's directories and the interpreter, and nothing else."""
    system = [word for path in ("/usr", sys.base_prefix) for word in ("--ro-bind", path, path)]
    links = [
        word
        for path in ("/bin", "/lib", "/lib64")
        if os.path.islink(path)
        for word in ("--symlink", os.readlink(path), path)
    ]
    places = ["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]
    python = os.path.realpath(sys.executable)
    fence = ["bwrap", "--unshare-all", "--die-with-parent", *system, *links, *places]
    return [*fence, python, "-I", "-S", "-c", program]


async def _cold(starts: int) -> None:
    async def floor(program: str) -> None:
        bare = _bare_bubblewrap(program)
        process = await asyncio.create_subprocess_exec(*bare, stdin=asyncio.subprocess.DEVNULL)
        assert await process.wait() == 0

    def sandbox(backend: LocalBackend) -> Callable[[contextlib.AsyncExitStack], Awaitable[object]]:
        async def start(opened: contextlib.AsyncExitStack) -> None:
            made = await opened.enter_async_context(backend.sandbox())
            await made.exec(["true"])

        return start

    contenders: dict[str, Callable[[contextlib.AsyncExitStack], Awaitable[object]]] = {
        "bare bubblewrap": lambda opened: floor("pass"),
        "  and a command": lambda opened: floor(RUN_ONE),
    }
    for level in ("bubblewrap", "landlock", "none"):
        with contextlib.suppress(IsolationUnavailable):
            contenders[f"local, {level}"] = start = sandbox(LocalBackend(isolation=level))
            async with contextlib.AsyncExitStack() as opened:
                await start(opened)
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(starts):
        # The kernel is still busy with what ended last, so none of them always follows another.
        for name, start in random.sample([*contenders.items()], len(contenders)):
            async with contextlib.AsyncExitStack() as opened:  # its end is not in the time
                taken[name] += await _timed(functools.partial(start, opened), 1)
    floor_p50 = statistics.median(taken["bare bubblewrap"])
    print(f"\n{'cold start':22}{'p50 ms':>9}{'least':>9}{'x bare bubblewrap':>20}")
    for name, times in taken.items():
        p50 = statistics.median(times)
        print(f"{name:22}{p50:9.1f}{min(times):9.1f}{p50 / floor_p50:20.2f}")


async def _many(sandboxes: int) -> None:
    async def one() -> None:
        async with LocalBackend().sandbox() as made:
            await made.exec(["true"])

    times = []
    for _ in range(3):
        begun = time.perf_counter()
        await asyncio.gather(*(one() for _ in range(sandboxes)))
        times.append(time.perf_counter() - begun)
    shown = ", ".join(f"{seconds:.2f}" for seconds in sorted(times))
    print(f"\n{sandboxes} isolated sandboxes at once, made, used and gone: {shown} s")


async def main(rounds: int, calls: int, at_once: int, starts: int, sandboxes: int) -> None:
    await _warm(rounds, calls, at_once)
    await _cold(starts)
    await _many(sandboxes)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--calls", type=int, default=50, help="calls in a round")
    parser.add_argument("--at-once", type=int, default=8)
    parser.add_argument("--starts", type=int, default=40, help="cold starts of each kind")
    parser.add_argument("--sandboxes", type=int, default=50, help="sandboxes at once")
    options = parser.parse_args()
    asyncio.run(main(**vars(options)))

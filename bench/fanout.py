"""How long many sandboxes take in a fleet, beside a bare loop that keeps no ledger.

Usage: python -m bench.fanout [local|docker|start] [COUNT] [LIMIT]

Each sandbox runs `true`. Local: beside bubblewrap with bare Python, as the guest is. Docker:
beside create, start, wait and remove by the Engine API, with the same network. Both sides run
LIMIT at once.

`start` has sandboxes in memory, and shows how soon the first of COUNT tasks begins, and how much
memory this process uses then and later.

The network matters: the engine runs its own program twice to set up each network namespace, the
empty one of `none` too, which takes half of the CPU time of a container that does nothing.
"""

import asyncio
import resource
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from paddock import DockerBackend, Fleet, LocalBackend
from paddock.testing import FakeBackend

BWRAP = (
    *("bwrap", "--unshare-all", "--die-with-parent", "--ro-bind", "/usr", "/usr"),
    *("--symlink", "usr/lib", "/lib", "--symlink", "usr/lib64", "/lib64"),
    *("--symlink", "usr/bin", "/bin", "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"),
)
PYTHON = ("/usr/bin/python3", "-Sc", "import subprocess; subprocess.run(['true'], check=True)")
IMAGE = "paddock:base"


async def bare_local(_number: int) -> None:
    process = await asyncio.create_subprocess_exec(*BWRAP, *PYTHON)
    if await process.wait():
        raise SystemExit("bubblewrap failed")


def bare_docker() -> Callable[[int], Awaitable[None]]:
    import docker

    client = docker.from_env(max_pool_size=64).api

    def one() -> None:
        alone = client.create_host_config(network_mode="none")
        made = client.create_container(IMAGE, ["true"], host_config=alone)
        client.start(made)
        client.wait(made)
        client.remove_container(made)

    async def run(_number: int) -> None:
        await asyncio.to_thread(one)

    return run


async def bare(work: Callable[[int], Awaitable[None]], count: int, limit: int) -> float:
    began, numbers = time.monotonic(), iter(range(count))

    async def worker() -> None:
        for number in numbers:
            await work(number)

    await asyncio.gather(*(worker() for _ in range(limit)))
    return time.monotonic() - began


async def fleet(backend: Any, count: int, limit: int) -> float:
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        async with Fleet(backend, out=f"{folder}/run", limit=limit) as ours:
            async for result in ours.map(["true"], range(count)):
                if result.error is not None:
                    raise result.error
    return time.monotonic() - began


async def start(count: int, limit: int) -> None:
    began, results = time.monotonic(), 0
    tasks = ({"id": f"task-{number}", "input": "x" * 100} for number in range(count))
    with tempfile.TemporaryDirectory() as folder:
        async with Fleet(FakeBackend(), out=f"{folder}/run", limit=limit) as ours:
            async for _ in ours.map(_no_work, tasks):
                results += 1
                if results == 1:
                    print(f"first of {count:,} tasks after {time.monotonic() - began:.2f} s")
                if results % 1000 == 1:
                    print(f"{results:6,} results, {_resident():.0f} MiB")
                if results > 5000:
                    break


async def _no_work(_sandbox: Any, _task: Any) -> None:
    return


def _resident() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


async def main(kind: str = "local", count: str = "100", limit: str = "8") -> None:
    if kind == "start":
        await start(int(count), int(limit))
        return
    backend = LocalBackend() if kind == "local" else DockerBackend(image=IMAGE, network="none")
    work = bare_local if kind == "local" else bare_docker()
    theirs = await bare(work, int(count), int(limit))
    ours = await fleet(backend, int(count), int(limit))
    print(f"{kind}, {count} sandboxes, {limit} at once: bare {theirs:.2f} s, fleet {ours:.2f} s")
    print(f"{ours / theirs:.2f} times the bare loop")


asyncio.run(main(*sys.argv[1:]))

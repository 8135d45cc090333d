"""How long many sandboxes take in a fleet, beside a bare loop that keeps no ledger.

Usage: python -m bench.fanout [local|docker|start] [COUNT] [LIMIT,LIMIT,...] [ROUNDS]

Each sandbox runs `true`. Local: beside bubblewrap with bare Python, as the guest is. Docker:
beside create, start, wait and remove by the Engine API. The sides take turns, ROUNDS times with
each LIMIT of how many run at once; each side counts by the best of its medians.

`start` has sandboxes in memory, and shows how soon the first of COUNT tasks begins, and how much
memory this process uses then and later.

The network matters: to set up a network namespace, the engine runs its own program twice, which
takes half of the CPU time of a container that does nothing. It does so for the network `none`,
which is what a loop would use. Sandboxes spare it that, so there is a loop that does, too.
"""

import asyncio
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from functools import partial
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


def bare_docker(*, set_up: bool) -> Callable[[int], Awaitable[None]]:
    """A container without a network, for which the engine sets up the namespace or does not."""
    import docker

    client: Any = docker.from_env(max_pool_size=64).api

    def one() -> None:
        alone = client.create_host_config(network_mode="none")
        config = client.create_container_config(IMAGE, ["true"], host_config=alone)
        made = client.create_container_from_config({**config, "NetworkDisabled": not set_up})
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


Side = Callable[[int, int], Awaitable[float]]


def sides(kind: str) -> dict[str, Side]:
    """What is compared; the fleet is last."""
    bares: dict[str, Callable[[int], Awaitable[None]]] = {"bare": bare_local}
    if kind == "local":
        backend: Any = LocalBackend()
    else:
        bares = {
            "bare, network none": bare_docker(set_up=True),
            "bare, no network set up": bare_docker(set_up=False),
        }
        backend = DockerBackend(image=IMAGE, network="none")
    return {
        **{name: partial(bare, work) for name, work in bares.items()},
        "fleet": partial(fleet, backend),
    }


async def compare(kind: str, count: int, limits: list[int], rounds: int) -> None:
    compared = sides(kind)
    taken: dict[str, dict[int, list[float]]] = {
        name: {limit: [] for limit in limits} for name in compared
    }
    for number in range(rounds):
        for limit in limits:
            for name in list(compared)[:: 1 if number % 2 == 0 else -1]:
                taken[name][limit].append(await compared[name](count, limit))
        print(f"round {number + 1}: load {os.getloadavg()[0]:.1f}", file=sys.stderr)
    best = {}
    for name, times in taken.items():
        medians = {limit: statistics.median(each) for limit, each in times.items()}
        limit = min(medians, key=lambda limit: medians[limit])
        best[name] = medians[limit]
        print(f"{kind}, {count} sandboxes, {name}: {best[name]:.2f} s, best with {limit} at once")
    for name in list(best)[:-1]:
        print(f"{best['fleet'] / best[name]:.2f} times {name}")


async def main(
    kind: str = "local", count: str = "100", limits: str = "8", rounds: str = "1"
) -> None:
    at_once = [int(limit) for limit in limits.split(",")]
    if kind == "start":
        await start(int(count), at_once[0])
    else:
        await compare(kind, int(count), at_once, int(rounds))


asyncio.run(main(*sys.argv[1:]))
